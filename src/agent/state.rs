//! The agent's folder: who it is, what must outlive it, and where steps work. One agent a folder, which a lock ensures.
//!
//! | name | what |
//! |---|---|
//! | `LOCK` | locked as long as an agent uses the folder |
//! | `agent.json` | the agent's id and its own token; readable by its owner only |
//! | `outbox/` | events that the gateway does not have yet |
//! | `workspaces/` | a folder for each job run |
//! | `inputs/` | scripts and arguments of steps that run; readable by their owner only |
//! | `trash/` | what is being removed |

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// How long a folder that is in use is waited for.
const FREE_WITHIN: Duration = Duration::from_secs(1);
/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// Who the agent is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    /// Its id.
    pub(super) agent_id: String,
    /// Its own token.
    pub(super) token: String,
}

impl std::fmt::Debug for Own {
    /// Never the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("agent_id", &self.agent_id).finish_non_exhaustive()
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct StateFolder {
    root: PathBuf,
    /// Carries the lock.
    _lock: File,
}

impl StateFolder {
    /// Takes the folder, and makes it if it is not there. What an agent that was killed left of its steps is removed.
    ///
    /// # Errors
    /// In words for people: it cannot be made or written, or another agent uses it.
    pub(super) fn take(root: &Path) -> Result<Self, String> {
        let cannot =
            |error: io::Error| format!("cannot use the state folder {}: {error}; name another with --state", root.display());
        private(root).map_err(cannot)?;
        let root = root.canonicalize().map_err(cannot)?;
        let lock = owner_only().write(true).create(true).truncate(false).open(root.join("LOCK")).map_err(cannot)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(format!("another agent uses the state folder {}; give each its own with --state", root.display()));
        }
        let folder = Self { root, _lock: lock };
        folder.clean().map_err(cannot)?;
        Ok(folder)
    }

    /// Takes the folder as soon as it is free: a process that has just ended, or that was just about to start another, may still have it.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) async fn take_soon(root: &Path) -> Result<Self, String> {
        let until = Instant::now() + FREE_WITHIN;
        loop {
            match Self::take(root) {
                Err(_) if Instant::now() < until => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// What ran under an agent that was killed is lost, and so is what it worked on.
    fn clean(&self) -> io::Result<()> {
        private(&self.trash())?;
        for folder in [self.workspaces(), self.inputs()] {
            match std::fs::rename(&folder, self.trash().join(uuid::Uuid::new_v4().to_string())) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => private(&folder)?,
            }
        }
        Ok(())
    }

    /// Who the agent is, if it has registered before.
    ///
    /// # Errors
    /// In words for people: the file cannot be read.
    pub(super) fn own(&self) -> Result<Option<Own>, String> {
        let path = self.own_file();
        let unfit = |error: &dyn std::fmt::Display| {
            format!("cannot read who this agent is from {}: {error}; mend it, or remove it and register anew", path.display())
        };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unfit(&error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unfit(&error)),
        }
    }

    /// Keeps who the agent is, on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(&self, own: &Own) -> io::Result<()> {
        let new = self.root.join("agent.json.new");
        if let Err(error) = std::fs::remove_file(&new)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = owner_only().write(true).create_new(true).open(&new)?;
        file.write_all(&serde_json::to_vec(own)?)?;
        file.sync_all()?;
        std::fs::rename(&new, self.own_file())?;
        File::open(&self.root)?.sync_all()
    }

    /// The file with the id and the token.
    pub(super) fn own_file(&self) -> PathBuf {
        self.root.join("agent.json")
    }

    pub(super) fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    pub(super) fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    pub(super) fn inputs(&self) -> PathBuf {
        self.root.join("inputs")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

/// A file that only its owner may open.
pub(super) fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_the_agent_is_outlives_it_and_is_its_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        let state = StateFolder::take(&root).unwrap();
        assert!(state.own().unwrap().is_none());
        for token in ["x:1", "x:2"] {
            let own = Own { agent_id: "x".into(), token: token.into() };
            state.keep(&own).unwrap();
            assert!(state.own().unwrap() == Some(own));
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state.own_file()), mode(&root)), (0o600, 0o700));
        assert!(StateFolder::take(&root).unwrap_err().contains("another agent uses"));
        std::fs::write(state.own_file(), "{").unwrap();
        assert!(state.own().err().unwrap().contains("agent.json"));
    }

    #[tokio::test]
    async fn what_a_killed_agents_steps_left_is_gone_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::take(folder.path()).unwrap();
        let (work, input) = (state.workspaces().join("job/file"), state.inputs().join("script"));
        std::fs::create_dir(work.parent().unwrap()).unwrap();
        std::fs::write(&work, "").unwrap();
        std::fs::write(&input, "").unwrap();
        drop(state);
        let state = StateFolder::take_soon(folder.path()).await.unwrap();
        assert!(!work.exists() && !input.exists() && state.workspaces().is_dir());
    }
}
