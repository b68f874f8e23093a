//! Where steps work: a folder for each job run, which its steps share. It is removed some time after the last of them.

#![expect(clippy::disallowed_types, reason = "held for a look-up and a rename, never across a step")]

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a folder that no step uses is kept: a job's next step comes at once, unless somebody is slow.
const KEEP: Duration = Duration::from_secs(3_600);
/// How many such folders are kept; past it the oldest go.
const KEEP_MOST: usize = 64;
/// The longest name of a folder, in bytes.
const LONGEST_NAME: usize = 200;

/// All workspaces of an agent.
#[derive(Debug)]
pub(super) struct Workspaces {
    root: PathBuf,
    trash: PathBuf,
    used: Mutex<HashMap<String, Use>>,
}

#[derive(Debug)]
struct Use {
    steps: usize,
    left: Instant,
}

/// A step is in it as long as this lives.
#[derive(Debug)]
pub(super) struct Workspace {
    all: Arc<Workspaces>,
    name: String,
    path: PathBuf,
}

impl Workspaces {
    /// Below `root`; what is removed goes through `trash`.
    pub(super) fn new(root: PathBuf, trash: PathBuf) -> Arc<Self> {
        Arc::new(Self { root, trash, used: Mutex::default() })
    }

    /// A step of this job run enters its folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn enter(self: &Arc<Self>, job_run: &str) -> io::Result<Workspace> {
        let name = name_of(job_run);
        let path = self.root.join(&name);
        let mut used = self.used.lock();
        std::fs::create_dir_all(&path)?;
        used.entry(name.clone()).or_insert_with(|| Use { steps: 0, left: Instant::now() }).steps += 1;
        drop(used);
        Ok(Workspace { all: self.clone(), name, path })
    }

    /// Removes what is unused for long, or too many, and empties the trash: on a thread of its own, since it may be much.
    pub(super) fn sweep(self: &Arc<Self>) {
        let all = self.clone();
        // Without a thread it is done the next time.
        let _ = std::thread::Builder::new().name("sweep".into()).spawn(move || all.sweep_here(KEEP));
    }

    fn sweep_here(&self, keep: Duration) {
        let mut used = self.used.lock();
        let mut unused: Vec<_> = used.iter().filter(|(_, of)| of.steps == 0).map(|(name, of)| (of.left, name.clone())).collect();
        unused.sort();
        let surplus = unused.len().saturating_sub(KEEP_MOST);
        for (at, (left, name)) in unused.into_iter().enumerate() {
            // Renamed while nobody can enter; what cannot be is tried the next time.
            let goes = at < surplus || left.elapsed() >= keep;
            if goes && std::fs::rename(self.root.join(&name), self.trash.join(uuid::Uuid::new_v4().to_string())).is_ok() {
                used.remove(&name);
            }
        }
        drop(used);
        for entry in std::fs::read_dir(&self.trash).into_iter().flatten().flatten() {
            remove(&entry.path());
        }
    }
}

/// Removes a folder; also one in which steps took away their own right to write.
fn remove(folder: &Path) {
    if std::fs::remove_dir_all(folder).is_err() {
        let _ = Command::new("chmod").args(["-R", "u+rwX", "--"]).arg(folder).output();
        // What still stays is tried again the next time.
        let _ = std::fs::remove_dir_all(folder);
    }
}

impl Workspace {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Some(of) = self.all.used.lock().get_mut(&self.name) {
            of.steps -= 1;
            of.left = Instant::now();
        }
    }
}

/// A folder's name: never a path, and another one for each job run.
fn name_of(job_run: &str) -> String {
    let mut name = String::new();
    for byte in job_run.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    if name.is_empty() || name.len() > LONGEST_NAME {
        // Ids of this length are nobody's; they share what begins alike.
        name.truncate(LONGEST_NAME);
        name.push('%');
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_of_a_job_share_a_folder_which_goes_after_the_last() {
        let root = tempfile::tempdir().unwrap();
        let (rooms, trash) = (root.path().join("w"), root.path().join("t"));
        std::fs::create_dir(&trash).unwrap();
        let all = Workspaces::new(rooms.clone(), trash.clone());
        let (one, two, other) = (all.enter("job").unwrap(), all.enter("job").unwrap(), all.enter("other").unwrap());
        assert!(one.path() == two.path() && one.path() != other.path());
        std::fs::write(one.path().join("file"), "").unwrap();
        drop(one);
        drop(other);
        all.sweep_here(Duration::ZERO);
        assert_eq!(std::fs::read_dir(&rooms).unwrap().count(), 1, "a step is still in it");
        assert!(two.path().join("file").exists());
        drop(two);
        all.sweep_here(KEEP);
        assert_eq!(std::fs::read_dir(&rooms).unwrap().count(), 1, "for the next step");
        all.sweep_here(Duration::ZERO);
        assert_eq!(std::fs::read_dir(&rooms).unwrap().count() + std::fs::read_dir(&trash).unwrap().count(), 0);
        assert!(!all.enter("job").unwrap().path().join("file").exists());
    }

    #[test]
    fn no_more_than_some_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let all = Workspaces::new(root.path().join("w"), root.path().join("t"));
        std::fs::create_dir(root.path().join("t")).unwrap();
        for job in 0..KEEP_MOST + 5 {
            all.enter(&format!("job-{job}")).unwrap();
        }
        all.sweep_here(KEEP);
        assert_eq!(std::fs::read_dir(root.path().join("w")).unwrap().count(), KEEP_MOST);
    }

    #[test]
    fn names_are_no_paths() {
        assert_eq!(name_of("01HX_-a"), "01HX_-a");
        assert_eq!(name_of("../a b"), "%2e%2e%2fa%20b");
        assert_eq!(name_of(""), "%");
        assert!(name_of(&"x".repeat(5_000)).len() <= LONGEST_NAME + 1);
    }
}
