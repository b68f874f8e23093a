//! Events on disk until the gateway has them: what one push could not deliver, the next one to the same server does.
//!
//! One small file a push, in the state folder: `events-<server>-<uuid>.jsonl`. Its owner holds a lock on it; a file that nobody
//! has locked was left behind, and the next push to that server adopts it. Each line is a JSON object, either an event ([`Pending`]) or
//! `{"acked": seq}`. A torn last line, left by a crash, is no event yet. The file goes when all its events are acked.
//!
//! Without a folder that can be written the outbox lives in memory only: a build is never kept from running.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::event::Pending;

/// How many abandoned outboxes one push takes on; the others wait for the next.
const ADOPT_MOST: usize = 64;
/// How many outboxes a folder holds, whatever their servers; past it the oldest go.
const KEEP_MOST: usize = 1_000;
/// What the names of outboxes end with.
const SUFFIX: &str = ".jsonl";
/// A file larger than this was not written by an outbox.
const FILE_MOST: u64 = 64 << 20;
/// From this size on, a file of which most is acked is written anew.
const TIDY_FROM: u64 = 256 << 10;

/// Where the outboxes for one server lie.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    folder: PathBuf,
    /// What the names of its files begin with.
    prefix: String,
}

impl Shelf {
    /// The place in `folder` of what is meant for `server` and for nobody else.
    #[must_use]
    pub(crate) fn new(folder: PathBuf, server: &str) -> Self {
        let address = server.split_once("://").map_or(server, |(_, address)| address).trim_end_matches('/');
        let mut prefix = "events-".to_owned();
        for byte in address.bytes() {
            // Escaped, so that no two servers share a name and none is a path.
            if byte.is_ascii_alphanumeric() || b".-".contains(&byte) {
                prefix.push(char::from(byte));
            } else {
                prefix.push_str(&format!("%{byte:02x}"));
            }
        }
        prefix.push('-');
        Self { folder, prefix }
    }

    fn path(&self, id: uuid::Uuid) -> PathBuf {
        self.folder.join(format!("{}{id}{SUFFIX}", self.prefix))
    }

    fn holds(&self, name: &str) -> bool {
        let id = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
        id.is_some_and(|id| uuid::Uuid::try_parse(id).is_ok())
    }
}

/// The events of one push.
#[derive(Debug)]
pub(crate) struct Outbox {
    pending: Vec<Pending>,
    next_seq: u64,
    /// The file, kept open because it carries the lock.
    file: Option<(PathBuf, File)>,
    /// How large it is.
    bytes: u64,
    /// How large it may become before it is looked at again.
    tidy_at: u64,
}

#[derive(Serialize, Deserialize)]
struct Acked {
    acked: u64,
}

impl Outbox {
    /// An outbox without a file.
    #[must_use]
    pub(crate) fn in_memory() -> Self {
        Self { pending: Vec::new(), next_seq: 1, file: None, bytes: 0, tidy_at: TIDY_FROM }
    }

    /// A new outbox.
    ///
    /// # Errors
    /// The folder or the file cannot be made or locked; says which.
    pub(crate) fn create(shelf: &Shelf) -> io::Result<Self> {
        let path = shelf.path(uuid::Uuid::new_v4());
        let create = || {
            std::fs::create_dir_all(&shelf.folder)?;
            let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        let file = create().map_err(|error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Self { file: Some((path, file)), ..Self::in_memory() })
    }

    /// The outboxes of that shelf that were left behind, at most 64, the oldest first.
    #[must_use]
    pub(crate) fn adopt(shelf: &Shelf) -> Vec<Self> {
        let mut outboxes: Vec<_> = std::fs::read_dir(&shelf.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let is_outbox = name.starts_with("events-") && name.ends_with(SUFFIX);
                let age = entry.metadata().ok()?.modified().ok()?;
                is_outbox.then(|| (age, entry.path(), name))
            })
            .collect();
        outboxes.sort();
        let surplus = outboxes.len().saturating_sub(KEEP_MOST);
        for (_, path, _) in outboxes.drain(..surplus) {
            // One that is in use stays in use: its owner has it open and removes a name that is gone.
            let _ = std::fs::remove_file(path);
        }
        let ours = outboxes.into_iter().filter(|(_, _, name)| shelf.holds(name));
        ours.filter_map(|(_, path, _)| Self::open(path).ok().flatten()).take(ADOPT_MOST).collect()
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
        outbox.bytes = bytes.len() as u64;
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
        self.append(serde_json::to_vec(&Acked { acked: seq })?)?;
        if self.bytes > self.tidy_at { self.tidy() } else { Ok(()) }
    }

