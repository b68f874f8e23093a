//! From the bytes of a batch to pieces that can be stored: bound, decompress, count lines.
//!
//! [`Decoder::run`] takes memory from the budget, `expand` decompresses into a pooled buffer, `cut` shortens overlong lines and
//! `records` reads the format of that name, `pieces` cuts what is over a block's size. All of it runs in the connection's own
//! task, or, for a large batch, on a thread that may block. No lock is taken and nothing is allocated per line.

mod batch;
mod count;
mod cut;
mod decoder;
mod error;
mod expand;
mod pieces;
mod pool;
mod records;
mod room;
#[cfg(test)]
mod tests;
mod wire;

pub use batch::{BatchBytes, Compression, DecodeLimits, Decoded, Format, Piece, parse_stream};
pub use count::count_in_passing;
pub use decoder::Decoder;
pub use error::{DecodeError, Found};
pub use pool::BufferPool;
