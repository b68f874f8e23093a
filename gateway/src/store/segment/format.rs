//! The layout of a log's files. All numbers are little-endian.
//!
//! A log is a folder of segments. A segment's name is the position of its first byte in 20 decimal digits, and `.seg`. The
//! byte at offset `o` of the segment that begins at `p` has the position `p + o`; the next segment begins where it ends.
//!
//! Segment header, 64 bytes. Its place, its size and its first and last field are the same in every format:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `ARCGATE\0` |
//! | 8 | 4 | format: [`FORMAT`] |
//! | 12 | 1 | which log: 1 lines, 2 events |
//! | 13 | 3 | 0 |
//! | 16 | 16 | store id |
//! | 32 | 8 | position of the segment's first byte |
//! | 40 | 8 | when the newest frame before this segment was received, Unix ms; the least `i64` if there was none |
//! | 48 | 12 | 0 |
//! | 60 | 4 | CRC32C of bytes 0 to 59 |
//!
//! Frame, at a multiple of 8:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length of the body in bytes, at most 128 MiB |
//! | 4 | 1 | kind; with the high bit set it must be understood |
//! | 5 | 3 | 0 |
//! | 8 | 8 | the frame's own position, so that stale bytes are never taken for a frame |
//! | 16 | 8 | incarnation: how often the store had been opened when the frame was appended |
//! | 24 | 8 | received, Unix ms; never less than in an earlier frame |
//! | 32 | 4 | CRC32C of the body |
//! | 36 | 4 | CRC32C of store id (16), log (1) and bytes 0 to 35; what a client sends cannot be crafted to pass for a header |
//! | 40 | length | body |
//! | | 0–7 | 0, up to a multiple of 8 |

use std::path::Path;

use super::{FrameKind, LogKind};
use crate::clock::Millis;
use crate::store::{Position, StoreError};

/// The format that this release writes.
pub const FORMAT: u32 = 1;
/// The oldest format that this release reads.
pub const OLDEST_FORMAT: u32 = 1;
/// The largest body of a frame.
pub const MAX_BODY_BYTES: usize = 128 << 20;
/// Frames begin at multiples of this.
pub const ALIGNMENT: u64 = 8;

/// Size of the header of a segment.
pub const SEGMENT_HEADER: u64 = 64;
/// Size of the header of a frame.
pub const FRAME_HEADER: usize = 40;

const MAGIC: &[u8; 8] = b"ARCGATE\0";
const SUFFIX: &str = ".seg";

/// The name of the segment that begins at `base`.
#[must_use]
pub fn file_name(base: Position) -> String {
    format!("{base:020}{SUFFIX}")
}

/// Where the segment of that name begins; `None` if it is no segment's name.
#[must_use]
pub fn parse_name(name: &str) -> Option<Position> {
    let base = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(base) == name && base % ALIGNMENT == 0).then_some(base)
}

/// `position` raised to a multiple of [`ALIGNMENT`].
#[must_use]
pub fn align(position: Position) -> Position {
    position.next_multiple_of(ALIGNMENT)
}

/// What the header of a segment says beside what its log knows anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Where the segment begins.
    pub base: Position,
    /// When the newest frame before it was received; `Millis::MIN` if there was none.
    pub newest_before: Millis,
}

/// What identifies a log in its files.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    kind: LogKind,
    store_id: u128,
    /// The newest incarnation that a frame may have.
    pub incarnation: u64,
    seed: u32,
}

/// The header of a frame whose checksum fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of the body.
    pub len: usize,
    /// What the body is.
    pub kind: FrameKind,
    /// Where the frame begins.
    pub position: Position,
    /// The incarnation that appended it.
    pub incarnation: u64,
    /// When.
    pub received: Millis,
    /// CRC32C of the body.
    pub body_crc: u32,
}

