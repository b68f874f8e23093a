//! An append-only log of frames, kept in a folder of segment files. The line log and the event log are both one of these.
//!
//! Seven verbs: append and roll ([`LogWriter`], one thread a log), sync, read, scan (which follows the end) and trim
//! ([`SegmentLog`], any thread), recover ([`SegmentLog::open`]). What the frames mean is the business of the two logs.
//!
//! Always `synced ≤ appended`: a reader may see all that is appended, nothing may be acknowledged that is not synced, and an
//! index of the log covers at most what is synced (`indexed ≤ synced`). After a failed sync nothing is known of what is on
//! disk, so the log is *poisoned*: it refuses appends and syncs until it is opened anew; reads go on.
//!
//! [`mod@format`] is the layout of the files.

mod files;
pub mod format;
mod heads;
mod log;
mod recover;
mod scan;
mod writer;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::Position;
use crate::clock::{Clock, Millis};

pub use format::MAX_BODY_BYTES;
pub use heads::{FrameHead, HeadScanned, Heads};
pub use log::SegmentLog;
pub use recover::Recovery;
pub use scan::Scan;
pub use writer::LogWriter;

/// Which of the store's two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogKind {
    /// The line log.
    Lines = 1,
    /// The event log.
    Events = 2,
}

/// What a log is opened with.
#[derive(Clone)]
pub struct SegmentOptions {
    /// Which log it is.
    pub kind: LogKind,
    /// A segment that has grown to this size gets a successor. One append never spans two segments.
    pub segment_bytes: u64,
    /// The store it belongs to; segments of another store are refused.
    pub store_id: u128,
    /// How often the store has been opened; raised at each open. A frame of a later one is damage.
    pub incarnation: u64,
    /// Tells when frames are received.
    pub clock: Clock,
}

/// What a frame holds. The values are the two logs' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameKind(pub u8);

impl FrameKind {
    /// Whether a reader that does not know this kind must stop; else it passes the frame over.
    #[must_use]
    pub fn must_be_understood(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// A frame to append.
#[derive(Debug, Clone, Copy)]
pub struct FrameDraft<'a> {
    /// What it holds.
    pub kind: FrameKind,
    /// Its body, in pieces that lie one after the other; at most [`MAX_BODY_BYTES`] in all.
    pub parts: &'a [Bytes],
}

/// A frame as it was stored; its checksums fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins.
    pub position: Position,
    /// Where the next frame (or segment) begins.
    pub next: Position,
    /// What it holds.
    pub kind: FrameKind,
    /// How often the store had been opened when it was appended.
    pub incarnation: u64,
    /// When it was appended, in Unix milliseconds. Never goes back within a log.
    pub received: Millis,
    /// What it holds, as the two logs lay it out.
    pub body: Bytes,
}

/// What is found on a way through a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scanned {
    /// A frame.
    Frame(Frame),
    /// Bytes that are no frame. They are kept as they are.
    Damage {
        /// Where they begin.
        from: Position,
        /// Where what follows them begins.
        to: Position,
        /// What is wrong with them.
        why: &'static str,
    },
}

/// One file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Where it begins.
    pub start: Position,
    /// Where it ends; the next one begins there.
    pub end: Position,
    /// When its newest frame was received, in Unix milliseconds; `Millis::MIN` if there was none yet, here or before.
    pub newest: Millis,
}
