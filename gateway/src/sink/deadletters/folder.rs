//! The folder of one sink's dead letters.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{DeadLetter, FOLDER, MAX_BYTES, MAX_LETTERS};
use crate::store::disk::Disk;
use crate::store::{Position, StoreError};

const SUFFIX: &str = ".json";
const RETRY: &str = ".json.retry";
const UNFINISHED: &str = ".json.new";

/// What names a letter: where its record lies, and which line of that; 0 if it is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// The frame's position.
    pub position: Position,
    /// The line's number, or 0.
    pub line: u64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.line)
    }
}

impl FromStr for LetterId {
    type Err = LetterError;

    fn from_str(text: &str) -> Result<Self, LetterError> {
        let id = text.split_once('-').and_then(|(position, line)| {
            let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            Some(Self { position: number(position)?, line: number(line)? })
        });
        id.ok_or_else(|| LetterError::Name(text.to_owned()))
    }
}

/// Why nothing could be done with a letter.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The text names no letter.
    #[error("\"{0}\" names no dead letter; `arcgate deadletters ls` shows their names")]
    Name(String),
    /// There is no such letter.
    #[error("there is no dead letter {0}; it may have been sent or dropped meanwhile")]
    Missing(LetterId),
    /// Its file is none of this make.
    #[error("{} is not readable as a dead letter: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A letter that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterInfo {
    /// Its name.
    pub id: LetterId,
    /// It waits to be sent again.
    pub retry: bool,
}

/// The letters of one sink. Calls block.
pub struct DeadLetters {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The size of each, once [`DeadLetters::count`] has looked.
    sizes: BTreeMap<LetterId, u64>,
    max_letters: usize,
    max_bytes: u64,
}

