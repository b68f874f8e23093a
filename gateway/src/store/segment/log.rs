//! What all threads share of a log: where it begins and ends, its segments, and the verbs sync, read, scan and trim.

#![expect(clippy::disallowed_types, reason = "one sync, and one trim, at a time; appends and reads take neither")]

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::files::Files;
use super::format::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER};
use super::scan::{self, Scan};
use super::{Frame, SegmentInfo};
use crate::clock::Millis;
use crate::store::disk::DiskFile;
use crate::store::{Position, StoreError};

/// How much the first read of a frame takes: an event lies in it whole, a block needs one more read, of exactly the rest.
const FIRST_READ: usize = 4096;

/// One segment, as the table of segments knows it.
pub(super) struct Segment {
    pub(super) base: Position,
    /// When the newest frame in it was received, once known.
    pub(super) newest: OnceLock<Millis>,
}

impl Segment {
    pub(super) fn new(base: Position) -> Arc<Self> {
        Arc::new(Self { base, newest: OnceLock::new() })
    }
}

/// The segment that is appended to.
pub(super) struct Active {
    pub(super) base: Position,
    pub(super) file: Arc<dyn DiskFile>,
}

pub(super) struct Shared {
    pub(super) files: Files,
    /// Oldest first, never empty; the last one is the active one.
    pub(super) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(super) active: ArcSwap<Active>,
    /// Where the oldest segment begins.
    pub(super) start: AtomicU64,
    /// The end of what readers may see. Moved by the writer only.
    pub(super) appended: AtomicU64,
    /// The end of what is on stable storage. `synced ≤ appended`.
    pub(super) synced: AtomicU64,
    /// When the newest frame was received. Moved by the writer only.
    pub(super) newest: AtomicI64,
    /// See [`SegmentLog::records`].
    pub(super) records: AtomicU64,
    /// Held by whoever syncs a file, so that no sync is taken for good that came after a failed one.
    pub(super) syncing: Mutex<()>,
    /// Held by whoever trims.
    pub(super) trimming: Mutex<()>,
    pub(super) poisoned: OnceLock<Arc<str>>,
}

impl Shared {
    /// The end of a segment: where the next one begins, or the end of the log.
    pub(super) fn end_of(&self, segments: &[Arc<Segment>], index: usize) -> Position {
        segments.get(index + 1).map_or_else(|| self.appended.load(Ordering::Acquire), |next| next.base)
    }

    /// The segment that holds `position`: where it begins and an open handle.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] if retention has removed it; a failure to open it.
    pub(super) fn locate(&self, position: Position) -> Result<(Position, Arc<dyn DiskFile>), StoreError> {
        let active = self.active.load();
        if position >= active.base {
            return Ok((active.base, Arc::clone(&active.file)));
        }
        let segments = self.segments.load();
        let index = segments.partition_point(|segment| segment.base <= position);
        if index == 0 || position < self.start.load(Ordering::Acquire) {
            return Err(StoreError::Trimmed(position));
        }
        let base = segments[index - 1].base;
        match self.files.handle(base) {
            Ok(file) => Ok((base, file)),
            // It may have been trimmed meanwhile: `start` moves before the file is unlinked.
            Err(_) if position < self.start.load(Ordering::Acquire) => Err(StoreError::Trimmed(position)),
            Err(error) => Err(error),
        }
    }

    /// Ends acceptance, because of `error`.
    pub(super) fn poison(&self, error: StoreError) -> StoreError {
        let why = error.to_string();
        let _ = self.poisoned.set(why.strip_prefix("cannot ").unwrap_or(&why).into());
        error
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.poisoned.get().map_or(Ok(()), |why| Err(StoreError::Poisoned { why: Arc::clone(why) }))
    }

    /// See [`SegmentLog::sync`].
    pub(super) fn sync(&self) -> Result<Position, StoreError> {
        let _syncing = self.syncing.lock();
        self.check()?;
        // The writer syncs a segment before it leaves it, and makes the next one active before it moves `appended` there: the
        // active file holds all between `synced` and the end that is read here first.
        let end = self.appended.load(Ordering::Acquire);
        let synced = self.synced.load(Ordering::Acquire);
        assert!(synced <= end, "synced up to {synced}, past the end {end}");
        if synced < end {
            let active = self.active.load_full();
            self.sync_file(&active)?;
            self.synced.store(end, Ordering::Release);
        }
        Ok(end)
    }

    /// Syncs a file; a failure poisons. The caller holds `syncing`.
    pub(super) fn sync_file(&self, active: &Active) -> Result<(), StoreError> {
        active.file.sync_data().map_err(|error| {
            // Not `Files::error`: a sync that failed for want of space must not be tried again either.
            self.poison(StoreError::io("sync", &self.files.path(active.base), error))
        })
    }
}

/// A log, to be read, synced and trimmed by any thread. Cloning shares it.
#[derive(Clone)]
pub struct SegmentLog {
    pub(super) shared: Arc<Shared>,
}

impl SegmentLog {
    /// Where the oldest segment begins.
    #[must_use]
    pub fn start(&self) -> Position {
        self.shared.start.load(Ordering::Acquire)
    }

    /// The end of what is appended: a write that covers it has returned.
    #[must_use]
    pub fn appended(&self) -> Position {
        self.shared.appended.load(Ordering::Acquire)
    }

    /// The end of what is synced; at most [`SegmentLog::appended`].
    #[must_use]
    pub fn synced(&self) -> Position {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// How many records (lines, gaps, ends of logs, events) have been appended since the log was opened.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.shared.records.load(Ordering::Relaxed)
    }

