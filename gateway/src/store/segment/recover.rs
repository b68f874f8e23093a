//! Opening a log: find where it ends, cut what is torn, and make what is left durable before anyone is told of it.

#![expect(clippy::disallowed_types, reason = "makes the two locks of a log")]

use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::files::Files;
use super::format::{self, Identity};
use super::log::{Active, Segment, SegmentLog, Shared, first_frame};
use super::scan::{SegmentScan, last_received};
use super::{LogWriter, Scanned, SegmentOptions};
use crate::clock::Millis;
use crate::store::disk::{Disk, DiskFile};
use crate::store::{Position, StoreError};

/// How much is read and written at a time when the log's last bytes are written again.
const REWRITE_BYTES: usize = 1 << 20;

/// What opening a log has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Where the log begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
    /// Where the scan began.
    pub scanned_from: Position,
    /// How many frames it found.
    pub frames: u64,
    /// How many damaged regions it found.
    pub damages: u64,
    /// How many bytes lay behind the last frame and were cut off.
    pub cut_bytes: u64,
    /// `scan_from` lay past the log's end: whatever it came from knows of frames that are lost, and must be made anew. The scan
    /// began at the start.
    pub index_ahead: bool,
}

impl SegmentLog {
    /// Opens the log in the folder `dir`, or creates it.
    ///
    /// What follows the last sound frame is cut off; the newest segment from `scan_from` on is written again at the same place
    /// and synced, because after a failed sync of an earlier process the page cache may hold what the disk does not. (Older
    /// segments need not: each was synced before its successor was created.) Only then `on_item` is called, for each frame and
    /// each damaged region from `scan_from` on, in order: all that it is told of is synced. `scan_from` may lie before the log's start.
    /// Segments wholly before it are not looked at.
    ///
    /// # Errors
    /// A failure of the disk or of `on_item`; a segment of an unknown format, or of another store or log.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SegmentOptions,
        scan_from: Position,
        on_item: &mut dyn FnMut(Scanned) -> Result<(), StoreError>,
    ) -> Result<(Self, LogWriter, Recovery), StoreError> {
        let identity = Identity::new(options.kind, options.store_id, options.incarnation);
        disk.create_dir_all(dir).map_err(|error| StoreError::io("create", dir, error))?;
        let files = Files::new(disk, dir.to_owned(), identity);
        let bases = files.list()?;
        let start = bases.first().copied().unwrap_or(0);
        let newest_segment = NewestSegment::open(&files, &bases, scan_from)?;
        let NewestSegment { base, file, end, newest, cut_bytes } = newest_segment;

        let index_ahead = scan_from > end;
        let scanned_from = if index_ahead { start } else { scan_from.max(start) };
        let bases = if bases.is_empty() { vec![base] } else { bases };
        let log = Self::of(files, bases, Active { base, file }, end, newest);
        let mut recovery = Recovery { start, end, scanned_from, cut_bytes, index_ahead, ..Recovery::default() };
        for item in log.scan(scanned_from, end) {
            let item = item?;
            match &item {
                Scanned::Frame(_) => recovery.frames += 1,
                Scanned::Damage { .. } => recovery.damages += 1,
            }
            on_item(item)?;
        }
        let writer = LogWriter::new(Arc::clone(&log.shared), options);
        Ok((log, writer, recovery))
    }

    /// Opens the log in the folder `dir` to be read only, and changes nothing: what follows the last sound frame stays there.
    /// `None` if there is no log. Of `options`, the incarnation is that of the store's last opening.
    ///
    /// # Errors
    /// A failure of the disk; a segment of an unknown format, or of another store or log.
    pub fn look(disk: Arc<dyn Disk>, dir: &Path, options: &SegmentOptions) -> Result<Option<(Self, Recovery)>, StoreError> {
        let identity = Identity::new(options.kind, options.store_id, options.incarnation);
        let files = Files::new(disk, dir.to_owned(), identity);
        let bases = match files.list() {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            bases => bases?,
        };
        let (Some(&start), Some(&base)) = (bases.first(), bases.last()) else { return Ok(None) };
        let (file, header) = files.open(base)?;
        let size = file.size().map_err(|error| files.error("read", base, error))?;
        let (end, newest) = find_end(&files, &file, base, base, size)?;
        let newest = newest.or(header.map(|header| header.newest_before)).unwrap_or(Millis::MIN);
        let cut_bytes = (base + size).saturating_sub(end);
        let recovery = Recovery { start, end, scanned_from: base, cut_bytes, ..Recovery::default() };
        Ok(Some((Self::of(files, bases, Active { base, file }, end, newest), recovery)))
    }

    /// The log of these segments, of which the last one is the active one.
    fn of(files: Files, bases: Vec<Position>, active: Active, end: Position, newest: Millis) -> Self {
        let start = bases.first().copied().unwrap_or(active.base);
        let shared = Shared {
            files,
            segments: ArcSwap::from_pointee(bases.into_iter().map(Segment::new).collect()),
            active: ArcSwap::from_pointee(active),
            start: AtomicU64::new(start),
            appended: AtomicU64::new(end),
            synced: AtomicU64::new(end),
            newest: AtomicI64::new(newest),
            records: AtomicU64::new(0),
            syncing: Mutex::new(()),
            trimming: Mutex::new(()),
            poisoned: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }
}

