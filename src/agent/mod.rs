//! `arcgate agent`: the reference agent. It takes step runs from a control plane, executes them, and tells how that goes.
//!
//! | part | what it does |
//! |---|---|
//! | `register` | the process begins: who it is, once |
//! | `serve` | the main loop: one channel, again after each break |
//! | `link` | the channel |
//! | `desk` | which step runs it has, and what is still to be said of each: pure |
//! | `step` | one step run: its process group, its log, its report |
//! | `plugins` | what `uses` names |
//! | `mask` | takes secrets out of what leaves the process |
//! | `courier`, `events` | events, from an outbox on disk |
//! | `state`, `workspaces` | the folder |
//!
//! What it tells and when is written down for authors of other agents in `docs/agent.md`.

mod args;
mod courier;
mod desk;
mod diary;
mod events;
mod link;
mod mask;
mod plugins;
mod register;
mod serve;
mod state;
mod step;
mod stop;
#[cfg(test)]
mod testing;
mod workspaces;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::args::AgentArgs;
use self::courier::Courier;
use self::diary::Diary;
use self::register::{Introduction, Registered, register, unregister};
use self::state::{Own, StateFolder};
use self::workspaces::Workspaces;
use crate::push::outbox::Shelf;
use crate::push::signals::Signals;
use crate::push::target::Target;

/// What `arcgate agent` was asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's gRPC address.
    pub server: String,
    /// What the agent is.
    pub labels: HashMap<String, String>,
    /// Its name for people; the host's if not given.
    pub name: Option<String>,
    /// A file with a registration token.
    pub registration_token_file: Option<PathBuf>,
    /// Its folder.
    pub state: Option<PathBuf>,
    /// How many step runs it executes at once.
    pub max_step_runs: usize,
    /// Where plugins lie.
    pub plugins: Option<PathBuf>,
    /// Where artifacts are kept.
    pub artifacts: Option<PathBuf>,
}

/// What all step runs of an agent share.
#[derive(Debug)]
struct Shared {
    options: Options,
    own: Own,
    target: Target,
    folder: StateFolder,
    workspaces: Arc<Workspaces>,
    courier: Courier,
    diary: Diary,
    /// Whether there is a channel.
    connected: watch::Sender<bool>,
}

/// Runs an agent until a signal ends it. The exit code is 0 then, 1 if it could not begin, 2 if the options are unfit.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    let diary = Diary::default();
    let (target, options) = match Target::new(&options.server, None).and_then(|target| Ok((target, absolute(options)?))) {
        Ok(fit) => fit,
        Err(why) => {
            diary.say(&why);
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            diary.say(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(live(options, target, &diary));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            diary.say(&why);
            ExitCode::FAILURE
        }
    }
}

async fn live(options: Options, target: Target, diary: &Diary) -> Result<(), String> {
    let mut signals = Signals::ending().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let root = options.state.clone().unwrap_or_else(|| crate::push::state_folder(None).join("agent"));
    let folder = StateFolder::take_soon(&root).await?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let who =
        Introduction { name: options.name.clone().unwrap_or(host), labels: options.labels.clone(), most: options.max_step_runs };
    let begin = register(&target, &folder, options.registration_token_file.as_deref(), &who, diary);
    let Registered { own, interval } = tokio::select! {
        registered = begin => registered?,
        _ = signals.end() => return Ok(()),
    };
    let target = target.with_token(&own.token)?;
    let shelf = Shelf::new(folder.outbox(), &options.server);
    let (courier, thread) = Courier::start(&own.agent_id, target.clone(), &shelf, diary.clone())?;
    diary.say(&format!("agent {} at {} takes up to {} step runs at once", own.agent_id, options.server, options.max_step_runs));
    let workspaces = Workspaces::new(folder.workspaces(), folder.trash());
    workspaces.sweep();
    let (connected, _) = watch::channel(false);
    let shared = Shared { options, own, target, folder, workspaces, courier, diary: diary.clone(), connected };
    let shared = Arc::new(shared);
    let signal = serve::serve(&shared, interval, &mut signals).await;
    // First nothing of what is given up here still runs, then the control plane may give it to others.
    let reason = format!("the agent was ended by signal {}", signal.as_raw());
    if let Err(why) = unregister(&shared.target, &shared.own, &reason).await {
        diary.say(&format!("cannot sign off: {why}; the control plane finds out by this agent's silence"));
    }
    drop(shared);
    courier::end(thread).await;
    Ok(())
}

/// Folders as they are named here, whatever folder steps work in.
fn absolute(mut options: Options) -> Result<Options, String> {
    for (flag, folder) in [("--plugins", &mut options.plugins), ("--artifacts", &mut options.artifacts)] {
        if let Some(path) = folder {
            let whole = path.canonicalize().ok().filter(|path| path.is_dir());
            *path = whole.ok_or_else(|| format!("{flag} {}: there is no such folder", path.display()))?;
        }
    }
    options.state = options.state.as_deref().map(std::path::absolute).transpose().map_err(|error| format!("--state: {error}"))?;
    Ok(options)
}

/// A step's script, its arguments or the like in a file that only the owner may read. Gone when dropped.
#[derive(Debug)]
struct Input(PathBuf);

impl Input {
    /// Writes a file that a step's program reads.
    fn write(folder: &Path, content: &[u8]) -> std::io::Result<Self> {
        use std::io::Write;
        let input = Self(folder.join(uuid::Uuid::new_v4().to_string()));
        state::owner_only().write(true).create_new(true).open(&input.0)?.write_all(content)?;
        Ok(input)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // Else it goes at the agent's next start.
        let _ = std::fs::remove_file(&self.0);
    }
}
