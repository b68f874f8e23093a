//! The command line: `push` that never harms a build, `tail` that misses nothing, and what the others print.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::LogBatch;

use crate::harness::{Outcome, Rig, binary, folder, logs, output, run, seconds, text};

/// `arcgate push` for that gateway, or for none, with a state folder of its own.
pub(crate) fn push(server: &str, state: &tempfile::TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.env("ARCGATE_SPOOL", state.path()).args(["push", "--server", server]).args(words).stdin(Stdio::null());
    command
}

/// `arcgate tail` for that gateway.
pub(crate) fn tail(rig: &Rig, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    // As a variable, so that a flag can name another.
    command.env("ARCGATE_HTTP_SERVER", format!("http://{}", rig.http())).arg("tail").args(words).stdin(Stdio::null());
    command
}

pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// Nothing listens there: port 1 needs privileges, and nobody has used it for decades.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_pushed_command_keeps_its_output_and_exit_code_and_its_lines_arrive() -> Outcome<()> {
    run(120, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let script = "for i in $(seq 1 300); do echo line $i; done; echo oops >&2; exit 7";
        let pushed = output(push(&grpc, &state, &["--step-run", "built", "--", "sh", "-c", script]), LIMIT).await?;
        assert!(text(&pushed, 7)?.starts_with("line 1\nline 2\n"), "the output does not appear locally");
        assert!(String::from_utf8_lossy(&pushed.stderr).contains("oops"));

        let tailed = output(tail(&rig, &["built", "--no-follow", "--json"]), LIMIT).await?;
        let entries: Vec<serde_json::Value> = text(&tailed, 0)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(entries.len(), 301);
        let of = |stream: &str| {
            entries.iter().filter(|entry| entry["stream"] == stream).map(|entry| entry["content"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("stderr"), ["oops"]);
        assert_eq!(of("stdout"), (1..=300).map(|line| format!("line {line}")).collect::<Vec<_>>());
        // The whole, a part, the end; and it ends by itself, since the push said that the log has ended.
        assert_eq!(text(&output(tail(&rig, &["built"]), LIMIT).await?, 0)?.lines().count(), 301);
        assert_eq!(text(&output(tail(&rig, &["built", "--from-line", "292"]), LIMIT).await?, 0)?.lines().count(), 10);
        assert_eq!(text(&output(tail(&rig, &["built", "--tail", "3", "--no-follow"]), LIMIT).await?, 0)?.lines().count(), 3);
        // Started and failed events came with it.
        assert!(rig.gateway.metrics().await?.with("arcgate_events_total", "taken") >= 2.0);
        Ok(())
    })
}

#[test]
fn push_takes_stdin_and_files() -> Outcome<()> {
    run(120, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let file = state.path().join("build.log");
        let lines: String = (1..=5_000).map(|line| format!("from the file, line {line}\n")).collect();
        fs::write(&file, &lines)?;
        text(&output(push(&grpc, &state, &["--step-run", "file", &file.display().to_string()]), LIMIT).await?, 0)?;
        let mut command = push(&grpc, &state, &["--step-run", "stdin"]);
        command.stdin(fs::File::open(&file)?);
        text(&output(command, LIMIT).await?, 0)?;
        for step_run in ["file", "stdin"] {
            assert_eq!(text(&output(tail(&rig, &[step_run, "--no-follow"]), LIMIT).await?, 0)?, lines, "{step_run}");
        }
        // Without a gateway, and without a command to protect, it fails and says so.
        let failed = output(push(NOBODY, &state, &["--drain", "1s", &file.display().to_string()]), LIMIT).await?;
        text(&failed, 1)?;
        assert!(String::from_utf8_lossy(&failed.stderr).contains("not delivered"));
        Ok(())
    })
}

#[test]
fn a_gateway_that_is_away_never_harms_a_build() -> Outcome<()> {
    run(120, async {
        let state = folder()?;
        for (script, code) in [("echo local; exit 0", 0), ("echo local; exit 3", 3)] {
            let begin = Instant::now();
            let pushed = output(push(NOBODY, &state, &["--drain", "1s", "--", "sh", "-c", script]), LIMIT).await?;
            assert_eq!(text(&pushed, code)?, "local\n");
            assert!(String::from_utf8_lossy(&pushed.stderr).contains("not delivered"));
            assert!(seconds(begin) < 8.0, "{} s", seconds(begin));
        }
        // A command that does not exist, and one that is killed.
        text(&output(push(NOBODY, &state, &["--drain", "0s", "--", "no-such-command-at-all"]), LIMIT).await?, 127)?;
        text(&output(push(NOBODY, &state, &["--drain", "0s", "--", "sh", "-c", "kill -9 $$"]), LIMIT).await?, 137)?;
        Ok(())
    })
}

