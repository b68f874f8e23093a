//! A file system in memory that forgets, as a real one does when power fails, and fails when told to.
//!
//! What is written is visible at once, but durable only after `sync_data`; what is created or removed only after `sync_dir`. At
//! [`SimDisk::crash`] each un-synced sector of 512 bytes, each file size and each name takes one of the states that it had since its
//! last sync, at random: writes are lost, torn and reordered. After a failed `sync_data` the dirty sectors count as clean, as Linux
//! does it: the next one returns without making them durable. Folders are durable at once. The same seed gives the same run.

#![expect(clippy::disallowed_types, reason = "for tests only")]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Disk, DiskFile, Space};

const SECTOR: usize = 512;

/// A file system in memory. Cloning shares it.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: StdRng,
    ops: u64,
    fail_at: Option<u64>,
    die_at: Option<u64>,
    full: bool,
    lying: bool,
    /// Power has failed: whoever still has this view gets errors.
    dead: bool,
    dirs: BTreeMap<PathBuf, BTreeMap<String, Name>>,
    inodes: Vec<Inode>,
}

/// A file's name: which inode it means.
#[derive(Default)]
struct Name {
    durable: Option<usize>,
    /// What it was since the last sync; the last one is what it is now.
    since: Vec<Option<usize>>,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What the dirty sectors held since the last sync.
    dirty: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// How long the file was since the last sync.
    sizes: Vec<usize>,
}

impl Name {
    fn live(&self) -> Option<usize> {
        self.since.last().copied().unwrap_or(self.durable)
    }
}

impl Inode {
    /// Notes that the sectors of `from..to` have changed.
    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            let mut held = [0; SECTOR];
            let bytes = self.live.get(sector * SECTOR..).unwrap_or_default();
            let len = bytes.len().min(SECTOR);
            held[..len].copy_from_slice(&bytes[..len]);
            self.dirty.entry(sector).or_default().push(held);
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let (before, end) = (self.live.len(), at + bytes.len());
        if end > before {
            self.live.resize(end, 0);
            self.sizes.push(end);
        }
        self.live[at..end].copy_from_slice(bytes);
        self.touch(at.min(before), end);
    }

    fn truncate(&mut self, size: usize) {
        let before = self.live.len();
        self.live.resize(size, 0);
        self.sizes.push(size);
        self.touch(size.min(before), size.max(before));
    }

    fn put(durable: &mut Vec<u8>, sector: usize, held: &[u8; SECTOR]) {
        let end = (sector + 1) * SECTOR;
        durable.resize(durable.len().max(end), 0);
        durable[sector * SECTOR..end].copy_from_slice(held);
    }

    /// Makes durable what changed; of each sector only with the probability `keep`.
    fn sync(&mut self, keep: f64, rng: &mut StdRng) {
        let changed = !self.dirty.is_empty() || !self.sizes.is_empty();
        for (sector, held) in std::mem::take(&mut self.dirty) {
            if let (Some(last), true) = (held.last(), rng.random_bool(keep)) {
                Self::put(&mut self.durable, sector, last);
            }
        }
        self.sizes.clear();
        if changed && keep > 0.0 {
            self.durable.resize(self.live.len(), 0);
        }
    }

    /// What is left after a loss of power.
    fn crash(&self, keep: f64, rng: &mut StdRng) -> Self {
        let mut durable = self.durable.clone();
        for (sector, held) in &self.dirty {
            if let Some(held) = survivor(held, keep, rng) {
                Self::put(&mut durable, *sector, held);
            }
        }
        let size = survivor(&self.sizes, keep, rng).copied().unwrap_or(self.durable.len());
        durable.resize(size, 0);
        Self { live: durable.clone(), durable, ..Self::default() }
    }
}

/// Which of the states since the last sync is found after a crash; `None` for that of the last sync.
fn survivor<'a, T>(since: &'a [T], keep: f64, rng: &mut StdRng) -> Option<&'a T> {
    if since.is_empty() || rng.random_bool(keep) {
        return since.last();
    }
    rng.random_range(0..=since.len()).checked_sub(1).map(|at| &since[at])
}

