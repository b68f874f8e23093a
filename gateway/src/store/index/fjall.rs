//! The index on disk, in fjall (an LSM tree). Its keys and values are in the tables of the modules `keys` and [`record`].
//!
//! All keys lie in one keyspace: an apply is then one memtable's business, what survives a power loss is a prefix of the applies,
//! and no quiet keyspace keeps old journals from going. Nothing is synced here; an apply reaches the operating system before it
//! returns, so SIGKILL takes back nothing, and power loss only costs a scan from an older "indexed up to".

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PartitioningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, Readable, UserKey, UserValue};

use super::keys::{self, BlockKeys};
use super::{EventEntry, EventUpdate, Index, LineUpdate, LogKind, StreamRecord, record};
use crate::id::{AgentId, StepRunId};
use crate::store::lines::BlockRef;
use crate::store::{Position, StoreError};

/// What the index's blocks in memory take by default.
pub const CACHE_BYTES: u64 = 16 << 20;

const KEYSPACE: &str = "index";
/// What collects in memory before it is written as a table. At most five of them exist, then appliers wait.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// The least that fjall allows.
const JOURNAL_BYTES: u64 = 64 << 20;
const OPEN_FILES: usize = 64;
/// How many keys are removed in one batch.
const FORGET_AT_ONCE: usize = 4096;

/// How an index was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It was there.
    Existing,
    /// There was none: both logs are indexed up to 0.
    Fresh,
    /// What was there could not be used and has been deleted; both logs are indexed up to 0.
    Rebuilt {
        /// What was wrong with it.
        why: Arc<str>,
    },
}

/// The index on disk.
pub struct FjallIndex {
    // Two words instead of two lookups; written under the order of applies, one writer a log.
    lines_indexed: AtomicU64,
    events_indexed: AtomicU64,
    keys: Keyspace,
    db: Database,
}

/// Why an index could not be opened.
enum Refusal {
    /// Nothing is known to be wrong with its files: another process has it, the disk is full, permissions lack.
    Elsewhere(StoreError),
    /// Its files are not what was written.
    Unusable(Arc<str>),
}

