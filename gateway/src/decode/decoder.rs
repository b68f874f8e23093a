//! Reads batches: the order of the steps, the memory and the thread for each.

use std::sync::Arc;

use super::batch::check_length;
use super::cut::{append_cut, count_lines, first_too_long};
use super::expand::{expand, expected};
use super::pieces::{Text, cut, saturated};
use super::pool::BufferPool;
use super::room::{Owner, Room};
use super::{BatchBytes, Compression, DecodeError, DecodeLimits, Decoded, Format, Piece, records};
use crate::block::{Codec, MAX_RAW_BYTES, Run};
use crate::budget::{Budget, Permit};

/// Compressed batches over this size are decoded on a thread that may block.
const LARGE_DATA: usize = 256 << 10;
/// So are those that need more memory than this.
const LARGE_RAW: u64 = 1 << 20;
/// Smaller text is compressed better together with what follows than passed on as it came.
const PASS_THROUGH_BYTES: usize = 16 << 10;

/// Reads batches. Cloning is cheap; any number of connections may share one.
#[derive(Clone)]
pub struct Decoder {
    limits: DecodeLimits,
    pool: Arc<BufferPool>,
    budget: Budget,
}

impl Decoder {
    /// A decoder that takes memory for batches from `budget`. That must not be the budget of the messages on their way in:
    /// those are held while this is waited for.
    #[must_use]
    pub fn new(limits: DecodeLimits, pool: Arc<BufferPool>, budget: Budget) -> Self {
        let line_bytes = limits.line_bytes.clamp(1, DecodeLimits::MAX_LINE_BYTES);
        // Text is counted in u32, lines too.
        let raw_bytes = limits.raw_bytes.min(u64::from(u32::MAX) / 2);
        Self { limits: DecodeLimits { raw_bytes, line_bytes }, pool, budget }
    }

    /// Whether to decode the batch could block a runtime's thread for too long. Where the size is not known and turns out to be
    /// large, [`Decoder::run`] still finds out in time.
    #[must_use]
    pub fn is_large(&self, batch: &BatchBytes) -> bool {
        self.needed(batch) > LARGE_RAW || (batch.compression != Compression::None && batch.data.len() > LARGE_DATA)
    }

    /// Decodes a batch: waits until there is memory for it, and moves it to a blocking thread if it is large. To drop the
    /// future is to give up the batch.
    ///
    /// # Errors
    /// The batch breaks a limit or is not what it says; see [`DecodeError::is_retryable`].
    pub async fn run(&self, batch: &BatchBytes) -> Result<Decoded, DecodeError> {
        let mut want = self.needed(batch);
        if !self.is_large(batch) {
            let permit = self.budget.take(want).await;
            match self.decode_in(batch, Room::new(permit, LARGE_RAW)) {
                Err(DecodeError::Memory { needed }) => want = want.max(needed),
                done => return done,
            }
        }
        loop {
            let permit = self.budget.take(want).await;
            let whole = permit.bytes() == self.budget.total();
            let (decoder, batch) = (self.clone(), batch.clone());
            match tokio::task::spawn_blocking(move || decoder.decode(&batch, permit)).await {
                Ok(Err(DecodeError::Memory { .. })) if whole => {
                    return Err(DecodeError::TooLarge { limit: self.budget.total() });
                }
                // Others have the rest. All that it had is free again: so they do not wait for each other.
                Ok(Err(DecodeError::Memory { needed })) => want = needed.max(want.saturating_mul(2)),
                Ok(done) => return done,
                Err(_) => return Err(DecodeError::Interrupted),
            }
        }
    }

    /// Decodes a batch here and now, with the memory of `permit` and, as far as the budget has it at this moment, more. What
    /// the batch does not keep goes back before this returns.
    ///
    /// # Errors
    /// As [`Decoder::run`], and [`DecodeError::Memory`] if there is not enough.
    pub fn decode(&self, batch: &BatchBytes, permit: Permit) -> Result<Decoded, DecodeError> {
        self.decode_in(batch, Room::new(permit, u64::MAX))
    }

    /// A guess at the memory that the batch needs.
    fn needed(&self, batch: &BatchBytes) -> u64 {
        let raw = expected(batch, self.limits.raw_bytes);
        let buffer = BufferPool::size_for(usize::try_from(raw).unwrap_or(usize::MAX)) as u64;
        match (batch.compression, batch.format) {
            (Compression::None, Format::Text) => raw,
            (_, Format::Text) => buffer,
            (_, Format::Records) => 2 * buffer,
        }
    }

