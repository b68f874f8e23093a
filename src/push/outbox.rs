//! Events on disk until the gateway has them: what one push could not deliver, the next one does.
//!
//! One small file a push, in the state folder: `events-<uuid>.jsonl`. Its owner holds a lock on it; a file that nobody has
//! locked was left behind, and the next push adopts it. Each line is a JSON object, either an event ([`Pending`]) or
//! `{"acked": seq}`. A torn last line, left by a crash, is no event yet. The file goes when all its events are acked.
//!
//! Without a folder that can be written the outbox lives in memory only: a build is never kept from running.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::event::Pending;

/// How many abandoned outboxes one push takes on; the others wait for the next.
const ADOPT_MOST: usize = 64;
/// How many outboxes a folder holds; past it the oldest go.
const KEEP_MOST: usize = 1_000;
/// A file larger than this was not written by an outbox.
const FILE_MOST: u64 = 1 << 20;

/// The events of one push.
#[derive(Debug)]
pub(crate) struct Outbox {
    pending: Vec<Pending>,
    next_seq: u64,
    /// The file, kept open because it carries the lock.
    file: Option<(PathBuf, File)>,
}

#[derive(Serialize, Deserialize)]
struct Acked {
    acked: u64,
}

impl Outbox {
    /// An outbox without a file.
    #[must_use]
    pub(crate) fn in_memory() -> Self {
        Self { pending: Vec::new(), next_seq: 1, file: None }
    }

    /// A new outbox in `folder`.
    ///
    /// # Errors
    /// The folder or the file cannot be made or locked.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("events-{}.jsonl", uuid::Uuid::new_v4()));
        let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file: Some((path, file)), ..Self::in_memory() })
    }

    /// The outboxes in `folder` that were left behind, at most 64, the oldest first.
    #[must_use]
    pub(crate) fn adopt(folder: &Path) -> Vec<Self> {
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name();
                let ours = name.to_str().is_some_and(|name| name.starts_with("events-") && name.ends_with(".jsonl"));
                let age = entry.metadata().ok()?.modified().ok()?;
                ours.then(|| (age, entry.path()))
            })
            .collect();
        paths.sort();
        let surplus = paths.len().saturating_sub(KEEP_MOST);
        for (_, path) in paths.drain(..surplus) {
            // One that is in use stays in use: its owner has it open and removes a name that is gone.
            let _ = std::fs::remove_file(path);
        }
        paths.into_iter().filter_map(|(_, path)| Self::open(path).ok().flatten()).take(ADOPT_MOST).collect()
    }

    /// Opens a file that was left behind; `None` if it has an owner or nothing to send.
    fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        (&file).take(FILE_MOST).read_to_end(&mut bytes)?;
        let mut outbox = Self::in_memory();
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(Acked { acked }) = serde_json::from_slice(line) {
                outbox.pending.retain(|event| event.seq > acked);
            } else if let Ok(event) = serde_json::from_slice::<Pending>(line) {
                outbox.next_seq = event.seq + 1;
                outbox.pending.push(event);
            }
        }
        if outbox.pending.is_empty() {
            std::fs::remove_file(&path)?;
            return Ok(None);
        }
        outbox.file = Some((path, file));
        Ok(Some(outbox))
    }

    /// Adds an event, on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written; the event waits in memory all the same.
    pub(crate) fn add(&mut self, mut event: Pending) -> io::Result<()> {
        event.seq = self.next_seq;
        self.next_seq += 1;
        let line = serde_json::to_vec(&event);
        self.pending.push(event);
        self.append(line?)
    }

    /// The gateway has all events up to `seq`.
    ///
    /// # Errors
    /// The file cannot be written or removed; the events would then be sent once more, which does no harm.
    pub(crate) fn acked(&mut self, seq: u64) -> io::Result<()> {
        let before = self.pending.len();
        self.pending.retain(|event| event.seq > seq);
        if self.pending.len() == before {
            return Ok(());
        }
        self.append(serde_json::to_vec(&Acked { acked: seq })?)
    }

    /// The events that wait.
    #[must_use]
    pub(crate) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Whether what waits outlives this process.
    #[must_use]
    pub(crate) fn is_on_disk(&self) -> bool {
        self.file.is_some()
    }

    /// Ends it: the file goes if nothing waits, and is left for the next push otherwise.
    pub(crate) fn close(self) {
        if let Some((path, _)) = self.file.filter(|_| self.pending.is_empty()) {
            // If that fails, the next push finds nothing to send in it.
            let _ = std::fs::remove_file(path);
        }
    }

    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        let Some((_, file)) = &mut self.file else { return Ok(()) };
        // The newline before ends whatever a crash or a full disk has torn.
        line.insert(0, b'\n');
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::event::Identity;
    use super::*;

    fn event(name: &str) -> Pending {
        Pending::started(&Identity { agent_id: "a".into(), step_run_id: name.into(), pipeline_id: String::new() }, 0)
    }

    fn names(outbox: &Outbox) -> Vec<(u64, &str)> {
        outbox.pending().iter().map(|event| (event.seq, event.about.step_run_id.as_str())).collect()
    }

    #[test]
    fn what_was_not_acked_is_found_by_the_next_push() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::create(folder.path()).unwrap();
        for name in ["one", "two", "three"] {
            outbox.add(event(name)).unwrap();
        }
        outbox.acked(1).unwrap();
        let id = outbox.pending()[0].id.clone();
        assert!(Outbox::adopt(folder.path()).is_empty(), "it has an owner");
        drop(outbox);

        let mut adopted = Outbox::adopt(folder.path());
        assert_eq!(adopted.len(), 1);
        let mut outbox = adopted.remove(0);
        assert_eq!(names(&outbox), [(2, "two"), (3, "three")]);
        assert_eq!(outbox.pending()[0].id, id);
        outbox.add(event("four")).unwrap();
        outbox.acked(3).unwrap();
        assert_eq!(names(&outbox), [(4, "four")]);
        outbox.acked(4).unwrap();
        outbox.close();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_line_is_no_event_and_spoils_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::create(folder.path()).unwrap();
        outbox.add(event("one")).unwrap();
        let path = outbox.file.as_ref().unwrap().0.clone();
        outbox.file.as_mut().unwrap().1.write_all(b"\n{\"seq\":2,\"id\":\"to").unwrap();
        outbox.add(event("two")).unwrap();
        drop(outbox);
        let bytes = std::fs::read(&path).unwrap();
        let adopted = Outbox::adopt(folder.path());
        assert_eq!(names(&adopted[0]), [(1, "one"), (2, "two")]);
        drop(adopted);
        for end in 0..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let adopted = Outbox::adopt(folder.path());
            assert!(adopted.iter().all(|outbox| outbox.pending().len() <= 2));
        }
    }

    #[test]
    fn without_a_folder_events_wait_in_memory() {
        assert!(Outbox::create(Path::new("/dev/null/x")).is_err());
        let mut outbox = Outbox::in_memory();
        outbox.add(event("one")).unwrap();
        assert_eq!((names(&outbox), outbox.is_on_disk()), (vec![(1, "one")], false));
    }

    #[test]
    fn a_folder_holds_a_bounded_number() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..KEEP_MOST + 20 {
            std::fs::write(folder.path().join(format!("events-{index}.jsonl")), b"").unwrap();
        }
        std::fs::write(folder.path().join("other"), b"").unwrap();
        assert!(Outbox::adopt(folder.path()).is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "empty ones go, others' files stay");
    }
}
