//! The memory that all readers share: room for pages, and buffers to use again.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::page::{PAGE_BYTES, Page};
use crate::block::lines::LineReader;

const UNIT: usize = 64 << 10;
/// What a load may need: a block's text, what went before it in the page, and what is kept of each line.
const LOAD_UNITS: usize = 80;
/// How many buffers of a kind are kept for use again.
const SPARE: usize = 8;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Pool {
    room: Arc<Semaphore>,
    pages: ArrayQueue<Page>,
    readers: ArrayQueue<LineReader>,
}

impl Pool {
    /// A pool whose pages take at most `bytes`, but always enough for one.
    pub(super) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(LOAD_UNITS, Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(units)), pages: ArrayQueue::new(SPARE), readers: ArrayQueue::new(SPARE) }
    }

    /// Waits for room for any page. That also bounds how many loads block threads at once.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.room).acquire_many_owned(LOAD_UNITS as u32).await.ok()
    }

    /// Gives back what `page` does not need.
    pub(super) fn shrink(permit: &mut OwnedSemaphorePermit, page: &Page) {
        let needed = page.text_bytes().div_ceil(UNIT) + 1;
        drop(permit.split(permit.num_permits().saturating_sub(needed)));
    }

    /// An empty page.
    pub(super) fn page(&self) -> Page {
        self.pages.pop().unwrap_or_default()
    }

    /// Takes a page's buffers back.
    pub(super) fn give(&self, mut page: Page) {
        if (1..=2 * PAGE_BYTES).contains(&page.capacity()) {
            page.clear();
            let _full = self.pages.push(page);
        }
    }

    /// Lends what decompressing needs.
    pub(super) fn with_reader<T>(&self, work: impl FnOnce(&mut LineReader) -> T) -> T {
        let mut reader = self.readers.pop().unwrap_or_default();
        let done = work(&mut reader);
        let _full = self.readers.push(reader);
        done
    }
}
