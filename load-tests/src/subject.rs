//! The gateway under load: one that runs already, or one started here on a core of its own.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use arcgate_load::process::{Addresses, Gateway, Launch};
use arcgate_load::{Outcome, procfs};
use clap::Args;
use tempfile::TempDir;

/// Where a gateway runs that is started here.
const GATEWAY_CORES: &str = "0";

/// Which gateway.
#[derive(Debug, Clone, Args)]
pub(crate) struct SubjectArguments {
    /// Start this binary on core 0, on a fresh data folder, and keep the load on the other cores
    #[arg(long, value_name = "BINARY", required_unless_present = "grpc")]
    gateway: Option<PathBuf>,
    /// Where that data folder is made: the disk that is measured
    #[arg(long, value_name = "FOLDER", default_value = "target", requires = "gateway")]
    disk: PathBuf,
    /// A setting for it, as in ARCGATE_LIMITS__MEMORY=256MiB
    #[arg(long, value_name = "NAME=VALUE", requires = "gateway")]
    setting: Vec<String>,
    /// Do not pin gateway and load to cores
    #[arg(long)]
    no_pin: bool,
    /// Use the gateway that listens for gRPC here
    #[arg(long, value_name = "ADDRESS", conflicts_with = "gateway")]
    grpc: Option<String>,
    /// Where that one listens for HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: String,
    /// Its process, to know its cost
    #[arg(long, requires = "grpc")]
    pid: Option<u32>,
}

impl SubjectArguments {
    /// Adds a setting of a gateway that is started here.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.setting.push(format!("{name}={value}"));
    }
}

/// Where the load runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cores {
    /// Where the gateway does.
    Gateways,
    /// Where it does not.
    Own,
}

/// A gateway that can be loaded.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Where it listens.
    pub(crate) addresses: Addresses,
    /// Ended before its folder goes, hence the order.
    gateway: Option<Gateway>,
    _folder: Option<TempDir>,
    pid: Option<u32>,
    cpu_at_start: Duration,
    /// This process stays on these cores, if it is kept anywhere.
    own_cores: Option<String>,
}

impl Subject {
    /// Finds or starts it.
    pub(crate) async fn open(arguments: SubjectArguments) -> Outcome<Self> {
        let Some(binary) = arguments.gateway else {
            let addresses = Addresses { grpc: arguments.grpc.unwrap_or_default(), http: arguments.http };
            let pid = arguments.pid;
            return Ok(Self { addresses, gateway: None, _folder: None, pid, cpu_at_start: Duration::ZERO, own_cores: None });
        };
        std::fs::create_dir_all(&arguments.disk)?;
        let folder = tempfile::Builder::new().prefix("arcgate-load-").tempdir_in(&arguments.disk)?;
        let mut launch = Launch::new(binary.canonicalize()?, folder.path().canonicalize()?.join("data"));
        for setting in &arguments.setting {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("--setting {setting}: expected NAME=VALUE"))?;
            launch = launch.with(name, value);
        }
        let cores = std::thread::available_parallelism()?.get();
        let own_cores = (cores > 1 && !arguments.no_pin).then(|| format!("1-{}", cores - 1));
        if let Some(own) = &own_cores {
            launch = launch.wrapped(["taskset", "-c", GATEWAY_CORES]);
            pin_myself(own)?;
        }
        let gateway = launch.start().await?;
        let (addresses, pid) = (gateway.addresses.clone(), Some(gateway.pid()));
        Ok(Self { addresses, gateway: Some(gateway), _folder: Some(folder), pid, cpu_at_start: Duration::ZERO, own_cores })
    }

    /// Moves this process to the gateway's cores, for what is measured without the gateway, or back to its own.
    pub(crate) fn move_load(&self, to: Cores) -> Outcome<()> {
        match (&self.own_cores, to) {
            (None, _) => Ok(()),
            (Some(_), Cores::Gateways) => pin_myself(GATEWAY_CORES),
            (Some(own), Cores::Own) => pin_myself(own),
        }
    }

    /// Ends it in order and starts it again on what it has stored, with more settings. Its processor time counts from its start.
    pub(crate) async fn restart_with(&mut self, settings: Vec<(String, String)>) -> Outcome<()> {
        let gateway = self.gateway.as_mut().ok_or("only a gateway that was started here can be started again")?;
        gateway.stop().await?;
        let mut launch = gateway.launch().clone();
        launch.settings.extend(settings);
        *gateway = launch.start().await?;
        self.addresses = gateway.addresses.clone();
        (self.pid, self.cpu_at_start) = (Some(gateway.pid()), Duration::ZERO);
        Ok(())
    }

    /// What a folder of its store takes on disk (`lines`, `events`), in bytes, if it was started here.
    pub(crate) fn stored(&self, folder: &str) -> Outcome<Option<u64>> {
        let Some(gateway) = &self.gateway else { return Ok(None) };
        let mut bytes = 0;
        for entry in std::fs::read_dir(gateway.launch().folder.join(folder))? {
            bytes += entry?.metadata()?.blocks() * 512;
        }
        Ok(Some(bytes))
    }

    /// From here on its processor time counts.
    pub(crate) fn start_counting(&mut self) -> Outcome<()> {
        if let Some(pid) = self.pid {
            self.cpu_at_start = procfs::cpu(pid)?;
        }
        Ok(())
    }

    /// Processor time since `start_counting`, if its process is known.
    pub(crate) fn cpu(&self) -> Outcome<Option<Duration>> {
        self.pid.map(|pid| Ok(procfs::cpu(pid)?.saturating_sub(self.cpu_at_start))).transpose()
    }

    /// Its peak memory in bytes, if its process is known.
    pub(crate) fn peak_memory(&self) -> Outcome<Option<u64>> {
        self.pid.map(procfs::peak_memory).transpose()
    }
}

/// Keeps all threads of this process on these cores.
fn pin_myself(cores: &str) -> Outcome<()> {
    let output = Command::new("taskset").args(["-acp", cores, &std::process::id().to_string()]).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}
