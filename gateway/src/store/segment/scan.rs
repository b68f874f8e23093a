//! Going through a log frame by frame, past damage, in bounded memory: the way of recovery, of readers that follow the end,
//! and of reindexing.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::files::Files;
use super::format::{ALIGNMENT, FRAME_HEADER, FrameHeader};
use super::heads::FrameHead;
use super::log::{Segment, Shared, finish, first_frame};
use super::{HeadScanned, Scanned};
use crate::clock::Millis;
use crate::store::disk::DiskFile;
use crate::store::{Position, StoreError};

/// How much of a file is read at a time. A frame that does not fit is read on its own.
const WINDOW: usize = 256 << 10;

/// As much, where only headers are looked at.
const HEAD_WINDOW: usize = 16 << 10;

/// A way through a log; see [`super::SegmentLog::scan`].
pub struct Scan {
    shared: Arc<Shared>,
    at: Position,
    until: Position,
    segment: Option<SegmentScan>,
}

impl Scan {
    pub(super) fn new(shared: Arc<Shared>, from: Position, until: Position) -> Self {
        Self { shared, at: from, until, segment: None }
    }

    /// The next that `next` finds in the segments. After a failure the way ends.
    pub(super) fn step<T>(
        &mut self,
        next: impl Fn(&mut SegmentScan, &Files) -> Result<Option<T>, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let item = self.try_step(next).transpose();
        if let Some(Err(_)) = item {
            self.until = self.at;
        }
        item
    }

    fn try_step<T>(
        &mut self,
        next: impl Fn(&mut SegmentScan, &Files) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        while self.at < self.until {
            let mut segment = match self.segment.take() {
                Some(segment) => segment,
                None => self.enter()?,
            };
            if let Some(item) = next(&mut segment, &self.shared.files)? {
                self.segment = Some(segment);
                return Ok(Some(item));
            }
            self.at = segment.to;
        }
        Ok(None)
    }

    fn enter(&self) -> Result<SegmentScan, StoreError> {
        let (base, file) = self.shared.locate(self.at)?;
        let segments = self.shared.segments.load();
        let next = segments.partition_point(|segment| segment.base <= base);
        let end = segments.get(next).map_or(self.until, |next| next.base.min(self.until));
        Ok(SegmentScan::new(file, base, self.at..end))
    }
}

impl Iterator for Scan {
    type Item = Result<Scanned, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(SegmentScan::next)
    }
}

/// A way through one segment.
pub(super) struct SegmentScan {
    file: Arc<dyn DiskFile>,
    base: Position,
    at: Position,
    to: Position,
    /// The incarnation of the newest frame so far: an older one behind it is stale.
    incarnation: u64,
    /// What was last read of the file, from `window_at`.
    window: Vec<u8>,
    window_at: Position,
    window_bytes: usize,
}

impl SegmentScan {
    /// A way through what lies in `range` of the segment that begins at `base`.
    pub(super) fn new(file: Arc<dyn DiskFile>, base: Position, range: Range<Position>) -> Self {
        Self {
            file,
            base,
            at: range.start,
            to: range.end,
            incarnation: 0,
            window: Vec::new(),
            window_at: range.start,
            window_bytes: WINDOW,
        }
    }

    /// The next frame or damage.
    pub(super) fn next(&mut self, files: &Files) -> Result<Option<Scanned>, StoreError> {
        if let Some((from, to, why)) = self.begin(files)? {
            return Ok(Some(Scanned::Damage { from, to, why }));
        }
        if self.at >= self.to {
            return Ok(None);
        }
        let from = self.at;
        let header = self.header(files, from)?;
        let frame = match header {
            Ok(header) => match self.body(files, &header)? {
                Some(body) => finish(&header, body),
                None => Err("the file ends inside the frame"),
            },
            Err(why) => Err(why),
        };
        Ok(Some(match frame {
            Ok(frame) => {
                self.at = frame.next;
                self.incarnation = frame.incarnation;
                Scanned::Frame(frame)
            }
            Err(why) => {
                self.at = self.resume(files, header.ok())?;
                Scanned::Damage { from, to: self.at, why }
            }
        }))
    }

    /// Passes the segment's header, if it lies ahead; says what is wrong with it.
    fn begin(&mut self, files: &Files) -> Result<Option<(Position, Position, &'static str)>, StoreError> {
        let (from, first) = (self.at, first_frame(self.base));
        if from >= first {
            return Ok(None);
        }
        self.at = first;
        let sound = files.header(&*self.file, self.base)?.is_some();
        Ok((!sound).then_some((from, first, "the segment's header is not what was written")))
    }

    /// The next frame's header and the beginning of its body, which is not checked, or damage.
    pub(super) fn next_head(&mut self, files: &Files) -> Result<Option<HeadScanned>, StoreError> {
        // Smaller reads: most of a large frame is passed over.
        self.window_bytes = HEAD_WINDOW;
        if let Some((from, to, why)) = self.begin(files)? {
            return Ok(Some(HeadScanned::Damage { from, to, why }));
        }
        if self.at >= self.to {
            return Ok(None);
        }
        let from = self.at;
        let header = match self.header(files, from)? {
            Ok(header) => header,
            Err(why) => {
                self.at = self.resume(files, None)?;
                return Ok(Some(HeadScanned::Damage { from, to: self.at, why }));
            }
        };
        let mut head = FrameHead::new(&header);
        let kept = head.kept;
        let bytes = self.view(files, from, FRAME_HEADER + kept)?;
        // The file cannot be shorter than a frame that was appended; if it is, reading the frame finds that out.
        let bytes = bytes.get(FRAME_HEADER..FRAME_HEADER + kept).unwrap_or_default();
        head.kept = bytes.len();
        head.start[..bytes.len()].copy_from_slice(bytes);
        self.at = head.next;
        self.incarnation = header.incarnation;
        Ok(Some(HeadScanned::Frame(head)))
    }

