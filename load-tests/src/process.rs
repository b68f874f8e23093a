//! A gateway: the real binary on a data folder of its own, on ports of the system's choice, killed when dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tonic::transport::{Channel, Endpoint};

use crate::http::{self, Metrics};
use crate::{Outcome, eventually};

/// A gateway that is not ready by then never will be.
const START: Duration = Duration::from_secs(60);
/// The gateway's own bound for a clean end is shorter.
const STOP: Duration = Duration::from_secs(60);
/// How much of its standard error is shown when something fails.
const SHOWN_STDERR: usize = 6_000;
/// Messages may be this large in both directions, as existing agents set it.
pub const MAX_MESSAGE: usize = 104_857_600;

/// How to start a gateway.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary.
    pub binary: PathBuf,
    /// The data folder. Standard error is appended to `<folder>.log` beside it.
    pub folder: PathBuf,
    /// Settings, as in `("ARCGATE_STORE__PATH", "…")`. Those for folder and listeners are set anyway, unless named here.
    pub settings: Vec<(String, String)>,
    /// A command that runs the binary in turn, as `taskset -c 0` or `strace -D …`. It must not change the process id.
    pub wrapper: Vec<OsString>,
}

impl Launch {
    /// The binary on that folder, with nothing special.
    pub fn new(binary: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), folder: folder.into(), settings: Vec::new(), wrapper: Vec::new() }
    }

    /// With one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Run by that command.
    #[must_use]
    pub fn wrapped<W: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = W>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// The command `arcgate` with these settings and no argument yet.
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.iter().cloned().chain([self.binary.clone().into_os_string()]);
        // The chain above has at least the binary.
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::null());
        // What the person at the keyboard has set is not part of a test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ARCGATE_")) {
            command.env_remove(name);
        }
        command
            .env("ARCGATE_STORE__PATH", &self.folder)
            .env("ARCGATE_GRPC__LISTEN", "127.0.0.1:0")
            .env("ARCGATE_HTTP__LISTEN", "127.0.0.1:0")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        // A relative `arcgate.toml` of the current folder is not part of it either.
        if let Some(parent) = self.folder.parent() {
            command.current_dir(parent);
        }
        command
    }

    /// Where standard error goes.
    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Outcome<Gateway> {
        let addresses = self.folder.join("addresses.json");
        if let Err(error) = fs::remove_file(&addresses)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = self.command().arg("serve").stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut gateway = Gateway { launch: self.clone(), child, addresses: Addresses::default(), ended: None };
        eventually(START, "the gateway's start", async || gateway.probe(&addresses).await).await.map_err(|error| {
            let log = gateway.stderr();
            format!("{error}\n--- its standard error:\n{log}")
        })?;
        Ok(gateway)
    }
}

/// Where a gateway listens, as it says in `addresses.json`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Addresses {
    /// gRPC.
    pub grpc: String,
    /// HTTP and WebSocket.
    pub http: String,
}

impl Addresses {
    /// Reads `addresses.json` of a data folder; `None` if it is not there, or not yet whole.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join("addresses.json")).ok()?).ok()
    }

    /// A gRPC connection that is made when first used, with windows large enough that they are never the limit.
    pub fn channel(&self) -> Outcome<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc))?;
        Ok(endpoint
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .tcp_nodelay(true)
            .connect_lazy())
    }
}

/// A running gateway. Dropping it kills the process; after a failure its last words are printed.
#[derive(Debug)]
pub struct Gateway {
    launch: Launch,
    child: Child,
    /// Where it listens.
    pub addresses: Addresses,
    ended: Option<ExitStatus>,
}

impl Gateway {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// A new gRPC connection.
    pub fn channel(&self) -> Outcome<Channel> {
        self.addresses.channel()
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> Outcome<Metrics> {
        Metrics::of(&self.addresses.http).await
    }

    /// The sum over all label sets of one metric, now.
    pub async fn metric(&self, name: &str) -> Outcome<f64> {
        Ok(self.metrics().await?.sum(name))
    }

    /// The most memory it has ever held, in bytes.
    pub fn peak_memory(&self) -> Outcome<u64> {
        crate::procfs::peak_memory(self.pid())
    }

    /// Kills it as a crash would: SIGKILL, no chance to clean up.
    pub fn kill9(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.ended = Some(self.child.wait()?);
        Ok(())
    }

    /// Sends a signal, by name without `SIG`.
    pub fn signal(&self, name: &str) -> Outcome<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -s {name} {}: {status}", self.pid()).into()) }
    }

    /// Waits until it has ended by itself.
    pub async fn wait(&mut self) -> Outcome<ExitStatus> {
        let ended = eventually(STOP, "the gateway's end", async || self.exit()).await?;
        Ok(ended)
    }

    /// Asks it to end (SIGTERM) and waits for it.
    pub async fn stop(&mut self) -> Outcome<ExitStatus> {
        self.signal("TERM")?;
        self.wait().await
    }

    /// Starts it again on the same folder with the same settings; it must have ended.
    pub async fn restart(&mut self) -> Outcome<()> {
        if self.exit()?.is_none() {
            return Err("the gateway still runs".into());
        }
        *self = self.launch.start().await?;
        Ok(())
    }

    /// The end of what it wrote on standard error.
    pub fn stderr(&self) -> String {
        let text = fs::read(self.launch.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let mut from = text.len().saturating_sub(SHOWN_STDERR);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text[from..].to_owned()
    }

    /// `Some` if it has ended.
    pub fn exit(&mut self) -> Outcome<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// `Some` once it listens and says that it is ready.
    async fn probe(&mut self, addresses: &Path) -> Outcome<Option<()>> {
        if let Some(status) = self.exit()? {
            return Err(format!("the gateway ended at once: {status}").into());
        }
        let folder = addresses.parent().unwrap_or(Path::new("."));
        let Some(found) = Addresses::read(folder) else { return Ok(None) };
        let ready = http::get(&found.http, "/readyz").await.is_ok_and(|answer| answer.status == 200);
        self.addresses = found;
        Ok(ready.then_some(()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- standard error of the gateway on {}:\n{}", self.launch.folder.display(), self.stderr());
        }
    }
}
