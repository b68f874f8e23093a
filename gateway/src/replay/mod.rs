//! Replay: every line of a step run once, in order, from history and live, to any number of readers.
//!
//! A reader is a [`cursor`] (step run, next line) over a [`source`]. What it finds becomes a [`page`], a page becomes JSON
//! ([`encode`], [`escape`]), and [`ws`] sends that to WebSocket clients. A slow reader only falls behind: it keeps its place
//! and one buffer, nothing of the store. What the store does not have is asked of an [`archive`].

pub mod archive;
pub mod cursor;
pub mod encode;
pub mod escape;
#[cfg(test)]
mod fake;
mod metrics;
pub mod page;
mod pool;
pub mod source;
#[cfg(test)]
mod tests;
pub mod ws;

pub use source::LineSource;
pub use ws::{Replay, ReplaySettings};