/// The names of the sinks that have letters in the store's folder `store`.
///
/// # Errors
/// The disk.
pub fn sinks(disk: &dyn Disk, store: &Path) -> Result<Vec<String>, StoreError> {
    let dir = store.join(FOLDER);
    match disk.list(&dir) {
        Ok(mut names) => {
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(StoreError::io("list", &dir, error)),
    }
}

impl DeadLetters {
    /// The letters of `sink` in the store's folder `store`. Nothing is read or made yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, store: &Path, sink: &str) -> Self {
        let dir = store.join(FOLDER).join(sink);
        Self { disk, dir, sizes: BTreeMap::new(), max_letters: MAX_LETTERS, max_bytes: MAX_BYTES }
    }

    #[cfg(test)]
    pub(in crate::sink) fn bounded(self, max_letters: usize, max_bytes: u64) -> Self {
        Self { max_letters, max_bytes, ..self }
    }

    /// What is there, oldest first.
    ///
    /// # Errors
    /// The disk.
    pub fn list(&self) -> Result<Vec<LetterInfo>, StoreError> {
        let names = match self.disk.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(|error| StoreError::io("list", &self.dir, error))?,
        };
        let mut letters: Vec<_> = names.iter().filter_map(|name| info(name)).collect();
        letters.sort_unstable_by_key(|letter| letter.id);
        Ok(letters)
    }

    /// Looks at what is there, makes the folder and removes what a crash has left unfinished. Returns how many letters there are.
    ///
    /// # Errors
    /// The disk.
    pub fn count(&mut self) -> Result<usize, StoreError> {
        self.disk.create_dir_all(&self.dir).map_err(|error| StoreError::io("create", &self.dir, error))?;
        let names = self.disk.list(&self.dir).map_err(|error| StoreError::io("list", &self.dir, error))?;
        for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
            self.remove_file(&self.dir.join(name))?;
        }
        self.sizes.clear();
        for letter in names.iter().filter_map(|name| info(name)) {
            let path = self.path(letter.id, letter.retry);
            let size = self.disk.open(&path).and_then(|file| file.size());
            self.sizes.insert(letter.id, size.map_err(|error| StoreError::io("open", &path, error))?);
        }
        Ok(self.sizes.len())
    }

    /// Keeps letters, durably once it returns, in place of earlier ones of the same names. Returns how many older ones had to go,
    /// which is as durable.
    ///
    /// # Errors
    /// The disk; some may be kept. The same call may be made again.
    pub fn put(&mut self, letters: &[DeadLetter]) -> Result<usize, StoreError> {
        if letters.is_empty() {
            return Ok(0);
        }
        for letter in letters {
            let size = self.write(letter)?;
            self.sizes.insert(letter.id(), size);
        }
        let mut bytes: u64 = self.sizes.values().sum();
        let mut gone = 0;
        while (self.sizes.len() > self.max_letters || bytes > self.max_bytes)
            && let Some((id, size)) = self.sizes.pop_first()
        {
            for retry in [false, true] {
                self.remove_file(&self.path(id, retry))?;
            }
            bytes -= size;
            gone += 1;
        }
        self.sync()?;
        Ok(gone)
    }

    fn write(&self, letter: &DeadLetter) -> Result<u64, StoreError> {
        let path = self.path(letter.id(), false);
        let unfinished = path.with_extension("json.new");
        let mut text = serde_json::to_vec_pretty(letter).map_err(|error| StoreError::io("write", &path, error.into()))?;
        text.push(b'\n');
        self.remove_file(&unfinished)?;
        let written = self.disk.create(&unfinished).and_then(|file| {
            file.write_all_at(&mut [IoSlice::new(&text)], 0)?;
            file.sync_data()?;
            self.disk.rename(&unfinished, &path)
        });
        written.map_err(|error| StoreError::io("write", &path, error))?;
        Ok(text.len() as u64)
    }

    /// Reads a letter.
    ///
    /// # Errors
    /// There is none of that name; it cannot be read.
    pub fn read(&self, id: LetterId) -> Result<DeadLetter, LetterError> {
        for retry in [false, true] {
            let path = self.path(id, retry);
            let file = match self.disk.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(|error| StoreError::io("open", &path, error))?,
            };
            let read = || {
                // No letter is larger: a record's bytes take six at most as JSON.
                let size = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(16 << 20);
                let mut text = vec![0; size];
                let read = file.read_at(&mut text, 0)?;
                text.truncate(read);
                Ok(text)
            };
            let text = read().map_err(|error| StoreError::io("read", &path, error))?;
            return serde_json::from_slice(&text).map_err(|error| LetterError::Unreadable { path, why: error.to_string() });
        }
        Err(LetterError::Missing(id))
    }

    /// Asks the gateway that runs on the store, or the next one, to send a letter again.
    ///
    /// # Errors
    /// There is none of that name; the disk.
    pub fn ask_retry(&self, id: LetterId) -> Result<(), LetterError> {
        self.rename(id, true)
    }

    /// Takes back [`DeadLetters::ask_retry`].
    ///
    /// # Errors
    /// As there.
    pub fn end_retry(&self, id: LetterId) -> Result<(), LetterError> {
        self.rename(id, false)
    }

    fn rename(&self, id: LetterId, retry: bool) -> Result<(), LetterError> {
        let (from, to) = (self.path(id, !retry), self.path(id, retry));
        match self.disk.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It may bear the other name already.
                self.list()?.iter().any(|letter| letter.id == id).then_some(()).ok_or(LetterError::Missing(id))
            }
            Err(error) => Err(StoreError::io("rename", &from, error).into()),
            Ok(()) => Ok(self.sync()?),
        }
    }

    /// Removes a letter, durably once it returns; says whether there was one.
    ///
    /// # Errors
    /// The disk.
    pub fn remove(&mut self, id: LetterId) -> Result<bool, StoreError> {
        let mut was = false;
        for retry in [false, true] {
            was |= self.remove_file(&self.path(id, retry))?;
        }
        self.sizes.remove(&id);
        if was {
            self.sync()?;
        }
        Ok(was)
    }

    /// Puts a letter that was sent again in vain in place of the one that asked for it.
    ///
    /// # Errors
    /// The disk.
    pub fn replace(&mut self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.put(std::slice::from_ref(letter))?;
        self.remove_file(&self.path(letter.id(), true))?;
        self.sync()
    }

    /// Only these are left: others, such as an operator, have removed the rest.
    pub(in crate::sink) fn retain(&mut self, left: &[LetterInfo]) {
        self.sizes.retain(|id, _| left.binary_search_by_key(id, |letter| letter.id).is_ok());
    }

    fn path(&self, id: LetterId, retry: bool) -> PathBuf {
        let suffix = if retry { RETRY } else { SUFFIX };
        self.dir.join(format!("{:020}-{}{suffix}", id.position, id.line))
    }

    fn remove_file(&self, path: &Path) -> Result<bool, StoreError> {
        match self.disk.remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", path, error)),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.disk.sync_dir(&self.dir).map_err(|error| StoreError::io("sync", &self.dir, error))
    }
}

fn info(name: &str) -> Option<LetterInfo> {
    let (stem, retry) = match name.strip_suffix(RETRY) {
        Some(stem) => (stem, true),
        None => (name.strip_suffix(SUFFIX)?, false),
    };
    Some(LetterInfo { id: stem.parse().ok()?, retry })
}