    /// Where a sound header follows the damage at `self.at`; the end if none does. If the damaged frame's own header is sound,
    /// the place that it names is looked at first.
    fn resume(&mut self, files: &Files, damaged: Option<FrameHeader>) -> Result<Position, StoreError> {
        let mut at = self.at + ALIGNMENT;
        if let Some(header) = damaged {
            let next = header.next();
            if next == self.to || (next < self.to && self.header(files, next)?.is_ok()) {
                return Ok(next);
            }
            at = self.at + FRAME_HEADER as u64;
        }
        at = at.next_multiple_of(ALIGNMENT);
        while self.view(files, at, FRAME_HEADER)?.len() >= FRAME_HEADER {
            if self.header(files, at)?.is_ok() {
                return Ok(at);
            }
            at += ALIGNMENT;
        }
        Ok(self.to)
    }

    /// The header of a frame that begins at `at` and ends before the scan does.
    fn header(&mut self, files: &Files, at: Position) -> Result<Result<FrameHeader, &'static str>, StoreError> {
        let bytes = self.view(files, at, FRAME_HEADER)?;
        let header = files.identity.decode_frame(bytes, at);
        Ok(header.and_then(|header| {
            if header.next() > self.to {
                Err("the frame is longer than what is left of the log")
            } else if header.incarnation < self.incarnation {
                Err("the frame is left over from an earlier incarnation of the store")
            } else {
                Ok(header)
            }
        }))
    }

    /// The body of a frame; `None` if the file ends before it does.
    fn body(&mut self, files: &Files, header: &FrameHeader) -> Result<Option<Bytes>, StoreError> {
        let at = header.position + FRAME_HEADER as u64;
        if FRAME_HEADER + header.len <= WINDOW {
            // From the header on, so that a frame at the window's end is read once more as a whole.
            let frame = self.view(files, header.position, FRAME_HEADER + header.len)?;
            return Ok(frame.get(FRAME_HEADER..FRAME_HEADER + header.len).map(Bytes::copy_from_slice));
        }
        let mut body = vec![0; header.len];
        let read = files.read(&*self.file, self.base, at, &mut body)?;
        Ok((read == body.len()).then(|| Bytes::from(body)))
    }

    /// At least `len` bytes from `at`; fewer only at the end of the file or the scan.
    fn view(&mut self, files: &Files, at: Position, len: usize) -> Result<&[u8], StoreError> {
        let offset = at.checked_sub(self.window_at).map_or(usize::MAX, |offset| usize::try_from(offset).unwrap_or(usize::MAX));
        if offset.saturating_add(len) <= self.window.len() {
            return Ok(&self.window[offset..]);
        }
        let left = usize::try_from(self.to.saturating_sub(at)).unwrap_or(usize::MAX);
        self.window.resize(left.min(self.window_bytes), 0);
        self.window_at = at;
        let read = files.read(&*self.file, self.base, at, &mut self.window)?;
        self.window.truncate(read);
        Ok(&self.window)
    }
}

/// When the last frame that lies wholly before `end` in the segment that begins at `base` was received: a search backwards from `end`.
/// `None` if there is no frame.
pub(super) fn last_received(
    files: &Files,
    file: &dyn DiskFile,
    base: Position,
    end: Position,
) -> Result<Option<Millis>, StoreError> {
    let first = first_frame(base);
    let mut window = vec![0; WINDOW];
    let mut high = end;
    while high > first {
        let low = high.saturating_sub((WINDOW - FRAME_HEADER) as u64).next_multiple_of(ALIGNMENT).max(first);
        let read = files.read(file, base, low, &mut window)?;
        let mut at = (high - 1) / ALIGNMENT * ALIGNMENT;
        while at >= low {
            let offset = usize::try_from(at - low).unwrap_or(usize::MAX);
            if let Some(Ok(header)) = window[..read].get(offset..).map(|bytes| files.identity.decode_frame(bytes, at))
                && header.next() <= end
            {
                return Ok(Some(header.received));
            }
            at -= ALIGNMENT;
        }
        high = low;
    }
    Ok(None)
}

/// When the newest frame of a segment that has a successor was received, or the newest before it if it has none. `None` if that
/// cannot be read.
pub(super) fn newest(shared: &Shared, segments: &[Arc<Segment>], index: usize) -> Option<Millis> {
    let segment = &segments[index];
    if let Some(newest) = segment.newest.get() {
        return Some(*newest);
    }
    let files = &shared.files;
    let next = segments.get(index + 1)?.base;
    let newest = match files.open(next) {
        Ok((_, Some(header))) => header.newest_before,
        _ => {
            let (file, header) = files.open(segment.base).ok()?;
            let last = last_received(files, &*file, segment.base, next).ok()?;
            last.or(header.map(|header| header.newest_before))?
        }
    };
    Some(*segment.newest.get_or_init(|| newest))
}
