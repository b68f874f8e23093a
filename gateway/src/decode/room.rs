//! The memory that decoding one batch may use.

use bytes::Bytes;

use super::DecodeError;
use super::pool::Buffer;
use crate::budget::Permit;

/// What is taken is taken from a permit, which grows while the budget has some left, up to a bound of this batch's own.
pub(super) struct Room {
    permit: Permit,
    used: u64,
    most: u64,
}

impl Room {
    /// Room for what `permit` has, and for up to `most` if the budget has it.
    pub(super) fn new(permit: Permit, most: u64) -> Self {
        Self { permit, used: 0, most }
    }

    /// Takes `bytes`, before they are allocated.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let needed = self.used + bytes as u64;
        let more = needed.saturating_sub(self.permit.bytes());
        if needed > self.most || (more > 0 && !self.permit.try_grow(more)) {
            return Err(DecodeError::Memory { needed });
        }
        self.used = needed;
        Ok(())
    }

    /// Gives `bytes` back for this batch's further use.
    pub(super) fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes as u64);
    }

    /// What is still taken; the rest goes back.
    pub(super) fn into_permit(mut self) -> Permit {
        self.permit.shrink_to(self.used);
        self.permit
    }
}

/// Whose bytes a batch's pieces are.
pub(super) enum Owner {
    /// The message that was received.
    Received(Bytes),
    /// A pooled buffer.
    Pooled(Buffer),
}

impl Owner {
    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Pooled(buffer) => &buffer.bytes,
        }
    }

    /// The bytes to keep; a pooled buffer goes back to its pool with the last of them.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Received(bytes) => bytes,
            Self::Pooled(buffer) => Bytes::from_owner(buffer),
        }
    }

    /// What it costs to hold it.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Received(bytes) => bytes.len(),
            Self::Pooled(buffer) => buffer.bytes.capacity(),
        }
    }
}
