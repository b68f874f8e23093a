//! The line log: blocks of lines, written by one thread, synced by another, indexed after the sync.

mod tail;

pub use tail::{BlockRef, FeederGuard, ReaderGuard, StreamTail, TailBlock, TailSnapshot};
