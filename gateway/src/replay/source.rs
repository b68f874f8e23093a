//! Where readers find lines.

use std::sync::Arc;

use crate::block::Block;
use crate::id::StepRunId;
use crate::store::StoreError;
use crate::store::index::StreamRecord;
use crate::store::lines::{BlockRef, StreamTail, TailBlock};

/// A store of log streams, as readers see it. Every call may touch files or the index: make them off the runtime's threads.
pub trait LineSource: Send + Sync + 'static {
    /// The stream's tail; one for each stream as long as anyone holds it, also for a stream without a line yet.
    ///
    /// # Errors
    /// The index could not be read.
    fn tail(&self, step_run: &StepRunId) -> Result<Arc<StreamTail>, StoreError>;

    /// What is known of the stream, with all that readers may see of it counted in; nothing before its first block.
    ///
    /// # Errors
    /// The index could not be read.
    fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError>;

    /// The block that holds `line`, if any, and those that follow it (gaps of unknown size that stand at `line` or later too),
    /// in the order of their places; at most `limit`, and fewer only if there are no more.
    ///
    /// The tail's snapshot is taken before the index is asked, so that a block which moves from one to the other is found.
    ///
    /// # Errors
    /// The index could not be read.
    fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<TailBlock>, StoreError>;

    /// The block at a place.
    ///
    /// # Errors
    /// It is damaged, has been removed by retention, or could not be read.
    fn read(&self, place: &BlockRef) -> Result<Block, StoreError>;

    /// The store's epoch: raised when it opens after a power loss that may have taken back lines that were shown.
    fn epoch(&self) -> u32;
}
