//! Runs a program for a step: in a process group of its own, which ends as a whole.
//!
//! - **Nothing outlives the step.** When the program has ended, what it left in its group is killed. As long as the program's own end is
//!   not collected, its number and its group's can be nobody else's, so that never a stranger is hit.
//! - **When it must end**, the group is sent TERM, and KILL if it has not let go of its output [`GRACE`] later.
//! - **Nothing outlives the agent**, not even one that was killed: a guard in the group holds a pipe of which the agent has the other end,
//!   and kills the group when that closes. (The kernel's own means, PR_SET_PDEATHSIG, needs `unsafe` code between fork and exec, and
//!   reaches only one process.) What leaves the group by `setsid` is out of reach for both.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::time::timeout;

use super::output::Output;
use super::{Ending, StepLog};
use crate::agent::stop::Stop;
use crate::push::spool::Stream;

/// How long a step that must end may take.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// Starts the guard, which belongs to nobody so that no program has a child that it does not know, and becomes the program.
/// `$1` is the program's input, the rest its words.
const GUARDED: &str = r#"exec 3<&0
((trap '' HUP INT QUIT TERM; read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &)
in=$1; shift
exec "$@" <"$in" 3<&-"#;
/// An input without anything.
const NOTHING: &str = "/dev/null";

/// What is run.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Program {
    /// The program and its arguments.
    pub(in crate::agent) words: Vec<OsString>,
    /// The file that it reads as stdin; nothing if absent.
    pub(in crate::agent) input: Option<PathBuf>,
    /// All of its environment.
    pub(in crate::agent) env: Vec<(String, String)>,
    /// Where it runs.
    pub(in crate::agent) folder: PathBuf,
}

/// Runs it to its end, its output going into the log.
pub(in crate::agent) async fn run(program: &Program, log: &StepLog, stop: &mut Stop) -> Ending {
    let name = program.words.first().map(|name| name.display().to_string()).unwrap_or_default();
    let started = Output::new(log.parts()).and_then(|output| Ok((output, start(program)?)));
    let (mut output, mut child) = match started {
        Ok(started) => started,
        Err(error) => return Ending::failed(format!("cannot run {name}: {error}")),
    };
    let group = Pid::from_child(&child);
    let stdout = child.stdout.take().map_or(Ok(()), |pipe| output.take(pipe, Stream::Stdout));
    let stderr = child.stderr.take().map_or(Ok(()), |pipe| output.take(pipe, Stream::Stderr));
    if let Err(error) = stdout.and(stderr) {
        log.say(&format!("not all of the output of {name} can be read: {error}"));
    }
    let mut over = tokio::task::spawn_blocking(move || has_ended(group));
    let stopped = tokio::select! {
        _ = &mut over => None,
        why = stop.told() => {
            send(group, Signal::TERM);
            // The program may end before what it started does: its output tells.
            let all = async {
                output.ended().await;
                let _ = (&mut over).await;
            };
            let _ = timeout(GRACE, all).await;
            Some(why)
        }
    };
    send(group, Signal::KILL);
    let status = collect(child).await;
    output.finish().await;
    match (stopped, status) {
        (Some(why), _) => Ending::Stopped(why),
        (None, Ok(status)) => ended_with(status),
        (None, Err(error)) => Ending::failed(format!("cannot learn how {name} ended: {error}")),
    }
}

fn start(program: &Program) -> io::Result<Child> {
    let input = program.input.clone().unwrap_or_else(|| NOTHING.into());
    Command::new("/bin/sh")
        .args(["-c", GUARDED, "arcgate"])
        .arg(input)
        .args(&program.words)
        .env_clear()
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Waits for a child's end, and leaves it to be collected.
fn has_ended(child: Pid) {
    while matches!(waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR)) {}
}

/// If it fails, they have just ended.
fn send(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

/// Collects an end that has come or is about to. Until here the guard's pipe is open.
async fn collect(mut child: Child) -> io::Result<ExitStatus> {
    let lifeline = child.stdin.take();
    let status = tokio::task::spawn_blocking(move || child.wait()).await.map_err(io::Error::other)?;
    drop(lifeline);
    status
}

fn ended_with(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ending::Succeeded,
        (Some(code), _) => Ending::Failed { exit_code: code, message: format!("exit code {code}") },
        (None, Some(signal)) => Ending::Failed { exit_code: 128 + signal, message: format!("it was ended by signal {signal}") },
        (None, None) => Ending::failed(status.to_string()),
    }
}