/// The newest segment, its end found and made durable.
struct NewestSegment {
    base: Position,
    file: Arc<dyn DiskFile>,
    end: Position,
    /// When the log's newest frame was received.
    newest: Millis,
    cut_bytes: u64,
}

impl NewestSegment {
    fn open(files: &Files, bases: &[Position], scan_from: Position) -> Result<Self, StoreError> {
        let Some((&base, before)) = bases.split_last() else {
            let file = files.create(0, Millis::MIN)?;
            file.sync_data().map_err(|error| files.error("sync", 0, error))?;
            files.sync_dir()?;
            return Ok(Self { base: 0, file, end: first_frame(0), newest: Millis::MIN, cut_bytes: 0 });
        };
        let (file, header) = files.open(base)?;
        let size = file.size().map_err(|error| files.error("read", base, error))?;
        let from = if scan_from > base + size { base } else { scan_from.max(base) };
        let (end, newest) = find_end(files, &file, base, from, size)?;
        let newest = match (newest, &header) {
            (Some(newest), _) => newest,
            (None, Some(header)) => header.newest_before,
            (None, None) => newest_of(files, before, base)?,
        };

        if base + size > end {
            file.truncate(end - base).map_err(|error| files.error("truncate", base, error))?;
            file.sync_data().map_err(|error| files.error("sync", base, error))?;
        }
        if header.is_none() {
            files.write_header(&*file, base, newest_of(files, before, base)?)?;
        }
        rewrite(files, &*file, base, from.max(base), end)?;
        file.sync_data().map_err(|error| files.error("sync", base, error))?;
        files.sync_dir()?;
        Ok(Self { base, file, end, newest, cut_bytes: (base + size).saturating_sub(end) })
    }
}

/// Where the last sound frame from `from` on ends (or the segment's header, or `from`), and when the newest frame of the segment was
/// received, if it has any.
fn find_end(
    files: &Files,
    file: &Arc<dyn DiskFile>,
    base: Position,
    from: Position,
    size: u64,
) -> Result<(Position, Option<Millis>), StoreError> {
    let mut end = from.max(first_frame(base));
    let mut newest = None;
    let mut scan = SegmentScan::new(Arc::clone(file), base, format::align(from)..base + size);
    while let Some(item) = scan.next(files)? {
        if let Scanned::Frame(frame) = item {
            end = frame.next;
            newest = Some(frame.received);
        }
    }
    if newest.is_none() {
        newest = last_received(files, &**file, base, end.min(base + size))?;
    }
    Ok((end, newest))
}

/// When the newest frame of the segments `bases`, which end at `end`, was received.
fn newest_of(files: &Files, bases: &[Position], mut end: Position) -> Result<Millis, StoreError> {
    for &base in bases.iter().rev() {
        let (file, header) = files.open(base)?;
        let last = last_received(files, &*file, base, end)?;
        if let Some(newest) = last.or(header.map(|header| header.newest_before)) {
            return Ok(newest);
        }
        end = base;
    }
    Ok(Millis::MIN)
}

/// Writes what lies from `from` to `end` again, at the same place.
fn rewrite(files: &Files, file: &dyn DiskFile, base: Position, from: Position, end: Position) -> Result<(), StoreError> {
    let mut buffer = vec![0; REWRITE_BYTES];
    let mut at = from;
    while at < end {
        let len = usize::try_from(end - at).map_or(REWRITE_BYTES, |left| left.min(REWRITE_BYTES));
        let read = files.read(file, base, at, &mut buffer[..len])?;
        if read == 0 {
            break;
        }
        let mut parts = [IoSlice::new(&buffer[..read])];
        file.write_all_at(&mut parts, at - base).map_err(|error| files.error("write to", base, error))?;
        at += read as u64;
    }
    Ok(())
}
