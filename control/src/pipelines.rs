//! Pipelines: what they are, and the revisions of their definitions.
//!
//! A definition is kept as numbered revisions in the database. A revision's id serves as its commit: it is made of the pipeline, the
//! number, what it says and the revision before. Whoever saves may say which revision they began with; if it is no longer the head,
//! they are refused and told the head.

mod read;
mod write;

pub(crate) use self::read::Paging;
pub use self::read::{MAX_PAGE, Pipelines};
pub(crate) use self::write::{Changes, Draft, Save, Write, Written, kept_text, write};
