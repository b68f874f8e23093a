//! The gateway under load: one that runs already, or one started here on a core of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use arcgate_load::process::{Addresses, Gateway, Launch};
use arcgate_load::{Outcome, procfs};
use clap::Args;
use tempfile::TempDir;

/// Which gateway.
#[derive(Debug, Args)]
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

/// A gateway that can be loaded.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Where it listens.
    pub(crate) addresses: Addresses,
    /// Ended before its folder goes, hence the order.
    _gateway: Option<Gateway>,
    _folder: Option<TempDir>,
    pid: Option<u32>,
    cpu_at_start: Duration,
}

impl Subject {
    /// Finds or starts it.
    pub(crate) async fn open(arguments: SubjectArguments) -> Outcome<Self> {
        let Some(binary) = arguments.gateway else {
            let addresses = Addresses { grpc: arguments.grpc.unwrap_or_default(), http: arguments.http };
            let pid = arguments.pid;
            return Ok(Self { addresses, _gateway: None, _folder: None, pid, cpu_at_start: Duration::ZERO });
        };
        std::fs::create_dir_all(&arguments.disk)?;
        let folder = tempfile::Builder::new().prefix("arcgate-load-").tempdir_in(&arguments.disk)?;
        let mut launch = Launch::new(binary.canonicalize()?, folder.path().canonicalize()?.join("data"));
        for setting in &arguments.setting {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("--setting {setting}: expected NAME=VALUE"))?;
            launch = launch.with(name, value);
        }
        let cores = std::thread::available_parallelism()?.get();
        if cores > 1 && !arguments.no_pin {
            launch = launch.wrapped(["taskset", "-c", "0"]);
            pin_myself(&format!("1-{}", cores - 1))?;
        }
        let gateway = launch.start().await?;
        let (addresses, pid) = (gateway.addresses.clone(), Some(gateway.pid()));
        Ok(Self { addresses, _gateway: Some(gateway), _folder: Some(folder), pid, cpu_at_start: Duration::ZERO })
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
