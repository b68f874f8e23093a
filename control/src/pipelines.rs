//! Pipelines: what they are, and the revisions of their definitions.
//!
//! A definition is kept as numbered revisions in the database. A revision's id serves as its commit: it is made of the pipeline, the
//! number, what it says and the revision before. Whoever saves may say which revision they began with; if it is no longer the head,
//! they are refused and told the head.
//!
//! Where the pipeline has a repository, the file there is what counts: it is read before each run that somebody begins, whenever
//! something happens to the repository's project, and every minute; what was read is kept as a revision, with the commit. Whoever saves
//! writes the file, in a commit of its own, or in one on a new branch.

mod read;
mod repositories;
mod write;

pub(crate) use self::read::Paging;
pub use self::read::{MAX_PAGE, Pipelines};
pub use self::repositories::Repositories;
pub(crate) use self::repositories::{NotSynced, Pushed};
pub(crate) use self::write::{Changes, Draft, Save, Write, Written, commit_of, kept_text, write};