    fn decode_in(&self, batch: &BatchBytes, mut room: Room) -> Result<Decoded, DecodeError> {
        check_length(&batch.level, &batch.plugin)?;
        let (owner, one_frame) = self.raw(batch, &mut room)?;
        let text = match batch.format {
            Format::Text if first_too_long(owner.as_slice(), self.limits.line_bytes).is_some() => {
                self.shorten(&owner, batch, &mut room)?
            }
            Format::Text => {
                let lines = count_lines(owner.as_slice());
                let size = owner.as_slice().len();
                let pays = batch.data.len() < size && (PASS_THROUGH_BYTES..=MAX_RAW_BYTES).contains(&size);
                if one_frame && pays {
                    return pass_through(batch, owner, lines, room);
                }
                let runs = vec![run(batch, lines, false)];
                return Ok(cut(Text { owner, runs, lines, truncated: 0 }, room));
            }
            Format::Records => records::read(owner.as_slice(), batch, &self.limits, &self.pool, &mut room)?,
        };
        room.give(owner.cost());
        drop(owner);
        Ok(cut(text, room))
    }

    /// The batch's bytes, decompressed; and whether they are one zstd frame.
    fn raw(&self, batch: &BatchBytes, room: &mut Room) -> Result<(Owner, bool), DecodeError> {
        let limit = self.limits.raw_bytes;
        let length = batch.data.len() as u64;
        if batch.compression != Compression::None && length > 0 {
            let expanded = expand(batch, limit, &self.pool, room)?;
            return Ok((Owner::Pooled(expanded.buffer), expanded.one_frame));
        }
        if length > limit {
            return Err(DecodeError::TooLarge { limit });
        }
        if batch.raw_size != 0 && u64::from(batch.raw_size) != length {
            let found = super::Found::Exactly(length);
            return Err(DecodeError::RawSize { said: batch.raw_size, found });
        }
        room.take(batch.data.len())?;
        Ok((Owner::Received(batch.data.clone()), false))
    }

    /// Writes the text anew, its long lines cut, each in a run of its own.
    fn shorten(&self, owner: &Owner, batch: &BatchBytes, room: &mut Room) -> Result<Text, DecodeError> {
        let raw = owner.as_slice();
        room.take(BufferPool::size_for(raw.len()))?;
        let mut buffer = self.pool.buffer(raw.len());
        let mut text = Text { owner: Owner::Received(bytes::Bytes::new()), runs: Vec::new(), lines: 0, truncated: 0 };
        // At most two a cut line, each of which was longer than the limit; what the limit is too small for, is refused.
        let most = usize::try_from(self.limits.raw_bytes).unwrap_or(usize::MAX) / size_of::<Run>();
        append_cut(raw, self.limits.line_bytes, &mut buffer.bytes, |stretch| {
            text.lines += stretch.lines;
            text.truncated += u32::from(stretch.truncated);
            if text.runs.len() <= most {
                text.runs.push(run(batch, stretch.lines, stretch.truncated));
            }
        });
        if text.runs.len() > most {
            return Err(DecodeError::TooManyRuns { limit: most as u64 });
        }
        room.take(text.runs.capacity() * 2 * size_of::<Run>())?;
        text.owner = Owner::Pooled(buffer);
        Ok(text)
    }
}

/// The batch as it came; its text was only needed to count the lines.
fn pass_through(batch: &BatchBytes, owner: Owner, lines: usize, mut room: Room) -> Result<Decoded, DecodeError> {
    let text = owner.as_slice();
    let (raw_bytes, ends_with_newline) = (text.len(), text.ends_with(b"\n"));
    room.give(owner.cost());
    drop(owner);
    room.take(batch.data.len())?;
    let piece = Piece {
        lines: saturated(lines),
        raw_bytes: saturated(raw_bytes),
        codec: Codec::Zstd,
        bytes: batch.data.clone(),
        runs: vec![run(batch, lines, false)],
        ends_with_newline,
    };
    let memory = room.into_permit();
    Ok(Decoded { pieces: vec![piece], lines: lines as u64, raw_bytes: raw_bytes as u64, truncated: 0, memory })
}

fn run(batch: &BatchBytes, lines: usize, truncated: bool) -> Run {
    Run {
        lines: saturated(lines),
        time: batch.time,
        stream: batch.stream,
        truncated,
        level: Arc::clone(&batch.level),
        plugin: Arc::clone(&batch.plugin),
        agent: batch.agent.clone(),
        seq: batch.seq,
    }
}