impl FjallIndex {
    /// Opens the index in the folder `path`, or makes one. Its blocks in memory take at most `cache_bytes`.
    ///
    /// # Errors
    /// [`StoreError::Index`] if it cannot be used as it is; [`FjallIndex::open_or_rebuild`] then makes a new one.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::try_open(path, cache_bytes).map(|(index, _)| index).map_err(|refusal| match refusal {
            Refusal::Elsewhere(error) => error,
            Refusal::Unusable(why) => StoreError::Index(why),
        })
    }

    /// Opens the index in the folder `path`; one that is torn, damaged or of another format is deleted and begun anew. Unless it
    /// is [`Opened::Existing`], the caller indexes both logs from their start.
    ///
    /// # Errors
    /// Another process has it, or the system refuses a file operation.
    pub fn open_or_rebuild(path: &Path, cache_bytes: u64) -> Result<(Self, Opened), StoreError> {
        let why = match Self::try_open(path, cache_bytes) {
            Ok(opened) => return Ok(opened),
            Err(Refusal::Elsewhere(error)) => return Err(error),
            Err(Refusal::Unusable(why)) => why,
        };
        std::fs::remove_dir_all(path).map_err(|error| StoreError::io("remove the index", path, error))?;
        Self::open(path, cache_bytes).map(|index| (index, Opened::Rebuilt { why }))
    }

    fn try_open(path: &Path, cache_bytes: u64) -> Result<(Self, Opened), Refusal> {
        let path: PathBuf = path.to_owned();
        // fjall answers some damage of its own bookkeeping by a panic instead of an error.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = Database::builder(&path)
                .cache_size(cache_bytes)
                // With more, one is kept free for flushes and spins while another compacts: twice the CPU time, measured.
                .worker_threads(1)
                .max_journaling_size(JOURNAL_BYTES)
                .max_cached_files(Some(OPEN_FILES))
                .open()?;
            let keys = db.keyspace(KEYSPACE, keyspace_options)?;
            Ok((db, keys))
        }));
        let (db, keys) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(refusal(&path, error)),
            Err(_) => return Err(Refusal::Unusable("its files do not fit together".into())),
        };
        let index = Self { lines_indexed: AtomicU64::new(0), events_indexed: AtomicU64::new(0), keys, db };
        let fresh = index.read_meta().map_err(|error| Refusal::Unusable(error.to_string().into()))?;
        Ok((index, if fresh { Opened::Fresh } else { Opened::Existing }))
    }

    /// Reads format and "indexed up to"; writes them if there is nothing yet. Returns whether that was so.
    fn read_meta(&self) -> Result<bool, StoreError> {
        let Some(format) = self.keys.get(keys::FORMAT_KEY).map_err(broken)? else {
            if !self.db.snapshot().is_empty(&self.keys).map_err(broken)? {
                return Err(StoreError::Index("it holds entries but no format".into()));
            }
            self.write_meta()?;
            return Ok(true);
        };
        if record::decode_lines(&format)? != keys::FORMAT {
            return Err(StoreError::Index("it has the format of another release".into()));
        }
        for log in [LogKind::Lines, LogKind::Events] {
            let position = self
                .keys
                .get(keys::indexed(log))
                .map_err(broken)?
                .ok_or_else(|| StoreError::Index("it does not tell how far it got".into()))?;
            self.indexed_word(log).store(record::decode_number(&position)?, Ordering::Release);
        }
        Ok(false)
    }

    fn write_meta(&self) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        batch.insert(&self.keys, keys::FORMAT_KEY, record::encode_lines(keys::FORMAT));
        for log in [LogKind::Lines, LogKind::Events] {
            batch.insert(&self.keys, keys::indexed(log), record::encode_number(0));
            self.indexed_word(log).store(0, Ordering::Release);
        }
        batch.commit().map_err(broken)
    }

    fn indexed_word(&self, log: LogKind) -> &AtomicU64 {
        match log {
            LogKind::Lines => &self.lines_indexed,
            LogKind::Events => &self.events_indexed,
        }
    }

    /// An empty batch with room for `entries` and "indexed up to".
    fn batch(&self, entries: usize) -> OwnedWriteBatch {
        // Reaches the operating system with the commit, the disk whenever it likes.
        OwnedWriteBatch::with_capacity(self.db.clone(), entries + 1).durability(Some(fjall::PersistMode::Buffer))
    }

    fn commit(&self, mut batch: OwnedWriteBatch, log: LogKind, up_to: Position) -> Result<(), StoreError> {
        let word = self.indexed_word(log);
        debug_assert!(word.load(Ordering::Acquire) <= up_to, "`indexed up to` never goes back");
        batch.insert(&self.keys, keys::indexed(log), record::encode_number(up_to));
        batch.commit().map_err(broken)?;
        word.store(up_to, Ordering::Release);
        Ok(())
    }

    fn remove_all(&self, keys: impl IntoIterator<Item = Result<UserKey, StoreError>>) -> Result<(), StoreError> {
        let mut batch = self.batch(0);
        for key in keys {
            batch.remove(&self.keys, key?);
            if batch.len() >= FORGET_AT_ONCE {
                std::mem::replace(&mut batch, self.batch(0)).commit().map_err(broken)?;
            }
        }
        batch.commit().map_err(broken)
    }

    /// Reads every entry, so that fjall checks the checksums of all its blocks. Returns how many there are.
    ///
    /// # Errors
    /// [`StoreError::Index`] at the first damage.
    pub fn check(&self) -> Result<u64, StoreError> {
        let mut entries = 0;
        for entry in self.db.snapshot().iter(&self.keys) {
            entry.into_inner().map_err(broken)?;
            entries += 1;
        }
        Ok(entries)
    }
}

impl Index for FjallIndex {
    fn indexed(&self, log: LogKind) -> Result<Position, StoreError> {
        Ok(self.indexed_word(log).load(Ordering::Acquire))
    }

    fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError> {
        let Some(value) = self.keys.get(keys::stream(step_run.as_str())).map_err(broken)? else { return Ok(None) };
        Ok(Some(record::decode_mark(&value)?.1))
    }

    fn streams(&self, after: Option<&StepRunId>, limit: usize) -> Result<Vec<(StepRunId, StreamRecord)>, StoreError> {
        // The next possible key after an id is that id with a zero byte behind it.
        let from = after.map_or_else(
            || keys::stream(""),
            |after| {
                let mut key = keys::stream(after.as_str());
                key.push(0);
                key
            },
        );
        let found = self.db.snapshot().range(&self.keys, from.as_slice()..keys::AFTER_STREAMS);
        found.take(limit).map(|entry| Ok(record::decode_mark(&entry.value().map_err(broken)?)?)).collect()
    }

    fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<BlockRef>, StoreError> {
        let mut keys = BlockKeys::new(step_run);
        let snapshot = self.db.snapshot();
        let mut blocks = Vec::with_capacity(limit.min(64));
        let from: UserKey = keys.of(line, 0).into();
        let (first, last): (UserKey, UserKey) = (keys.of(0, 0).into(), keys.of(u64::MAX, u64::MAX).into());
        // Lines are counted from 1, so that nothing before line 1 can reach to it.
        if line > 1 && limit > 0 {
            for entry in snapshot.range(&self.keys, first..from.clone()).rev() {
                let block = read_block(&keys, entry)?;
                // A gap of unknown size in between says nothing of the block before it.
                if block.lines > 0 {
                    if block.next_line() > line {
                        blocks.push(block);
                    }
                    break;
                }
            }
        }
        for entry in snapshot.range(&self.keys, from..=last).take(limit - blocks.len().min(limit)) {
            blocks.push(read_block(&keys, entry)?);
        }
        Ok(blocks)
    }

