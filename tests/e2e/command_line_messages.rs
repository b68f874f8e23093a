//! What `push` and `tail` say when something is not as it should be: what happened, to what, and what to do.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::command_line::{LIMIT, push, tail};
use crate::harness::{Launch, Outcome, Rig, binary, folder, output, run, seconds, text};

/// Checks the exit code, and that all of `words` were said on standard error.
fn said(output: &Output, code: i32, words: &[&str]) -> Outcome<()> {
    text(output, code)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    words.iter().try_for_each(|word| if stderr.contains(word) { Ok(()) } else { Err(format!("no {word:?} in: {stderr}").into()) })
}

#[test]
fn push_names_what_is_wrong_with_its_input_its_server_and_its_token() -> Outcome<()> {
    run(120, async {
        let (state, tokens) = (folder()?, folder()?);
        let file = tokens.path().join("tokens");
        fs::write(&file, "good\n")?;
        let launch =
            Launch::new(binary(), tokens.path().join("data")).with("ARCGATE_AUTH__TOKEN_FILE", &file.display().to_string());
        let rig = Rig::launch(launch, tokens).await?;
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let pushed = async |server: &str, words: &[&str]| output(push(server, &state, words), LIMIT).await;

        let folder = state.path().display().to_string();
        said(&pushed(&grpc, &[&folder]).await?, 2, &["cannot read", &folder, "name a file"])?;
        said(&pushed(&grpc, &["/nowhere/at/all"]).await?, 2, &["cannot read /nowhere/at/all"])?;
        said(&pushed(&grpc, &["--"]).await?, 2, &["no command after --"])?;

        let short = ["--drain", "2s", "--", "echo", "hi"];
        said(&pushed(&grpc, &short).await?, 0, &["--token-file", "Unauthenticated", "1 of 1 lines"])?;
        said(&pushed(&format!("http://{}", rig.http()), &short).await?, 0, &["check the address", "1 of 1 lines"])?;
        let with_token = ["--token-file", &rig_token(&rig), "--", "echo", "hi"];
        let good = pushed(&grpc, &with_token).await?;
        text(&good, 0)?;
        assert!(!String::from_utf8_lossy(&good.stderr).contains("not delivered"));
        Ok(())
    })
}

/// The token file beside the data folder.
fn rig_token(rig: &Rig) -> String {
    rig.data().with_file_name("tokens").display().to_string()
}

#[test]
fn tail_names_what_is_wrong_with_its_server_its_step_run_and_its_lines() -> Outcome<()> {
    run(120, async {
        let (rig, state) = (Rig::start_with(&[("ARCGATE_LOGS__MAX_LINE", "64B")]).await?, folder()?);
        let grpc = format!("http://{}", rig.gateway.addresses.grpc);
        let begin = Instant::now();
        said(&output(tail(&rig, &["s", "--server", &grpc]), LIMIT).await?, 1, &["not the HTTP port", "check --server"])?;
        assert!(seconds(begin) < 20.0, "it is not tried again: {} s", seconds(begin));

        said(&output(tail(&rig, &["nosuch", "--no-follow"]), LIMIT).await?, 0, &["\"nosuch\"", "is the name right"])?;
        said(&output(tail(&rig, &[""]), LIMIT).await?, 2, &["STEP_RUN"])?;

        let long = "x".repeat(100);
        text(&output(push(&grpc, &state, &["--step-run", "long", "--", "echo", &long]), LIMIT).await?, 0)?;
        let cut = output(tail(&rig, &["long"]), LIMIT).await?;
        said(&cut, 0, &["line 1 was cut"])?;
        assert_eq!(text(&cut, 0)?, format!("{}\n", &long[..64]));
        Ok(())
    })
}

#[test]
fn tail_gives_up_on_a_server_that_never_answers_when_it_was_told_to() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        // Connections come about and nobody speaks.
        let hole = std::net::TcpListener::bind("127.0.0.1:0")?;
        let server = format!("http://{}", hole.local_addr()?);
        let begin = Instant::now();
        let gave_up = output(tail(&rig, &["s", "--server", &server, "--give-up", "2s"]), LIMIT).await?;
        said(&gave_up, 1, &["gave up after 2s"])?;
        assert!(begin.elapsed() < Duration::from_secs(8), "{} s", seconds(begin));
        Ok(())
    })
}
