//! Decompresses, never to more than is allowed and paid for.
//!
//! zstd's frames are decompressed whole, one after the other, straight into the buffer: unlike streaming, that needs no window
//! (up to 128 MiB, at the sender's choice) inside the context. Where the size is not known beforehand it is guessed, and if that
//! was too little all is done again with four times as much room: in all at most a third more work than the bound allows.

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
/// What compressed text commonly decompresses to, times its own size.
const RATIO: u64 = 8;
/// What deflate decompresses to at most, times its own size.
const DEFLATE_RATIO: u64 = 1032;
const FRAME_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// zstd's errors are its error numbers as negative sizes.
const NO_ROOM: usize = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();

/// A guess at what the batch decompresses to, made without looking further than its first header or last trailer.
pub(super) fn expected(batch: &BatchBytes, limit: u64) -> u64 {
    let data = batch.data.len() as u64;
    let said = match (batch.compression, batch.raw_size) {
        (Compression::None, _) => Some(data),
        (_, 1..) => Some(u64::from(batch.raw_size)),
        (Compression::Zstd, 0) => get_frame_content_size(&batch.data).ok().flatten(),
        // Of the last member only, and mod 2^32; but one member under 4 GiB is what people send.
        (Compression::Gzip, 0) => batch.data.last_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
    };
    // A size that cannot be, is not believed: a buffer for gzip is filled with zeros first.
    let most = if batch.compression == Compression::Gzip { data.saturating_mul(DEFLATE_RATIO).max(GUESS) } else { limit };
    said.unwrap_or_else(|| guess(data)).min(most).min(limit)
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
    let ceiling = if said > 0 { said } else { limit };
    let over = || match batch.raw_size {
        0 => DecodeError::TooLarge { limit },
        said => DecodeError::RawSize { said, found: Found::More },
    };
    let mut size = match (batch.compression, said) {
        (Compression::Zstd, 0) => {
            let sizes = zstd_sizes(&batch.data)?;
            if sizes.known > ceiling {
                return Err(over());
            }
            sizes.known.saturating_add(guess(sizes.unknown))
        }
        _ => expected(batch, limit),
    };
    loop {
        let capacity = BufferPool::size_for(to_size(size.min(ceiling)));
        room.take(capacity)?;
        let mut buffer = pool.buffer(capacity);
        let frames = match batch.compression {
            Compression::Zstd => pool.with_context(|context| zstd(&batch.data, context, &mut buffer.bytes))?,
            Compression::Gzip | Compression::None => gzip(&batch.data, &mut buffer.bytes)?,
        };
        let found = buffer.bytes.len() as u64;
        match frames {
            Some(_) if found > ceiling => return Err(over()),
            Some(_) if said > 0 && found != said => {
                return Err(DecodeError::RawSize { said: batch.raw_size, found: Found::Exactly(found) });
            }
            Some(frames) => {
                return Ok(Expanded { buffer, one_frame: batch.compression == Compression::Zstd && frames == 1 });
            }
            None if capacity as u64 >= ceiling => return Err(over()),
            // From the beginning: so only one buffer is held at a time, and all the smaller ones cost a third of the last.
            None => {
                drop(buffer);
                room.give(capacity);
                size = (capacity as u64).saturating_mul(4);
            }
        }
    }
}

/// What compressed bytes of unknown content most likely decompress to.
fn guess(compressed: u64) -> u64 {
    if compressed == 0 { 0 } else { compressed.saturating_mul(RATIO).max(GUESS) }
}

fn to_size(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// What zstd frames say of their content.
#[derive(Default)]
struct Sizes {
    /// The sum of the sizes that are said.
    known: u64,
    /// The compressed bytes of the frames that do not say it.
    unknown: u64,
}

fn zstd_sizes(data: &[u8]) -> Result<Sizes, DecodeError> {
    frames(data).try_fold(Sizes::default(), |sum, frame| {
        let (at, frame) = frame?;
        let content = get_frame_content_size(frame);
        Ok(match content.map_err(|_| corrupt("zstd", "the frame's header is damaged", at, data.len()))? {
            Some(size) => Sizes { known: sum.known.saturating_add(size), ..sum },
            None => Sizes { unknown: sum.unknown + frame.len() as u64, ..sum },
        })
    })
}

/// The frames of `data` and where they begin, found by their headers; ends after the first error.
fn frames(data: &[u8]) -> impl Iterator<Item = Result<(usize, &[u8]), DecodeError>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let begin = std::mem::take(&mut rest);
        let at = data.len() - begin.len();
        if begin.is_empty() {
            return None;
        }
        if !begin.starts_with(&FRAME_MAGIC) && !is_skippable(begin) {
            return Some(Err(corrupt("zstd", "no frame begins here", at, data.len())));
        }
        match find_frame_compressed_size(begin).map(|size| begin.split_at_checked(size)) {
            Ok(Some((frame, after))) => {
                rest = after;
                Some(Ok((at, frame)))
            }
            Ok(None) => Some(Err(corrupt("zstd", "the frame is cut off", at, data.len()))),
            Err(code) => Some(Err(corrupt("zstd", get_error_name(code), at, data.len()))),
        }
    })
}

/// Decompresses frame after frame into `output`, which does not grow; says how many there were, or `None` if it was too small.
fn zstd(data: &[u8], context: &mut DCtx<'static>, output: &mut Vec<u8>) -> Result<Option<u32>, DecodeError> {
    let mut count = 0;
    for frame in frames(data) {
        let (at, frame) = frame?;
        let filled = output.len();
        let mut target = Cursor::new(std::mem::take(output));
        target.set_position(filled as u64);
        let result = context.decompress(&mut target, frame);
        *output = target.into_inner();
        match result {
            Ok(_) => count += 1,
            Err(NO_ROOM) => return Ok(None),
            Err(code) => return Err(corrupt("zstd", get_error_name(code), at, data.len())),
        }
    }
    Ok(Some(count))
}

/// Frames that hold no text: 0x184D2A50 to 0x184D2A5F.
fn is_skippable(data: &[u8]) -> bool {
    matches!(data, [low, 0x2A, 0x4D, 0x18, ..] if low & 0xF0 == 0x50)
}

/// Decompresses all members as one into `output`, which does not grow; `None` if it was too small.
fn gzip(data: &[u8], output: &mut Vec<u8>) -> Result<Option<u32>, DecodeError> {
    let mut members = MultiGzDecoder::new(data);
    output.resize(output.capacity(), 0);
    let mut filled = 0;
    loop {
        let mut beyond = [0];
        let target = output.get_mut(filled..).filter(|rest| !rest.is_empty()).unwrap_or(&mut beyond);
        let read = members.read(target).map_err(|error| {
            let left = members.get_ref().len();
            corrupt("gzip", &error.to_string(), data.len() - left, data.len())
        })?;
        if read == 0 {
            output.truncate(filled);
            return Ok(Some(1));
        }
        if filled == output.len() {
            return Ok(None);
        }
        filled += read;
    }
}

fn corrupt(compression: &'static str, why: &str, at: usize, length: usize) -> DecodeError {
    DecodeError::Corrupt { compression, why: why.into(), at: at as u64, length: length as u64 }
}
