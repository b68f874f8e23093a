//! `push` beside others: a second push, another gateway, a terminal, a full disk, something that is left running.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::command_line::{LIMIT, NOBODY, push, tail};
use crate::harness::{Outcome, Rig, SOON, binary, eventually, folder, output, run, seconds, text};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A push whose command writes a line, waits for the file `go` in `state`, and writes two more.
async fn waiting_push(
    rig: &Rig,
    state: &tempfile::TempDir,
    words: &[&str],
) -> Outcome<tokio::task::JoinHandle<Outcome<std::process::Output>>> {
    let go = state.path().join("go").display().to_string();
    let script = format!("echo a1; while [ ! -e {go} ]; do sleep 0.05; done; echo a2; echo a3");
    let words = [words, &["--", "sh", "-c", &script]].concat();
    let pushing = tokio::spawn(output(push(&format!("http://{}", rig.gateway.addresses.grpc), state, &words), LIMIT));
    rig.history("shared", 1).await?;
    Ok(pushing)
}

#[test]
fn a_second_push_into_a_step_run_is_refused_and_says_so() -> Outcome<()> {
    run(120, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let first = waiting_push(&rig, &state, &["--step-run", "shared"]).await?;
        let file = state.path().join("b");
        fs::write(&file, "b1\nb2\nb3\n")?;
        let second = output(push(&grpc, &state, &["--step-run", "shared", &file.display().to_string()]), LIMIT).await?;
        text(&second, 1)?;
        let said = stderr(&second);
        assert!(said.contains("foreign_writer") && said.contains("--step-run") && said.contains("3 of 3 lines"), "{said}");
        fs::write(state.path().join("go"), "")?;
        let first = first.await??;
        text(&first, 0)?;
        assert!(!stderr(&first).contains("not delivered"), "{}", stderr(&first));
        assert_eq!(rig.history("shared", 3).await?.contents(), ["a1", "a2", "a3"]);
        // With a command, the exit code stays the command's.
        let third = output(push(&grpc, &state, &["--step-run", "shared", "--", "echo", "c1"]), LIMIT).await?;
        text(&third, 0)?;
        assert!(stderr(&third).contains("1 of 1 lines"), "{}", stderr(&third));
        Ok(())
    })
}

#[test]
fn two_pushes_under_one_agents_name_go_on_after_each_other_and_are_told_when_they_overlap() -> Outcome<()> {
    run(120, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let words = ["--step-run", "shared", "--agent-id", "ci"];
        let first = waiting_push(&rig, &state, &words).await?;
        // The second goes on behind the first, as after a crash …
        let second = output(push(&grpc, &state, &[&words[..], &["--", "echo", "b1"]].concat()), LIMIT).await?;
        assert!(!stderr(&second).contains("not delivered"), "{}", stderr(&second));
        assert_eq!(rig.history("shared", 2).await?.contents(), ["a1", "b1"]);
        // … but the first had not ended: its next number is taken.
        fs::write(state.path().join("go"), "")?;
        let said = stderr(&first.await??);
        assert!(said.contains("something else writes step run shared as agent ci"), "{said}");
        assert!(said.contains("1 of 3 lines"), "{said}");
        assert_eq!(rig.history("shared", 3).await?.contents(), ["a1", "b1", "a3"]);
        Ok(())
    })
}

#[test]
fn a_log_whose_agent_named_its_pipeline_is_tailed_by_its_step_run_alone() -> Outcome<()> {
    run(60, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let words = ["--pipeline", "p1", "--step-run", "named", "--", "echo", "hi"];
        text(&output(push(&grpc, &state, &words), LIMIT).await?, 0)?;
        assert_eq!(text(&output(tail(&rig, &["named"]), LIMIT).await?, 0)?, "hi\n");
        assert_eq!(text(&output(tail(&rig, &["named", "--pipeline", "p1"]), LIMIT).await?, 0)?, "hi\n");
        let wrong = output(tail(&rig, &["named", "--pipeline", "p2"]), LIMIT).await?;
        text(&wrong, 1)?;
        assert!(stderr(&wrong).contains("step run not found"), "{}", stderr(&wrong));
        Ok(())
    })
}

