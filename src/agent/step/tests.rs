//! Programs and their groups: what a step leaves behind, and how it is made to end.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Ending, StepLog};
use crate::agent::events::About;
use crate::agent::mask::Mask;
use crate::agent::stop::Why;
use crate::agent::testing::{Bench, script, step};

const SOON: Duration = Duration::from_secs(20);

/// Waits until something is so.
async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process with the number in this file runs. One that has ended and is nobody's waits for whoever collects it.
fn runs(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

/// A script in the background, and what ends it.
fn begin(bench: &std::sync::Arc<Bench>, text: &str) -> (watch::Sender<Option<Why>>, JoinHandle<(Ending, String)>, PathBuf) {
    let (told, stop) = watch::channel(None);
    let step = script(text);
    let workspace = bench.workspace(&step);
    let bench = bench.clone();
    (told, tokio::spawn(async move { bench.run_until(&step, stop, None).await }), workspace)
}

fn cancelled() -> Why {
    Why::Cancelled("enough".into())
}

#[tokio::test]
async fn a_step_ends_with_its_exit_code_and_its_lines() {
    let bench = Bench::new();
    assert_eq!(bench.run(&script("echo one; printf two")).await, (Ending::Succeeded, "one\ntwo\n".into()));
    let (ending, log) = bench.run(&script("echo before\nfalse\necho after")).await;
    assert_eq!(ending, Ending::Failed { exit_code: 1, message: "exit code 1".into() });
    assert_eq!(log, "before\n", "a script ends at its first failure");
    let (ending, _) = bench.run(&script("exit 42")).await;
    assert!(matches!(ending, Ending::Failed { exit_code: 42, .. }));
    let (ending, _) = bench.run(&script("kill -9 $$")).await;
    assert!(matches!(ending, Ending::Failed { exit_code: 137, .. }), "{ending:?}");
    let (ending, log) = bench.run(&script("cat; echo read all")).await;
    assert_eq!((ending, &*log), (Ending::Succeeded, "read all\n"), "there is nothing on stdin");
}

#[tokio::test]
async fn what_a_step_leaves_running_ends_with_it() {
    let bench = Bench::new();
    let began = Instant::now();
    let (ending, log) = bench.run(&script("sleep 300 & echo $! >pid; echo done")).await;
    assert_eq!((ending, &*log), (Ending::Succeeded, "done\n"));
    let pid = bench.workspace(&script("")).join("pid");
    eventually("the sleep ends", || !runs(&pid)).await;
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn a_cancelled_step_ends_with_all_that_it_started() {
    let bench = std::sync::Arc::new(Bench::new());
    let (told, running, workspace) = begin(&bench, "(sleep 300; true) & echo $! >child; echo $$ >parent; wait");
    eventually("it runs", || workspace.join("parent").exists()).await;
    told.send_replace(Some(cancelled()));
    assert_eq!(running.await.unwrap().0, Ending::Stopped(cancelled()));
    eventually("all have ended", || !runs(&workspace.join("child")) && !runs(&workspace.join("parent"))).await;
}

#[tokio::test]
async fn a_step_that_must_end_may_clean_up_and_so_may_its_children() {
    let bench = std::sync::Arc::new(Bench::new());
    // The shell itself ends at once; its child needs a moment.
    let child = r#"sh -c 'trap "sleep 0.3; echo cleaned; exit" TERM; echo ready >ready; while :; do sleep 0.05; done'"#;
    let (told, running, workspace) = begin(&bench, child);
    eventually("it runs", || workspace.join("ready").exists()).await;
    told.send_replace(Some(cancelled()));
    let (ending, log) = running.await.unwrap();
    assert!(ending == Ending::Stopped(cancelled()) && log.ends_with("cleaned\n"), "{ending:?} {log}");
}

#[tokio::test]
async fn a_step_that_does_not_want_to_end_is_killed_after_its_grace() {
    let bench = std::sync::Arc::new(Bench::new());
    let (told, running, workspace) = begin(&bench, "trap '' TERM; echo $$ >pid; while :; do sleep 0.1; done");
    eventually("it runs", || workspace.join("pid").exists()).await;
    let began = Instant::now();
    told.send_replace(Some(cancelled()));
    assert_eq!(running.await.unwrap().0, Ending::Stopped(cancelled()));
    assert!(began.elapsed() >= super::process::GRACE && !runs(&workspace.join("pid")));
}

#[tokio::test]
async fn a_step_past_its_time_is_ended() {
    let bench = Bench::new();
    let (_told, stop) = watch::channel(None);
    let limit = Duration::from_millis(200);
    let (ending, _) = bench.run_until(&script("sleep 300"), stop, Some(limit)).await;
    assert_eq!(ending, Ending::Stopped(Why::TimedOut(limit)));
}

#[tokio::test]
async fn what_leaves_the_group_does_not_hold_the_step_up() {
    let bench = Bench::new();
    let began = Instant::now();
    let (ending, log) = bench.run(&script("setsid sleep 30 & echo first")).await;
    assert_eq!((ending, &*log), (Ending::Succeeded, "first\n"));
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn the_guard_is_no_child_of_the_program() {
    let bench = Bench::new();
    // `wait` of a program that waits for any child would never end.
    let (ending, log) = bench.run(&script("wait; ps -o pid= --ppid $$ | wc -l")).await;
    // The pipeline's own two.
    assert!(ending == Ending::Succeeded && log.trim().parse::<u32>().unwrap() <= 2, "{ending:?} {log}");
}

#[tokio::test]
async fn secrets_reach_the_program_and_not_its_log() {
    let bench = Bench::new();
    let mut step =
        script("printf 'a%sb\\n' \"$TOKEN\"; printf hun; sleep 0.1; echo 'ter2 is ${{ secrets.TOKEN }}'; echo \"$COPY\" >&2");
    step.secrets.insert("TOKEN".into(), "hunter2".into());
    step.env.insert("COPY".into(), "x${{ secrets.TOKEN }}x".into());
    let (ending, log) = bench.run(&step).await;
    assert_eq!(ending, Ending::Succeeded);
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["*** is ***", "a***b", "x***x"]);
    let left: Vec<_> = std::fs::read_dir(bench.shared.folder.inputs()).unwrap().collect();
    assert!(left.is_empty(), "the script is gone: {left:?}");
}

#[tokio::test]
async fn a_step_is_reported_only_when_the_gateway_has_all_of_its_log_on_disk() {
    let bench = Bench::new();
    let (step, log) = (script(""), StepLog::unsent(Mask::default()));
    log.say("last words");
    let (spool, _) = log.parts();
    let report = Ending::Succeeded.report("s1", &Mask::default()).unwrap();
    let shared = bench.shared.clone();
    let (_stays, told) = tokio::sync::watch::channel(None);
    let finished = tokio::spawn(async move { log.finish(&shared, &About::new("a", &step), &report, Duration::ZERO, told).await });
    eventually("no more lines come", || spool.with(|spool| spool.take(0).is_some())).await;
    eventually("the end is to be sent", || spool.with(|spool| spool.end_to_send().is_some())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!finished.is_finished());
    spool.with(|spool| spool.end_acked());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!finished.is_finished());
    spool.with(|spool| spool.answered(2, 1));
    assert!(finished.await.unwrap(), "it is to be reported");
}

#[tokio::test]
async fn messages_hold_no_secrets_and_have_a_bound() {
    let mask = Mask::new(["hunter2"]);
    let report = Ending::failed("no hunter2 here").report("s", &mask).unwrap();
    assert_eq!((&*report.message, report.exit_code), ("no *** here", -1));
    let long = Ending::failed("ü".repeat(5_000)).report("s", &mask).unwrap();
    assert!(long.message.len() < 2_100);
    assert!(Ending::Stopped(Why::Leaving).report("s", &mask).is_none());
}

#[tokio::test]
async fn a_step_has_only_what_it_needs_of_the_agents_environment() {
    let bench = Bench::new();
    let (_, log) = bench.run(&step("shell", &serde_json::json!({ "commands": ["env", "pwd"] }))).await;
    assert!(log.contains("PATH=") && log.contains("ARCGATE_STEP_RUN_ID=s1\n") && log.contains("CI=true\n"), "{log}");
    assert!(!log.contains("CARGO"), "{log}");
    assert!(log.trim_end().ends_with(&bench.workspace(&script("")).display().to_string()), "{log}");
}

#[tokio::test]
async fn an_agent_that_ends_reports_no_step_whose_log_has_not_arrived_and_waits_for_nobody() {
    let bench = Bench::new();
    let (step, log) = (script(""), StepLog::unsent(Mask::default()));
    log.say("last words");
    let report = Ending::Succeeded.report("s1", &Mask::default()).unwrap();
    let (tell, told) = tokio::sync::watch::channel(None);
    // Nobody can be reached.
    bench.shared.connected.send_replace(false);
    let shared = bench.shared.clone();
    let finished = tokio::spawn(async move { log.finish(&shared, &About::new("a", &step), &report, Duration::ZERO, told).await });
    tell.send_replace(Some(Why::Leaving));
    assert!(!finished.await.unwrap());
}