#[test]
fn a_gateway_that_comes_back_gets_the_lines_that_waited() -> Outcome<()> {
    run(120, async {
        let (mut rig, state) = (Rig::start().await?, folder()?);
        // The same port again after the crash: push knows one address.
        let grpc = rig.gateway.addresses.grpc.clone();
        let launch = rig.gateway.launch().clone().with("ARCGATE_GRPC__LISTEN", &grpc);
        let script = "for i in $(seq 1 60); do echo line $i; sleep 0.05; done";
        let pushing =
            push(&format!("http://{grpc}"), &state, &["--step-run", "waited", "--drain", "20s", "--", "sh", "-c", script]);
        let pushing = tokio::spawn(output(pushing, LIMIT));
        tokio::time::sleep(Duration::from_millis(800)).await;
        rig.gateway.kill9()?;
        tokio::time::sleep(Duration::from_millis(800)).await;
        rig.gateway = launch.start().await?;
        text(&pushing.await??, 0)?;
        let seen = rig.history("waited", 60).await?;
        assert_eq!(seen.contents(), (1..=60).map(|line| format!("line {line}")).collect::<Vec<_>>());
        Ok(())
    })
}

#[test]
fn tail_reconnects_and_misses_nothing() -> Outcome<()> {
    run(120, async {
        let mut rig = Rig::start().await?;
        let http = rig.http().to_owned();
        let launch = rig.gateway.launch().clone().with("ARCGATE_HTTP__LISTEN", &http);
        let tailing = tokio::spawn(output(tail(&rig, &["resumed"]), Duration::from_secs(60)));
        let send = async |rig: &Rig, first: u64, end: bool| {
            let text: String = (first..first + 100).map(|line| format!("line {line}\n")).collect();
            let mut batch = logs::batch("a", "resumed", first, text);
            (batch.first_line, batch.end_of_log) = (first, end);
            logs::LogSession::open(rig.gateway.channel()?, "a").await?.ask(batch).await
        };
        for first in [1, 101] {
            send(&rig, first, false).await?;
            // So that they are there after the crash even if nobody has seen them.
            tokio::time::sleep(Duration::from_millis(500)).await;
            rig.gateway.kill9()?;
            rig.gateway = launch.start().await?;
        }
        send(&rig, 201, true).await?;
        let expected: String = (1..=300).map(|line| format!("line {line}\n")).collect();
        assert_eq!(text(&tailing.await??, 0)?, expected);
        Ok(())
    })
}

#[test]
fn the_store_is_listed_verified_and_reindexed() -> Outcome<()> {
    run(120, async {
        let mut rig = Rig::start().await?;
        let lines: String = (1..=2_000).map(|line| format!("line {line}\n")).collect();
        logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "kept", 1, lines)]).await?;
        let end = LogBatch { end_of_log: true, ..logs::question("a", "empty", 2) };
        logs::push(rig.gateway.channel()?, "a", [end]).await?;
        rig.gateway.stop().await?;
        text(&rig.arcgate(&["store", "verify"]).await?, 0)?;
        assert!(text(&rig.arcgate(&["store", "ls"]).await?, 0)?.contains("kept"));
        // A log that has ended without a line has no last one.
        let listed = text(&rig.arcgate(&["store", "ls"]).await?, 0)?;
        let empty = listed.lines().find(|row| row.starts_with("empty")).ok_or("the empty log is not listed")?;
        assert!(empty.ends_with(" -"), "{empty}");
        // A reader who has gone is no failure.
        for words in [&["store", "ls"][..], &["store", "ls", "--events"], &["store", "verify"], &["config"]] {
            let mut command = rig.gateway.launch().command();
            let (reader, writer) = std::io::pipe()?;
            drop(reader);
            let child = command.args(words).stdout(writer).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
            assert_eq!((child.status.code(), child.stderr), (Some(0), Vec::new()), "{words:?}");
        }
        // The index is a cache: without it, the same is read.
        text(&rig.arcgate(&["store", "reindex"]).await?, 0)?;
        rig.gateway.restart().await?;
        assert_eq!(rig.history("kept", 2_000).await?.lines, 2_000);
        // A gateway runs on it: who would change it is refused.
        assert!(!rig.arcgate(&["store", "reindex"]).await?.status.success());
        Ok(())
    })
}

#[test]
fn settings_are_shown_checked_and_explained() -> Outcome<()> {
    run(60, async {
        let folder = folder()?;
        let arcgate = async |words: &[&str], file: &str| {
            fs::write(folder.path().join("arcgate.toml"), file)?;
            let mut command = Command::new(binary());
            command.current_dir(folder.path()).args(words).stdin(Stdio::null());
            output(command, LIMIT).await
        };
        let shown = text(&arcgate(&["config"], "[store]\npath = \"elsewhere\"\n").await?, 0)?;
        assert!(shown.contains("elsewhere") && shown.contains("arcgate.toml"), "{shown}");
        text(&arcgate(&["validate"], "[store]\npath = \"here\"\n").await?, 0)?;
        // Unknown keys are errors that name the nearest known one.
        let wrong = arcgate(&["validate"], "[grpc]\nlisten_on = \"127.0.0.1:1\"\n").await?;
        text(&wrong, 2)?;
        let words = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(words.contains("grpc.listen_on") && words.contains("grpc.listen\""), "{words}");
        for shell in ["bash", "zsh", "fish"] {
            assert!(text(&arcgate(&["completions", shell], "").await?, 0)?.contains("arcgate"));
        }
        Ok(())
    })
}