    fn apply_lines(&self, up_to: Position, updates: &[LineUpdate]) -> Result<(), StoreError> {
        let mut batch = self.batch(updates.iter().map(|update| 1 + update.blocks.len()).sum());
        for update in updates {
            let mut keys = BlockKeys::new(&update.step_run);
            for block in &update.blocks {
                let key = keys.of(block.first_line, block.position);
                batch.insert(&self.keys, key, record::encode_lines(block.lines));
            }
            let record = record::encode_mark(&update.step_run, &update.record);
            batch.insert(&self.keys, keys::stream(update.step_run.as_str()), &record[..]);
        }
        self.commit(batch, LogKind::Lines, up_to)
    }

    fn event(&self, agent: &AgentId, name: &str) -> Result<Option<EventEntry>, StoreError> {
        let mut key = Vec::with_capacity(2 + agent.as_str().len() + name.len());
        keys::event(&mut key, agent, name);
        let value = self.keys.get(&key).map_err(broken)?;
        value.map(|value| Ok(record::decode_event(&value)?)).transpose()
    }

    fn apply_events(&self, up_to: Position, updates: &[EventUpdate]) -> Result<(), StoreError> {
        let mut key = Vec::new();
        let mut entries: Vec<(UserKey, UserValue)> = Vec::with_capacity(updates.len());
        for update in updates {
            keys::event(&mut key, &update.agent, &update.name);
            entries.push((key[..].into(), record::encode_event(&update.entry).into()));
        }
        // Neighbours in the memtable share cache lines. Stable: the last update of a key wins.
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let mut batch = self.batch(entries.len());
        for (key, value) in entries {
            batch.insert(&self.keys, key, value);
        }
        self.commit(batch, LogKind::Events, up_to)
    }

    fn forget_blocks(&self, step_run: &StepRunId, blocks: &[BlockRef]) -> Result<(), StoreError> {
        let mut keys = BlockKeys::new(step_run);
        self.remove_all(blocks.iter().map(|block| Ok(keys.of(block.first_line, block.position).into())))
    }

    fn forget_stream(&self, step_run: &StepRunId) -> Result<(), StoreError> {
        let mut keys = BlockKeys::new(step_run);
        let (first, last): (UserKey, UserKey) = (keys.of(0, 0).into(), keys.of(u64::MAX, u64::MAX).into());
        let blocks = self.db.snapshot().range(&self.keys, first..=last).map(|entry| entry.key().map_err(broken));
        // Blocks first: a stream that is half forgotten is still listed, and can be forgotten again.
        self.remove_all(blocks.chain(std::iter::once(Ok(keys::stream(step_run.as_str()).into()))))
    }

    fn forget_events(&self, keys: &[(AgentId, Box<str>)]) -> Result<(), StoreError> {
        let mut key = Vec::new();
        self.remove_all(keys.iter().map(|(agent, name)| {
            keys::event(&mut key, agent, name);
            Ok(key[..].into())
        }))
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.keys.clear().map_err(broken)?;
        self.write_meta()
    }

    fn bytes(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }
}

fn keyspace_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        // Most lookups are of events that were never seen: the filters answer those without reading a block. In parts, so that
        // what is looked at fits the cache and the rest needs no memory.
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))))
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, true]))
        .index_block_partitioning_policy(PartitioningPolicy::new([false, true]))
}

fn read_block(keys: &BlockKeys, entry: fjall::Guard) -> Result<BlockRef, StoreError> {
    let (key, value) = entry.into_inner().map_err(broken)?;
    let lines = record::decode_lines(&value)?;
    keys.read(&key, lines).ok_or_else(|| StoreError::from(record::RecordError::Malformed))
}

// By value, for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn broken(error: fjall::Error) -> StoreError {
    StoreError::Index(error.to_string().into())
}

fn refusal(path: &Path, error: fjall::Error) -> Refusal {
    use io::ErrorKind::{AlreadyExists, InvalidData, InvalidInput, NotFound, UnexpectedEof};
    match error {
        fjall::Error::Locked => Refusal::Elsewhere(StoreError::Locked { path: path.to_owned(), pid: "unknown".into() }),
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))
            // These come of files that lack or are too short; all else of the system.
            if !matches!(error.kind(), AlreadyExists | InvalidData | InvalidInput | NotFound | UnexpectedEof) =>
        {
            Refusal::Elsewhere(StoreError::io("open the index in", path, error))
        }
        other => Refusal::Unusable(other.to_string().into()),
    }
}
