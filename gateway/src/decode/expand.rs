//! Decompresses, never to more than is allowed and paid for.
//!
//! zstd's frames are decompressed whole, one after the other, straight into the buffer: unlike streaming, that needs no window
//! (up to 128 MiB, at the sender's choice) inside the context. Where the size is not known beforehand it is guessed, and tried
//! again with four times as much room: in all at most a third more work than the bound allows.

use std::io::{Cursor, Read};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{DCtx, find_frame_compressed_size, get_error_name, get_frame_content_size};

use super::pool::{Buffer, BufferPool};
use super::room::Room;
use super::{BatchBytes, Compression, DecodeError, error::Found};

/// The first guess at an unknown size, at least.
const GUESS: u64 = 64 << 10;
/// The least step of growth, so that a size of 0 that lies grows at all.
const SMALL_STEP: usize = 4 << 10;
/// What compressed text commonly decompresses to, times its own size.
const RATIO: u64 = 8;
const FRAME_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// zstd's errors are its error numbers as negative sizes.
const NO_ROOM: usize = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();

/// A guess at what the batch decompresses to; exact if the sender says it.
pub(super) fn expected(batch: &BatchBytes, limit: u64) -> u64 {
    let data = batch.data.len() as u64;
    let said = match (batch.compression, batch.raw_size) {
        (Compression::None, _) => Some(data),
        (_, 1..) => Some(u64::from(batch.raw_size)),
        (Compression::Zstd, 0) => get_frame_content_size(&batch.data).ok().flatten(),
        // Of the last member only, and mod 2^32; but one member under 4 GiB is what people send.
        (Compression::Gzip, 0) => batch.data.last_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
    };
    said.unwrap_or(data.saturating_mul(RATIO).max(GUESS)).min(limit)
}

/// The text of a batch in a buffer of its own.
pub(super) struct Expanded {
    pub(super) buffer: Buffer,
    /// The batch is one zstd frame and nothing else.
    pub(super) one_frame: bool,
}

/// Decompresses `batch`, which is compressed, to at most `limit` bytes, and checks its `raw_size`.
pub(super) fn expand(batch: &BatchBytes, limit: u64, pool: &Arc<BufferPool>, room: &mut Room) -> Result<Expanded, DecodeError> {
    let said = u64::from(batch.raw_size);
    if said > limit {
        return Err(DecodeError::TooLarge { limit });
    }
    let ceiling = usize::try_from(if said > 0 { said } else { limit }).unwrap_or(usize::MAX);
    let mut output = Output::new(ceiling, batch.raw_size, pool, room)?;
    let first = usize::try_from(expected(batch, limit)).unwrap_or(usize::MAX);
    let frames = match batch.compression {
        Compression::Zstd => pool.with_context(|context| zstd(&batch.data, first, context, &mut output))?,
        Compression::Gzip | Compression::None => gzip(&batch.data, first, &mut output)?,
    };
    let found = output.buffer.bytes.len();
    if found > ceiling {
        return Err(output.over());
    }
    if said > 0 && found as u64 != said {
        return Err(DecodeError::RawSize { said: batch.raw_size, found: Found::Exactly(found as u64) });
    }
    Ok(Expanded { buffer: output.buffer, one_frame: batch.compression == Compression::Zstd && frames == 1 })
}

/// A buffer that grows up to a ceiling, each step paid for first.
struct Output<'a> {
    buffer: Buffer,
    ceiling: usize,
    said: u32,
    pool: &'a Arc<BufferPool>,
    room: &'a mut Room,
}

impl<'a> Output<'a> {
    fn new(ceiling: usize, said: u32, pool: &'a Arc<BufferPool>, room: &'a mut Room) -> Result<Self, DecodeError> {
        room.take(BufferPool::size_for(0))?;
        Ok(Self { buffer: pool.buffer(0), ceiling, said, pool, room })
    }

    /// Makes the buffer large enough for `size` bytes in all, but for no more than the ceiling.
    fn reserve(&mut self, size: usize) -> Result<(), DecodeError> {
        let size = size.min(self.ceiling);
        let old = self.buffer.bytes.capacity();
        if size > old {
            self.room.take(BufferPool::size_for(size))?;
            let mut larger = self.pool.buffer(size);
            larger.bytes.extend_from_slice(&self.buffer.bytes);
            self.buffer = larger;
            self.room.give(old);
        }
        Ok(())
    }

