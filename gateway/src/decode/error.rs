//! Why a batch cannot be read.

/// A batch that is not taken. The text follows the name of the batch. [`DecodeError::is_retryable`] says whether the same
/// batch may be taken later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It decompresses to too much.
    #[error("decompresses to more than the {limit} bytes that are allowed; send smaller batches")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// Its lines differ in too much beside their text.
    #[error("changes its records' time, level, stream or plugin more than {limit} times; send smaller batches")]
    TooManyRuns {
        /// The bound.
        limit: u64,
    },
    /// The bytes are not compressed as it says.
    #[error("data is not whole {compression}: {why} (from byte {at} of {length} on); compress it again")]
    Corrupt {
        /// How it should be compressed.
        compression: &'static str,
        /// What is wrong.
        why: Box<str>,
        /// Where the part begins that is wrong, in the compressed bytes.
        at: u64,
        /// How many compressed bytes there are.
        length: u64,
    },
    /// `raw_size` is another size than the real one.
    #[error("raw_size says {said} bytes, but data has {found}; send the size before compression, or 0")]
    RawSize {
        /// What it says.
        said: u32,
        /// What there is.
        found: Found,
    },
    /// No such compression.
    #[error("compression {0} is unknown; use NONE (1), GZIP (2) or ZSTD (3)")]
    UnknownCompression(i32),
    /// No such format.
    #[error("format {0} is unknown; use TEXT (1) or RECORDS (2)")]
    UnknownFormat(i32),
    /// No such output.
    #[error("stream is unknown; use \"stdout\", \"stderr\" or leave it empty")]
    UnknownStream,
    /// A short text is too long.
    #[error("{field} has {bytes} bytes; at most {limit} are allowed")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The bytes are no `LogRecords`.
    #[error("data is no LogRecords message: {0}; encode it again, or send format TEXT")]
    NotRecords(&'static str),
    /// One of its records cannot be read.
    #[error("record {number} {why}")]
    Record {
        /// Which one, from 1.
        number: u64,
        /// What is wrong with it; boxed, since it is rare.
        why: Box<DecodeError>,
    },
    /// There is not enough memory in the budget at this moment.
    #[error("needs {needed} bytes of memory, which are not free at this moment; send it again")]
    Memory {
        /// How much it needs, as far as it got.
        needed: u64,
    },
    /// Decoding was broken off: the gateway is stopping.
    #[error("was not read, because the gateway is stopping; send it again when it is back")]
    Interrupted,
}

/// How many bytes there are, as far as that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// So many.
    Exactly(u64),
    /// More than there should be; how many was not looked at.
    More,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "{bytes}"),
            Self::More => f.write_str("more"),
        }
    }
}

impl DecodeError {
    /// Whether the same batch may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Interrupted)
    }
}
