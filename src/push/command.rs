//! Runs the command of `push -- command`: as it would run without us, with its output passed on.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::family::signal_family;
use super::notes::Notes;
use super::pipes::Pipes;
use super::shared::SharedSpool;
use super::signals::Signals;
use super::spool::Stream;

/// What a shell answers when there is no such command,
const NOT_FOUND: u8 = 127;
/// or when it cannot be run.
const NOT_RUN: u8 = 126;

/// How the command ended, as a shell tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The exit code; 128 + n after signal n.
    pub(crate) code: u8,
    /// Why it is not 0, for people.
    pub(crate) why: String,
}

/// Runs the command to its end, passing its output and our signals on.
pub(crate) async fn run(command: &[OsString], spool: &SharedSpool, signals: &mut Signals, notes: &Notes) -> Ended {
    let Some((program, arguments)) = command.split_first() else {
        return Ended { code: NOT_FOUND, why: "no command".into() };
    };
    let mut prepared = Command::new(program);
    prepared.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that a signal reaches all that the command has started. Not if it reads from a terminal: only the
    // terminal's own group may, and there the keys' signals reach it anyway.
    let own_group = !io::stdin().is_terminal();
    if own_group {
        prepared.process_group(0);
    }
    let started = Pipes::new(spool.clone(), notes.clone()).and_then(|pipes| Ok((pipes, prepared.spawn()?)));
    let (mut pipes, mut child) = match started {
        Ok(started) => started,
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
            let why = format!("cannot run {}: {error}", program.display());
            notes.conclude(&why);
            return Ended { code, why };
        }
    };
    let pid = Pid::from_child(&child);
    let stdout = child.stdout.take().map_or(Ok(()), |pipe| pipes.pass_on(pipe, io::stdout(), Stream::Stdout));
    let stderr = child.stderr.take().map_or(Ok(()), |pipe| pipes.pass_on(pipe, io::stderr(), Stream::Stderr));
    if let Err(error) = stdout.and(stderr) {
        notes.conclude(&format!("cannot pass all of the command's output on: {error}"));
    }

    let mut end = tokio::task::spawn_blocking(move || child.wait());
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            signal = signals.next() => pass_on(pid, own_group, signal),
        }
    };
    tokio::select! {
        () = pipes.finish() => {}
        _ = signals.end() => {}
    }
    match ended {
        Ok(Ok(status)) => ended_with(status),
        Ok(Err(error)) => Ended { code: 1, why: format!("cannot learn how it ended: {error}") },
        Err(error) => Ended { code: 1, why: format!("cannot learn how it ended: {error}") },
    }
}

/// Passes a signal on to all that the command has started.
fn pass_on(pid: Pid, own_group: bool, signal: Signal) {
    if own_group {
        // If it fails the command has just ended, which is seen next.
        let _ = kill_process_group(pid, signal);
    } else if ![Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal) {
        signal_family(pid, signal);
    }
    // Else the terminal has sent it to the whole group already.
}

fn ended_with(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended { code: 0, why: String::new() },
        (Some(code), _) => Ended { code: u8::try_from(code).unwrap_or(1), why: format!("exit code {code}") },
        (None, Some(signal)) => {
            Ended { code: 128u8.saturating_add(u8::try_from(signal).unwrap_or(0)), why: format!("signal {signal}") }
        }
        (None, None) => Ended { code: 1, why: status.to_string() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::time::Millis;

    fn run_here(command: &[&str]) -> (Ended, Vec<(Stream, String)>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let spool = SharedSpool::new(1 << 20);
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let ended = runtime.block_on(async { run(&command, &spool, &mut Signals::ending().unwrap(), &Notes::default()).await });
        spool.end();
        let chunks = std::iter::from_fn(|| spool.with(|spool| spool.take(Millis::MAX)));
        (ended, chunks.map(|chunk| (chunk.stream, String::from_utf8_lossy(&chunk.bytes).into_owned())).collect())
    }

    #[test]
    fn the_code_is_the_commands_and_its_lines_are_spooled() {
        let (ended, chunks) = run_here(&["sh", "-c", "echo one; echo two >&2; printf three; exit 7"]);
        assert_eq!(ended, Ended { code: 7, why: "exit code 7".into() });
        let of = |stream| chunks.iter().filter(|chunk| chunk.0 == stream).map(|chunk| chunk.1.as_str()).collect::<String>();
        assert_eq!((of(Stream::Stdout).as_str(), of(Stream::Stderr).as_str()), ("one\nthree\n", "two\n"));
        assert_eq!(run_here(&["true"]).0.code, 0);
    }

    #[test]
    fn signals_and_missing_commands_are_told_as_a_shell_does() {
        assert_eq!(run_here(&["sh", "-c", "kill -9 $$"]).0.code, 137);
        assert_eq!(run_here(&["/nowhere/at/all"]).0.code, NOT_FOUND);
        assert_eq!(run_here(&["/dev/null"]).0.code, NOT_RUN);
    }

    #[test]
    fn what_a_command_leaves_running_does_not_hold_it_up() {
        let start = std::time::Instant::now();
        let (ended, chunks) = run_here(&["sh", "-c", "printf part; sleep 30 & exit 3"]);
        assert_eq!((ended.code, chunks), (3, vec![(Stream::Stdout, "part\n".to_owned())]));
        // One that writes on and on neither.
        let (ended, chunks) = run_here(&["sh", "-c", "echo first; (while sleep 0.1; do echo on; echo on >&2; done) & exit 3"]);
        assert_eq!((ended.code, chunks[0].1.lines().next().unwrap_or_default()), (3, "first"));
        assert!(start.elapsed().as_secs() < 10);
    }

    #[test]
    fn all_that_a_command_wrote_is_passed_on_however_it_ends() {
        // More than a pipe holds, with the end right behind it, and something left running.
        let (ended, chunks) = run_here(&["sh", "-c", "sleep 30 & seq 30000; seq 30000 >&2; exit 4"]);
        let lines: usize = chunks.iter().map(|chunk| chunk.1.lines().count()).sum();
        assert_eq!((ended.code, lines), (4, 60_000));
    }
}