    /// Writes the file anew, with what waits only: an outbox that is used for long does not grow.
    fn tidy(&mut self) -> io::Result<()> {
        let Some((path, _)) = &self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        for event in &self.pending {
            serde_json::to_writer(&mut bytes, event)?;
            bytes.push(b'\n');
        }
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&new)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&new, path)?;
        self.bytes = bytes.len() as u64;
        self.tidy_at = TIDY_FROM.max(2 * self.bytes);
        if let Some((_, open)) = &mut self.file {
            *open = file;
        }
        Ok(())
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
        self.bytes += line.len() as u64;
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

    fn shelf(folder: &tempfile::TempDir) -> Shelf {
        Shelf::new(folder.path().to_owned(), "http://a:1")
    }

    fn names(outbox: &Outbox) -> Vec<(u64, &str)> {
        outbox.pending().iter().map(|event| (event.seq, event.about.step_run_id.as_str())).collect()
    }

    #[test]
    fn what_was_not_acked_is_found_by_the_next_push() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::create(&shelf(&folder)).unwrap();
        for name in ["one", "two", "three"] {
            outbox.add(event(name)).unwrap();
        }
        outbox.acked(1).unwrap();
        let id = outbox.pending()[0].id.clone();
        assert!(Outbox::adopt(&shelf(&folder)).is_empty(), "it has an owner");
        drop(outbox);

        let mut adopted = Outbox::adopt(&shelf(&folder));
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
    fn an_outbox_that_is_used_for_long_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::create(&shelf(&folder)).unwrap();
        let (path, mut largest) = (outbox.file.as_ref().unwrap().0.clone(), 0);
        let long = "x".repeat(20_000);
        for seq in 1..60 {
            outbox.add(event(&long)).unwrap();
            largest = largest.max(std::fs::metadata(&path).unwrap().len());
            // One waits all the time.
            outbox.acked(seq - 1).unwrap();
        }
        assert!(largest < TIDY_FROM + 100_000, "{largest}");
        assert!(Outbox::adopt(&shelf(&folder)).is_empty(), "it is locked as before");
        drop(outbox);
        let mut adopted = Outbox::adopt(&shelf(&folder));
        assert_eq!(names(&adopted.remove(0)), [(59, &*long)]);
    }

    #[test]
    fn events_for_one_server_never_go_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = |server: &str| Shelf::new(folder.path().to_owned(), server);
        let mut outbox = Outbox::create(&shelf("http://a.example:9090/")).unwrap();
        outbox.add(event("one")).unwrap();
        drop(outbox);
        for other in ["a.example:9091", "a.example", "b.example:9090", "a.example:9090-", "", "../a.example:9090"] {
            assert!(Outbox::adopt(&shelf(other)).is_empty(), "{other}");
        }
        assert_eq!(Outbox::adopt(&shelf("a.example:9090")).len(), 1, "however its address is written");
    }

    #[test]
    fn a_torn_line_is_no_event_and_spoils_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::create(&shelf(&folder)).unwrap();
        outbox.add(event("one")).unwrap();
        let path = outbox.file.as_ref().unwrap().0.clone();
        outbox.file.as_mut().unwrap().1.write_all(b"\n{\"seq\":2,\"id\":\"to").unwrap();
        outbox.add(event("two")).unwrap();
        drop(outbox);
        let bytes = std::fs::read(&path).unwrap();
        let adopted = Outbox::adopt(&shelf(&folder));
        assert_eq!(names(&adopted[0]), [(1, "one"), (2, "two")]);
        drop(adopted);
        for end in 0..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let adopted = Outbox::adopt(&shelf(&folder));
            assert!(adopted.iter().all(|outbox| outbox.pending().len() <= 2));
        }
    }

    #[test]
    fn without_a_folder_events_wait_in_memory() {
        assert!(Outbox::create(&Shelf::new("/dev/null/x".into(), "a:1")).is_err());
        let mut outbox = Outbox::in_memory();
        outbox.add(event("one")).unwrap();
        assert_eq!((names(&outbox), outbox.is_on_disk()), (vec![(1, "one")], false));
    }

    #[test]
    fn a_folder_holds_a_bounded_number() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..KEEP_MOST as u128 + 20 {
            let path = shelf(&folder).path(uuid::Uuid::from_u128(index));
            std::fs::write(path, b"").unwrap();
        }
        std::fs::write(folder.path().join("other"), b"").unwrap();
        assert!(Outbox::adopt(&shelf(&folder)).is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "empty ones go, others' files stay");
    }
}
