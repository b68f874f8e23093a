//! The store: two append-only logs are the truth, the index is a cache.
//!
//! Layers, each looking only down: [`disk`] (files, behind one small trait) → [`segment`] (an append-only log of frames) →
//! [`lines`] and [`events`] (the two logs) with [`index`] beside them; [`retention`] and [`inspect`] look at all of it. `indexed ≤ synced ≤ appended` holds for each log.

pub mod disk;
mod error;
pub mod events;
pub mod index;
pub mod inspect;
pub mod lines;
pub mod lock;
pub mod look;
pub mod meta;
mod parts;
pub mod retention;
pub mod segment;
pub mod slots;
mod space;

pub use error::StoreError;
pub use parts::{Logs, Parts};
pub use space::SpaceGate;

/// A place in a log: the count of bytes before it, over all segments that ever were. Frames begin at multiples of 8; no frame
/// begins at 0.
pub type Position = u64;
