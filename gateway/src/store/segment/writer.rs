//! Appending: one vectored write for all frames of a call, and a new segment when the old one is full.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::format::{ALIGNMENT, FRAME_HEADER, FrameHeader, MAX_BODY_BYTES, SEGMENT_HEADER};
use super::log::{Active, Segment, Shared, first_frame};
use super::{FrameDraft, SegmentOptions};
use crate::clock::{Clock, Millis};
use crate::store::{Position, StoreError};

/// Appends to a log; there is one of them for each.
pub struct LogWriter {
    shared: Arc<Shared>,
    active: Arc<Active>,
    segment_bytes: u64,
    clock: Clock,
    end: Position,
    newest: Millis,
    /// The headers of one append, each behind the padding of the frame before it. Kept to be reused.
    headers: Vec<u8>,
}

impl LogWriter {
    pub(super) fn new(shared: Arc<Shared>, options: SegmentOptions) -> Self {
        let active = shared.active.load_full();
        let end = shared.appended.load(Ordering::Acquire);
        let newest = shared.newest.load(Ordering::Acquire);
        let SegmentOptions { segment_bytes, clock, .. } = options;
        Self { shared, active, segment_bytes, clock, end, newest, headers: Vec::new() }
    }

    /// Where the next frame goes, unless a new segment is begun for it.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Appends `frames` in one write, and their positions to `positions`. Readers see all of them once it returns, and none if
    /// it fails: what a failed write has left is cut off durably.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the disk is, and other failures of the disk: the same call may be made again. If what a failed
    /// write has left could not be cut off, the log is poisoned; a poisoned log refuses. A body over [`MAX_BODY_BYTES`] is refused.
    pub fn append(&mut self, frames: &[FrameDraft<'_>], positions: &mut Vec<Position>) -> Result<(), StoreError> {
        self.shared.check()?;
        let mut size = 0;
        let mut slices = 1;
        for frame in frames {
            let len: usize = frame.parts.iter().map(|part| part.len()).sum();
            if len > MAX_BODY_BYTES {
                let error = format!("a frame of {len} bytes is longer than any may be ({MAX_BODY_BYTES} bytes)");
                let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
                return Err(self.shared.files.error("write to", self.active.base, error));
            }
            size += (FRAME_HEADER + len).next_multiple_of(ALIGNMENT as usize) as u64;
            slices += 1 + frame.parts.len();
        }
        if frames.is_empty() {
            return Ok(());
        }
        if self.end > first_frame(self.active.base) && self.end - self.active.base + size > self.segment_bytes {
            self.roll()?;
        }
        let received = self.clock.now().max(self.newest);
        let first = positions.len();
        self.encode_headers(frames, received, positions);
        let mut parts = Vec::with_capacity(slices);
        let mut rest = self.headers.as_slice();
        let mut padding = 0;
        for frame in frames {
            let (header, after) = rest.split_at(padding + FRAME_HEADER);
            rest = after;
            parts.push(IoSlice::new(header));
            parts.extend(frame.parts.iter().map(|part| IoSlice::new(part)));
            padding = padding_after(frame.parts.iter().map(|part| part.len()).sum());
        }
        parts.push(IoSlice::new(rest));
        if let Err(error) = self.active.file.write_all_at(&mut parts, self.end - self.active.base) {
            positions.truncate(first);
            return Err(self.take_back(error));
        }
        self.end += size;
        self.newest = received;
        self.shared.newest.store(received, Ordering::Release);
        self.shared.appended.store(self.end, Ordering::Release);
        Ok(())
    }

    fn encode_headers(&mut self, frames: &[FrameDraft<'_>], received: Millis, positions: &mut Vec<Position>) {
        let identity = &self.shared.files.identity;
        self.headers.clear();
        let mut position = self.end;
        for frame in frames {
            let mut len = 0;
            let mut body_crc = 0;
            for part in frame.parts {
                len += part.len();
                body_crc = crc32c::crc32c_append(body_crc, part);
            }
            let incarnation = identity.incarnation;
            let header = FrameHeader { len, kind: frame.kind, position, incarnation, received, body_crc };
            identity.encode_frame(&header, &mut self.headers);
            self.headers.resize(self.headers.len() + padding_after(len), 0);
            positions.push(position);
            position = header.next();
        }
    }

    /// Cuts off what a failed write has left. Durably: else it could come back at a crash, behind what is appended next.
    fn take_back(&self, error: std::io::Error) -> StoreError {
        let _syncing = self.shared.syncing.lock();
        let Active { base, file } = &*self.active;
        if let Err(error) = file.truncate(self.end - base) {
            return self.shared.poison(self.shared.files.error("truncate", *base, error));
        }
        match self.shared.check().and_then(|()| self.shared.sync_file(&self.active)) {
            Ok(()) => self.shared.files.error("write to", *base, error),
            Err(error) => error,
        }
    }

    /// Ends the active segment and begins the next.
    fn roll(&mut self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        shared.sync()?;
        let base = self.end;
        let file = match shared.files.create(base, self.newest) {
            Ok(file) => file,
            // Not to be left behind: the active segment may still grow past `base`.
            Err(error) => return Err(shared.files.remove(base).map_or_else(|left| shared.poison(left), |()| error)),
        };
        shared.files.sync_dir().map_err(|error| shared.poison(error))?;

        shared.files.keep(self.active.base, &self.active.file);
        let segment = Segment::new(base);
        shared.segments.rcu(|now| {
            let mut segments = Vec::clone(now);
            if let Some(last) = segments.last() {
                let _ = last.newest.set(self.newest);
            }
            segments.push(Arc::clone(&segment));
            segments
        });
        self.active = Arc::new(Active { base, file });
        shared.active.store(Arc::clone(&self.active));
        self.end = base + SEGMENT_HEADER;
        shared.appended.store(self.end, Ordering::Release);
        Ok(())
    }
}

fn padding_after(len: usize) -> usize {
    (FRAME_HEADER + len).next_multiple_of(ALIGNMENT as usize) - FRAME_HEADER - len
}
