//! What the end-to-end tests stand on: the built binary on a folder of its own, agents, readers, and an oracle that looks at
//! the store from outside.
//!
//! Every test is a future under a bound ([`run`]); nothing waits without one. The temporary folders lie in the target folder,
//! on a real disk, so that a sync is a sync.

pub(crate) mod authority;
pub(crate) mod cursor;
pub(crate) mod front;
pub(crate) mod oracle;
pub(crate) mod services;
pub(crate) mod stock_agent;
pub(crate) mod trace;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) use arcgate_load::process::{Gateway, Launch};
pub(crate) use arcgate_load::reader::{Reader, Seen};
pub(crate) use arcgate_load::{Outcome, events, eventually, http, logs, within};
use tempfile::TempDir;

/// Most things come within this, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long what is acked may take to arrive at a sink, on a busy machine too.
pub(crate) const ARRIVES: Duration = Duration::from_secs(60);

/// Runs a test: on two threads, and not longer than `seconds` (longer with a scale above 1).
pub(crate) fn run(seconds: u64, test: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let limit = Duration::from_secs(seconds).mul_f64(scale().max(1.0));
    let outcome = runtime.block_on(within(limit, "the whole test", test));
    runtime.shutdown_background();
    outcome
}

/// The binary under test; `ARCGATE_BIN` names another one, as that of a release build.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("ARCGATE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_arcgate").into(), PathBuf::from)
}

/// `ARCGATE_E2E_SCALE`: 0.1 makes the heavy tests a tenth as heavy, 10 ten times.
fn scale() -> f64 {
    std::env::var("ARCGATE_E2E_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1.0)
}

/// A count that is `full` in the gate, and scaled by `ARCGATE_E2E_SCALE`, but at least `least`.
pub(crate) fn scaled(full: usize, least: usize) -> usize {
    ((full as f64 * scale()) as usize).max(least)
}

/// A temporary folder on the disk of the target folder.
pub(crate) fn folder() -> Outcome<TempDir> {
    Ok(tempfile::Builder::new().prefix("e2e-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A gateway on a folder that goes with it.
#[derive(Debug)]
pub(crate) struct Rig {
    /// The gateway; ended before its folder goes, hence the order.
    pub(crate) gateway: Gateway,
    /// Holds the data folder (`data`) and the gateway's standard error (`data.log`).
    _folder: TempDir,
}

impl Rig {
    /// A gateway with the default settings.
    pub(crate) async fn start() -> Outcome<Self> {
        Self::start_with(&[]).await
    }

    /// A gateway with these settings, as `("ARCGATE_LIMITS__MEMORY", "256MiB")`.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Outcome<Self> {
        let folder = folder()?;
        let mut launch = Launch::new(binary(), folder.path().join("data"));
        for (name, value) in settings {
            launch = launch.with(name, value);
        }
        Self::launch(launch, folder).await
    }

    /// A gateway started in a way of its own; its data folder lies in `folder`.
    pub(crate) async fn launch(launch: Launch, folder: TempDir) -> Outcome<Self> {
        Ok(Self { gateway: launch.start().await?, _folder: folder })
    }

    /// A gateway run by another command, as strace.
    pub(crate) async fn start_wrapped(folder: TempDir, wrapper: &[String]) -> Outcome<Self> {
        Self::launch(Launch::new(binary(), folder.path().join("data")).wrapped(wrapper), folder).await
    }

    /// Where it listens for HTTP and WebSocket.
    pub(crate) fn http(&self) -> &str {
        &self.gateway.addresses.http
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.gateway.launch().folder
    }

    /// SIGKILL, then a new start on the same folder.
    pub(crate) async fn crash(&mut self) -> Outcome<()> {
        self.gateway.kill9()?;
        self.gateway.restart().await
    }

    /// Waits until the gateway says that the step run's lines up to `last` are on disk: then every reader finds them in history.
    pub(crate) async fn settled(&self, step_run: &str, last: u64) -> Outcome<()> {
        let mut session = logs::LogSession::open(self.gateway.channel()?, "who asks").await?;
        eventually(SOON, "lines to be on disk", async || {
            let ack = session.ask(logs::question("who asks", step_run, 1)).await?;
            Ok((ack.durable_line >= last).then_some(()))
        })
        .await
    }

    /// Everything a reader sees of a step run up to line `last`, from history.
    pub(crate) async fn history(&self, step_run: &str, last: u64) -> Outcome<Seen> {
        let mut reader = Reader::follow(self.http(), step_run).await?;
        let mut seen = Seen::from(1);
        reader.read_to(last, &mut seen, SOON).await?;
        Ok(seen)
    }

    /// A counter or gauge of a sink, now; 0 if it is not shown.
    pub(crate) async fn of_sink(&self, metric: &str, sink: &str) -> Outcome<f64> {
        Ok(self.gateway.metrics().await?.with(metric, &format!("sink=\"{sink}\"")))
    }

    /// Waits until the gateway has had so many records confirmed by a sink since its start.
    pub(crate) async fn has_delivered(&self, sink: &str, records: u64) -> Outcome<()> {
        let mut delivered = 0.0;
        let waited = eventually(ARRIVES, sink, async || {
            delivered = self.of_sink("arcgate_sink_delivered_total", sink).await?;
            Ok((delivered >= records as f64).then_some(()))
        });
        waited.await.map_err(|error| format!("{error}: {delivered} of {records} records").into())
    }

    /// Waits until a sink has tried again so often.
    pub(crate) async fn has_retried(&self, sink: &str, times: u64) -> Outcome<()> {
        let retried = async || Ok((self.of_sink("arcgate_sink_retries_total", sink).await? >= times as f64).then_some(()));
        eventually(ARRIVES, "more tries", retried).await
    }

    /// Runs `arcgate` with these arguments against this gateway's folder and settings, and waits for it.
    pub(crate) async fn arcgate(&self, arguments: &[&str]) -> Outcome<Output> {
        let mut command = self.gateway.launch().command();
        command.args(arguments);
        output(command, Duration::from_secs(60)).await
    }
}

/// Runs a command to its end, which must come within `limit`, without blocking the runtime.
pub(crate) async fn output(mut command: Command, limit: Duration) -> Outcome<Output> {
    let what = format!("{command:?}");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = child.id();
    let ended = within(limit, &what, async { Ok(tokio::task::spawn_blocking(move || child.wait_with_output()).await??) }).await;
    if ended.is_err() {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    ended
}

/// The output of a command as text, if its exit code is the expected one.
pub(crate) fn text(output: &Output, code: i32) -> Outcome<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(code) {
        return Ok(out.into_owned());
    }
    Err(format!("{}, expected exit code {code}\n--- stdout\n{out}\n--- stderr\n{err}", output.status).into())
}

/// A reader's wait for what must not come: nothing but silence for this long.
pub(crate) async fn silence(reader: &mut Reader, time: Duration) -> Outcome<()> {
    match tokio::time::timeout(time, reader.next()).await {
        Err(_) => Ok(()),
        Ok(message) => Err(format!("silence was expected, {message:?} came").into()),
    }
}

/// Seconds since some moment, for measuring.
pub(crate) fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