    /// The error for text that goes on beyond the ceiling.
    fn over(&self) -> DecodeError {
        match self.said {
            0 => DecodeError::TooLarge { limit: self.ceiling as u64 },
            said => DecodeError::RawSize { said, found: Found::More },
        }
    }
}

/// Decompresses frame after frame; says how many there were.
fn zstd(data: &[u8], guess: usize, context: &mut DCtx<'static>, output: &mut Output<'_>) -> Result<u32, DecodeError> {
    let mut rest = data;
    let mut frames = 0;
    while !rest.is_empty() {
        let corrupt = |why: &str| corrupt("zstd", why, data.len() - rest.len(), data.len());
        if !rest.starts_with(&FRAME_MAGIC) && !is_skippable(rest) {
            return Err(corrupt("no frame begins here"));
        }
        let size = find_frame_compressed_size(rest).map_err(|code| corrupt(get_error_name(code)))?;
        let (frame, after) = rest.split_at_checked(size).ok_or_else(|| corrupt("the frame is cut off"))?;
        let done = output.buffer.bytes.len();
        let mut size = match get_frame_content_size(frame).map_err(|_| corrupt("the frame's header is damaged"))? {
            Some(size) if size > (output.ceiling - done) as u64 => return Err(output.over()),
            Some(size) => usize::try_from(size).map_err(|_| output.over())?,
            None => guess.max(frame.len()),
        };
        loop {
            output.reserve(done.saturating_add(size))?;
            match append(frame, context, &mut output.buffer) {
                Ok(()) if output.buffer.bytes.len() > output.ceiling => return Err(output.over()),
                Ok(()) => break,
                Err(NO_ROOM) if output.buffer.bytes.capacity() >= output.ceiling => return Err(output.over()),
                Err(NO_ROOM) => size = size.saturating_mul(4).max(SMALL_STEP),
                Err(code) => return Err(corrupt(get_error_name(code))),
            }
        }
        rest = after;
        frames += 1;
    }
    Ok(frames)
}

/// Decompresses one frame behind what the buffer holds, without growing it.
fn append(frame: &[u8], context: &mut DCtx<'static>, buffer: &mut Buffer) -> Result<(), usize> {
    let at = buffer.bytes.len();
    let mut target = Cursor::new(std::mem::take(&mut buffer.bytes));
    target.set_position(at as u64);
    let result = context.decompress(&mut target, frame);
    buffer.bytes = target.into_inner();
    if result.is_err() {
        buffer.bytes.truncate(at);
    }
    result.map(drop)
}

/// Frames that hold no text: 0x184D2A50 to 0x184D2A5F.
fn is_skippable(data: &[u8]) -> bool {
    matches!(data, [low, 0x2A, 0x4D, 0x18, ..] if low & 0xF0 == 0x50)
}

/// Decompresses member after member.
fn gzip(data: &[u8], guess: usize, output: &mut Output<'_>) -> Result<u32, DecodeError> {
    let mut members = MultiGzDecoder::new(data);
    // One byte more than expected, so that the end is found without growing.
    output.reserve(guess.saturating_add(1))?;
    let mut filled = 0;
    loop {
        let end = output.buffer.bytes.capacity().min(output.ceiling);
        output.buffer.bytes.resize(end, 0);
        if filled == end && end < output.ceiling {
            output.reserve(end.saturating_mul(2))?;
            continue;
        }
        let mut beyond = [0];
        let target = if filled < end { output.buffer.bytes.get_mut(filled..).unwrap_or_default() } else { &mut beyond };
        let read = members.read(target).map_err(|error| {
            let left = members.get_ref().len();
            corrupt("gzip", &error.to_string(), data.len() - left, data.len())
        })?;
        if read == 0 {
            output.buffer.bytes.truncate(filled);
            return Ok(1);
        }
        if filled == end {
            return Err(output.over());
        }
        filled += read;
    }
}

fn corrupt(compression: &'static str, why: &str, at: usize, length: usize) -> DecodeError {
    DecodeError::Corrupt { compression, why: why.into(), at: at as u64, length: length as u64 }
}