impl FrameHeader {
    /// Where the next frame begins.
    #[must_use]
    pub fn next(&self) -> Position {
        align(self.position + (FRAME_HEADER + self.len) as u64)
    }
}

impl Identity {
    /// The identity of a log.
    #[must_use]
    pub fn new(kind: LogKind, store_id: u128, incarnation: u64) -> Self {
        let seed = crc32c::crc32c_append(crc32c::crc32c(&store_id.to_le_bytes()), &[kind as u8]);
        Self { kind, store_id, incarnation, seed }
    }

    /// The bytes of a segment's header.
    #[must_use]
    pub fn encode_segment(&self, header: &SegmentHeader) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[16..32].copy_from_slice(&self.store_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&header.base.to_le_bytes());
        bytes[40..48].copy_from_slice(&header.newest_before.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment that begins at `base`. `None` if it is damaged: the frames behind it may be sound.
    ///
    /// # Errors
    /// The header is sound, but of a format that this release cannot read, or of another log.
    pub fn decode_segment(&self, bytes: &[u8], base: Position, path: &Path) -> Result<Option<SegmentHeader>, StoreError> {
        let Some((bytes, _)) = bytes.split_at_checked(SEGMENT_HEADER as usize) else { return Ok(None) };
        if &bytes[..8] != MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Ok(None);
        }
        let found = u32_at(bytes, 8);
        if !(OLDEST_FORMAT..=FORMAT).contains(&found) {
            return Err(StoreError::Version { path: path.to_owned(), found, oldest: OLDEST_FORMAT, newest: FORMAT });
        }
        let why = if bytes[12] != self.kind as u8 {
            "the file belongs to another log; put it back where it was"
        } else if bytes[16..32] != self.store_id.to_le_bytes() {
            "the file belongs to another store; put it back where it was"
        } else if u64_at(bytes, 32) != base {
            "the file has been renamed; give it back its name"
        } else {
            return Ok(Some(SegmentHeader { base, newest_before: u64_at(bytes, 40).cast_signed() }));
        };
        Err(StoreError::Damaged { path: path.to_owned(), position: base, why })
    }

    /// Appends the bytes of a frame's header to `out`.
    pub fn encode_frame(&self, header: &FrameHeader, out: &mut Vec<u8>) {
        let mut bytes = [0; FRAME_HEADER];
        // A body is at most MAX_BODY_BYTES long, so its length fits.
        bytes[..4].copy_from_slice(&(header.len as u32).to_le_bytes());
        bytes[4] = header.kind.0;
        bytes[8..16].copy_from_slice(&header.position.to_le_bytes());
        bytes[16..24].copy_from_slice(&header.incarnation.to_le_bytes());
        bytes[24..32].copy_from_slice(&header.received.to_le_bytes());
        bytes[32..36].copy_from_slice(&header.body_crc.to_le_bytes());
        let crc = crc32c::crc32c_append(self.seed, &bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Reads the header of a frame at `position`, or says what is wrong with it.
    pub fn decode_frame(&self, bytes: &[u8], position: Position) -> Result<FrameHeader, &'static str> {
        let Some((bytes, _)) = bytes.split_at_checked(FRAME_HEADER) else { return Err("the file ends inside a frame's header") };
        // The cheapest test first: a search tries it at every multiple of 8.
        if u64_at(bytes, 8) != position || u32_at(bytes, 36) != crc32c::crc32c_append(self.seed, &bytes[..36]) {
            return Err("no frame begins there");
        }
        let header = FrameHeader {
            len: u32_at(bytes, 0) as usize,
            kind: FrameKind(bytes[4]),
            position,
            incarnation: u64_at(bytes, 16),
            received: u64_at(bytes, 24).cast_signed(),
            body_crc: u32_at(bytes, 32),
        };
        if header.len > MAX_BODY_BYTES {
            return Err("the frame is longer than any may be");
        }
        if header.incarnation > self.incarnation {
            return Err("the frame is from a later incarnation of the store than this one");
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