impl SimDisk {
    /// An empty file system.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(StdRng::seed_from_u64(seed), false, BTreeMap::new(), Vec::new())
    }

    fn with(rng: StdRng, lying: bool, dirs: BTreeMap<PathBuf, BTreeMap<String, Name>>, inodes: Vec<Inode>) -> Self {
        let state = State { rng, ops: 0, fail_at: None, die_at: None, full: false, lying, dead: false, dirs, inodes };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The file system after a loss of power and a boot. The old view, and files open in it, fail from now on.
    pub(crate) fn crash(&self) -> Self {
        let mut state = self.state.lock();
        let State { rng, dirs, inodes, lying, dead, .. } = &mut *state;
        *dead = true;
        // Some crashes lose nearly all, some nearly nothing.
        let keep = [0.0, 0.1, 0.5, 0.9, 1.0][rng.random_range(0..5)];
        let inodes = inodes.iter().map(|inode| inode.crash(keep, rng)).collect();
        let mut after = BTreeMap::new();
        for (dir, names) in dirs {
            let mut kept = BTreeMap::new();
            for (name, of) in names {
                let durable = survivor(&of.since, keep, rng).copied().unwrap_or(of.durable);
                kept.insert(name.clone(), Name { durable, since: Vec::new() });
            }
            after.insert(dir.clone(), kept);
        }
        Self::with(StdRng::seed_from_u64(rng.random()), *lying, after, inodes)
    }

    /// How many operations there were since the last boot.
    pub(crate) fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// The operation of that index (from 0, as [`SimDisk::ops`] counts) fails, once. A failing write may have written a part, a
    /// failing sync may have made a part durable.
    pub(crate) fn fail_at(&self, op: u64) {
        self.state.lock().fail_at = Some(op);
    }

    /// The power fails before the operation of that index: it and all that follow fail and do nothing.
    pub(crate) fn die_at(&self, op: u64) {
        self.state.lock().die_at = Some(op);
    }

    /// Whether the power has failed.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// From now on there is no free space, or there is again.
    pub(crate) fn enospc(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// From now on (across boots) a sync returns at once without syncing, or syncs again.
    pub(crate) fn lie_on_sync(&self, lying: bool) {
        self.state.lock().lying = lying;
    }

    /// Changes a stored byte, durably, as a failing medium does.
    pub(crate) fn corrupt(&self, path: &Path, at: u64) {
        let mut state = self.state.lock();
        if let Ok(inode) = state.inode(path) {
            let inode = &mut state.inodes[inode];
            for bytes in [&mut inode.live, &mut inode.durable] {
                if let Some(byte) = bytes.get_mut(at as usize) {
                    *byte ^= 0x40;
                }
            }
        }
    }

    /// Begins an operation; `Err` if it is to fail.
    fn begin(&self) -> (MutexGuard<'_, State>, io::Result<()>) {
        let mut state = self.state.lock();
        let op = state.ops;
        state.ops += 1;
        state.dead |= state.die_at.is_some_and(|at| at <= op);
        let fails = state.dead || state.fail_at == Some(op);
        let result = if fails { Err(io::Error::other("simulated failure")) } else { Ok(()) };
        (state, result)
    }
}

impl State {
    fn names(&mut self, dir: &Path) -> io::Result<&mut BTreeMap<String, Name>> {
        self.dirs.get_mut(dir).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The names of the folder that `path` is in, and its name there.
    fn place(&mut self, path: &Path) -> io::Result<(&mut BTreeMap<String, Name>, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.names(dir)?, name))
    }

    fn inode(&mut self, path: &Path) -> io::Result<usize> {
        let (names, name) = self.place(path)?;
        names.get(&name).and_then(Name::live).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let (mut state, ok) = self.begin();
        ok?;
        for dir in path.ancestors() {
            state.dirs.entry(dir.to_owned()).or_default();
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (mut state, ok) = self.begin();
        ok?;
        Ok(state.names(dir)?.iter().filter(|(_, name)| name.live().is_some()).map(|(name, _)| name.clone()).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, ok) = self.begin();
        ok?;
        let inode = state.inode(path)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, ok) = self.begin();
        ok?;
        let inode = state.inodes.len();
        let (names, name) = state.place(path)?;
        let name = names.entry(name).or_default();
        if name.live().is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        name.since.push(Some(inode));
        state.inodes.push(Inode::default());
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, ok) = self.begin();
        ok?;
        state.inode(path)?;
        let (names, name) = state.place(path)?;
        names.entry(name).or_default().since.push(None);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, ok) = self.begin();
        ok?;
        let inode = state.inode(from)?;
        for (path, is) in [(from, None), (to, Some(inode))] {
            let (names, name) = state.place(path)?;
            names.entry(name).or_default().since.push(is);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, ok) = self.begin();
        ok?;
        if !state.lying {
            for name in state.names(dir)?.values_mut() {
                name.durable = name.live();
                name.since.clear();
            }
        }
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let (state, ok) = self.begin();
        ok?;
        Ok(Space { free: if state.full { 0 } else { 1 << 40 }, total: 1 << 40 })
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let (state, ok) = self.disk.begin();
        ok?;
        Ok(state.inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (state, ok) = self.disk.begin();
        ok?;
        let bytes = state.inodes[self.inode].live.get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let (mut state, mut ok) = self.disk.begin();
        let State { rng, full, dead, inodes, .. } = &mut *state;
        let inode = &mut inodes[self.inode];
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if *full && offset as usize + bytes.len() > inode.live.len() {
            ok = ok.and(Err(io::ErrorKind::StorageFull.into()));
        }
        if ok.is_err() {
            bytes.truncate(rng.random_range(0..=bytes.len()));
        }
        if !*dead && !bytes.is_empty() {
            inode.write(&bytes, offset as usize);
        }
        ok
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let (mut state, ok) = self.disk.begin();
        ok?;
        state.inodes[self.inode].truncate(size as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, ok) = self.disk.begin();
        let State { rng, lying, dead, inodes, .. } = &mut *state;
        let keep = if ok.is_ok() { 1.0 } else { [0.0, 0.5][rng.random_range(0..2)] };
        if !*dead && (!*lying || ok.is_err()) {
            inodes[self.inode].sync(keep, rng);
        }
        ok
    }
}