#[test]
fn events_that_wait_for_one_gateway_never_go_to_another() -> Outcome<()> {
    run(60, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        text(&output(push(NOBODY, &state, &["--drain", "0s", "--", "true"]), LIMIT).await?, 0)?;
        assert_eq!(fs::read_dir(state.path())?.count(), 1);
        text(&output(push(&grpc, &state, &["--", "true"]), LIMIT).await?, 0)?;
        assert_eq!(fs::read_dir(state.path())?.count(), 1, "those of the first still wait");
        let taken = rig.gateway.metrics().await?.with("arcgate_events_total", "taken");
        assert!((taken - 2.0).abs() < 0.5, "{taken} events came, 2 are this gateway's");
        Ok(())
    })
}

#[test]
fn what_a_command_leaves_running_does_not_hold_a_push_up() -> Outcome<()> {
    run(60, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let begin = Instant::now();
        let script = "(for i in $(seq 200); do echo x; echo y >&2; sleep 0.1; done) & echo first";
        let words = ["--step-run", "left", "--", "sh", "-c", script];
        let pushed = output(push(&format!("http://{}", rig.gateway.addresses.grpc), &state, &words), LIMIT).await?;
        assert!(text(&pushed, 0)?.contains("first\n"));
        assert!(seconds(begin) < 10.0, "{} s", seconds(begin));
        Ok(())
    })
}

#[test]
fn output_that_cannot_be_written_here_goes_to_the_gateway_and_is_told() -> Outcome<()> {
    run(60, async {
        let (rig, state) = (Rig::start().await?, folder()?);
        let mut command = push(
            &format!("http://{}", rig.gateway.addresses.grpc),
            &state,
            &["--step-run", "full", "--", "sh", "-c", "seq 5; exit 3"],
        );
        let full = fs::File::options().write(true).open("/dev/full")?;
        let child = command.stdout(full).stderr(Stdio::piped()).spawn()?;
        let pushed = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
        assert_eq!(pushed.status.code(), Some(3));
        assert_eq!(stderr(&pushed).matches("cannot write the command's stdout here").count(), 1, "{}", stderr(&pushed));
        assert_eq!(text(&output(tail(&rig, &["full"]), LIMIT).await?, 0)?, "1\n2\n3\n4\n5\n");
        Ok(())
    })
}

/// Sends SIGTERM to a push whose command ignores it but has a child that notes it. `terminal`: its standard input is one.
async fn term_reaches_grandchildren(terminal: bool) -> Outcome<()> {
    let (rig, state, marks) = (Rig::start().await?, folder()?, folder()?);
    let mark = |name: &str| marks.path().join(name);
    let grandchild = "trap 'touch caught; exit 0' TERM; touch ready; while :; do sleep 0.05; done";
    let script = "echo $PPID > push; sh -c \"$GRANDCHILD\" & trap '' TERM; wait; wait; exit 5";
    let mut command = if terminal {
        let mut command = Command::new("script");
        command.args(["-qec", "\"$ARCGATE\" push --server \"$SERVER\" -- sh -c \"$SCRIPT\"", "/dev/null"]);
        // Not a terminal itself, and open until the end: the one that `script` makes stays open as long.
        command.stdin(Stdio::piped());
        command
    } else {
        push(&format!("http://{}", rig.gateway.addresses.grpc), &state, &["--", "sh", "-c", script])
    };
    command
        .env("GRANDCHILD", grandchild)
        .env("SCRIPT", script)
        .env("ARCGATE", binary())
        .env("SERVER", format!("http://{}", rig.gateway.addresses.grpc))
        .env("ARCGATE_SPOOL", state.path())
        .env("SHELL", "/bin/sh");
    let mut child = command.current_dir(marks.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let exists = async |name: &str| eventually(SOON, name, async || Ok(mark(name).exists().then_some(()))).await;
    exists("ready").await?;
    let pid = fs::read_to_string(mark("push"))?;
    Command::new("kill").args(["-s", "TERM", pid.trim()]).status()?;
    let caught = exists("caught").await;
    let ended = eventually(SOON, "the push's end", async || Ok(child.try_wait()?)).await;
    if ended.is_err() {
        child.kill()?;
    }
    caught?;
    assert_eq!(ended?.code(), Some(5));
    Ok(())
}

#[test]
fn signals_reach_the_whole_process_group() -> Outcome<()> {
    run(60, term_reaches_grandchildren(false))
}

#[test]
fn signals_reach_all_of_the_command_at_a_terminal_too() -> Outcome<()> {
    run(60, term_reaches_grandchildren(true))
}