    /// Counts records for [`SegmentLog::records`]; whoever appends frames knows what they hold.
    pub fn count_records(&self, records: u64) {
        self.shared.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Returns once all that was appended before the call is on stable storage, and says where that ends. Appends go on
    /// meanwhile.
    ///
    /// # Errors
    /// A failed sync poisons the log; a poisoned log refuses.
    pub fn sync(&self) -> Result<Position, StoreError> {
        self.shared.sync()
    }

    /// Reads the frame at `position`.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] if retention has removed it, [`StoreError::Damaged`] if there is no sound frame, a failed read.
    pub fn read(&self, position: Position) -> Result<Frame, StoreError> {
        let files = &self.shared.files;
        let end = self.appended();
        let (base, file) = self.shared.locate(position)?;
        let damaged = |why| files.damaged(base, position, why);
        if position >= end {
            return Err(damaged("the log ends before it"));
        }
        let mut first = [0; FIRST_READ];
        let read = files.read(&*file, base, position, &mut first)?;
        let header = files.identity.decode_frame(&first[..read], position).map_err(damaged)?;
        let body = &first[FRAME_HEADER..read];
        let body = if header.len <= body.len() {
            Bytes::copy_from_slice(&body[..header.len])
        } else if header.next() <= end {
            let mut whole = vec![0; header.len];
            whole[..body.len()].copy_from_slice(body);
            let got = files.read(&*file, base, position + read as u64, &mut whole[body.len()..])?;
            if body.len() + got < header.len {
                return Err(damaged("the file ends inside the frame"));
            }
            Bytes::from(whole)
        } else {
            return Err(damaged("the log ends inside the frame"));
        };
        finish(&header, body).map_err(damaged)
    }

    /// Goes through the log from `from` to `until` (or to the end of what is appended now): each frame that begins there, and
    /// damage between them, in order. Holds a small buffer and one frame at a time. `from` is where a frame or a segment
    /// begins or ends, or [`SegmentLog::start`].
    ///
    /// A step may fail; [`StoreError::Trimmed`] says that retention has removed what comes next. After a failure it ends.
    #[must_use]
    pub fn scan(&self, from: Position, until: Position) -> Scan {
        Scan::new(Arc::clone(&self.shared), from, until.min(self.appended()))
    }

    /// Unlinks the segments that end at or before `before`, oldest first, never the newest. Readers that have one open finish.
    /// Returns where the log begins now.
    ///
    /// # Errors
    /// A file could not be unlinked; it stays part of the log, and the same call may be made again. A folder that could not be
    /// synced poisons.
    pub fn trim(&self, before: Position) -> Result<Position, StoreError> {
        let shared = &*self.shared;
        let _trimming = shared.trimming.lock();
        loop {
            let segments = shared.segments.load_full();
            let [oldest, second, ..] = segments.as_slice() else { break };
            if second.base > before {
                break;
            }
            shared.start.store(second.base, Ordering::Release);
            let path = shared.files.path(oldest.base);
            if let Err(error) = shared.files.disk.remove(&path) {
                shared.start.store(oldest.base, Ordering::Release);
                return Err(shared.files.error("remove", oldest.base, error));
            }
            shared.segments.rcu(|now| now.iter().skip_while(|segment| segment.base <= oldest.base).cloned().collect::<Vec<_>>());
            shared.files.forget(oldest.base);
            // One by one, so that a crash never leaves an older segment without its successor.
            shared.files.sync_dir().map_err(|error| shared.poison(error))?;
        }
        Ok(self.start())
    }

    /// The segments, oldest first. The first call reads a few bytes of each; what cannot be read counts as new as what follows
    /// it, so that it is not thought older than it is.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.shared.segments.load_full();
        let mut newest_after = self.shared.newest.load(Ordering::Acquire);
        let mut infos: Vec<_> = (0..segments.len())
            .rev()
            .map(|index| {
                let end = self.shared.end_of(&segments, index);
                if index + 1 < segments.len() {
                    newest_after = scan::newest(&self.shared, &segments, index).unwrap_or(newest_after);
                }
                SegmentInfo { start: segments[index].base, end, newest: newest_after }
            })
            .collect();
        infos.reverse();
        infos
    }

    /// The error for a frame at `position` that is sound but whose body cannot be read by those it is for.
    #[must_use]
    pub fn damaged(&self, position: Position, why: &'static str) -> StoreError {
        let base = self.shared.locate(position).map_or(position, |(base, _)| base);
        self.shared.files.damaged(base, position, why)
    }

    /// Ends acceptance until the log is opened anew. `why` ends the sentence "it could not …".
    pub fn poison(&self, why: impl Into<Arc<str>>) {
        let _ = self.shared.poisoned.set(why.into());
    }

    /// Why the log refuses input, if it does.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.shared.poisoned.get().cloned()
    }
}

/// A frame of its header and body, if they belong together.
pub(super) fn finish(header: &FrameHeader, body: Bytes) -> Result<Frame, &'static str> {
    if crc32c::crc32c(&body) != header.body_crc {
        return Err("the frame's body is not what was written");
    }
    Ok(Frame {
        position: header.position,
        next: header.next(),
        kind: header.kind,
        incarnation: header.incarnation,
        received: header.received,
        body,
    })
}

/// Where the first frame of the segment that begins at `base` lies.
pub(super) fn first_frame(base: Position) -> Position {
    base + SEGMENT_HEADER
}
