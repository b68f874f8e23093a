//! Going through the headers of a log's frames: for those who count frames or cut ranges of them, without reading the bodies.

use super::format::FrameHeader;
use super::scan::{Scan, SegmentScan};
use super::{FrameKind, SegmentLog};
use crate::clock::Millis;
use crate::store::{Position, StoreError};

/// How much of a body comes with the header.
const KEPT: usize = 64;

/// A frame whose header is sound. Its body is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHead {
    /// Where it begins.
    pub position: Position,
    /// Where the next frame (or segment) begins.
    pub next: Position,
    /// What it holds.
    pub kind: FrameKind,
    /// When it was appended, in Unix milliseconds.
    pub received: Millis,
    /// The body's length.
    pub len: usize,
    pub(super) start: [u8; KEPT],
    pub(super) kept: usize,
}

/// What is found on a way through the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadScanned {
    /// A frame.
    Frame(FrameHead),
    /// Bytes that are no frame.
    Damage {
        /// Where they begin.
        from: Position,
        /// Where what follows them begins.
        to: Position,
        /// What is wrong with them.
        why: &'static str,
    },
}

impl FrameHead {
    pub(super) fn new(header: &FrameHeader) -> Self {
        let (position, next, kind, received, len) = (header.position, header.next(), header.kind, header.received, header.len);
        Self { position, next, kind, received, len, start: [0; KEPT], kept: len.min(KEPT) }
    }

    /// The first 64 bytes of the body, or all of a shorter one.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.start[..self.kept]
    }
}

/// A way through a log's headers; see [`SegmentLog::heads`].
pub struct Heads(Scan);

impl SegmentLog {
    /// As [`SegmentLog::scan`], of headers: a frame whose body is damaged comes like any other.
    #[must_use]
    pub fn heads(&self, from: Position, until: Position) -> Heads {
        Heads(self.scan(from, until))
    }
}

impl Iterator for Heads {
    type Item = Result<HeadScanned, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(SegmentScan::next_head)
    }
}
