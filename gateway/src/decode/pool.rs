//! Buffers and decompression contexts that are used again, so that a batch of usual size allocates neither.
//!
//! Contexts are pooled, not owned by connections: one is 160 KB, and ten thousand idle connections shall cost nothing.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use zstd::zstd_safe::DCtx;

/// The smallest size that is pooled; sizes double from here.
const SMALLEST: usize = 4 << 10;
/// How many sizes there are: 4 KiB, 8 KiB, … 4 MiB.
const SIZES: usize = 11;
/// How many contexts are kept: more than that many threads seldom decompress at a time.
const CONTEXTS: usize = 16;

/// Keeps buffers between their uses: a bounded number of each size, without a lock. Larger ones than 4 MiB are not kept.
pub struct BufferPool {
    sizes: Vec<ArrayQueue<Vec<u8>>>,
    contexts: ArrayQueue<DCtx<'static>>,
}

impl BufferPool {
    /// A pool that keeps about `bytes` at most: as many of each size as fit an equal share, and at least one.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        let kept = |size: usize| (bytes / SIZES / (SMALLEST << size)).max(1);
        let sizes = (0..SIZES).map(|size| ArrayQueue::new(kept(size))).collect();
        Arc::new(Self { sizes, contexts: ArrayQueue::new(CONTEXTS) })
    }

    /// The size of the buffer that one gets for `bytes`: what it costs. Never more than twice that, but for tiny ones.
    pub(super) fn size_for(bytes: usize) -> usize {
        let size = bytes.max(SMALLEST);
        if size > SMALLEST << (SIZES - 1) { size } else { size.next_power_of_two() }
    }

    /// An empty buffer of [`BufferPool::size_for`] `bytes`.
    pub(super) fn buffer(self: &Arc<Self>, bytes: usize) -> Buffer {
        let size = Self::size_for(bytes);
        let bytes = self.kept(size).and_then(ArrayQueue::pop).unwrap_or_else(|| Vec::with_capacity(size));
        Buffer { bytes, pool: Arc::clone(self) }
    }

    /// The place of buffers of exactly this size.
    fn kept(&self, size: usize) -> Option<&ArrayQueue<Vec<u8>>> {
        let place = (size / SMALLEST).checked_ilog2()?;
        let exact = SMALLEST.checked_shl(place) == Some(size);
        self.sizes.get(place as usize).filter(|_| exact)
    }

    /// Lends a decompression context to `work`.
    pub(super) fn with_context<T>(&self, work: impl FnOnce(&mut DCtx<'static>) -> T) -> T {
        let mut context = self.contexts.pop().unwrap_or_else(DCtx::create);
        let done = work(&mut context);
        // A full pool has enough of them.
        drop(self.contexts.push(context));
        done
    }
}

/// A buffer on loan; it goes back to its pool when dropped.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if let Some(place) = self.pool.kept(bytes.capacity()) {
            bytes.clear();
            // A full pool has enough of them.
            drop(place.push(bytes));
        }
    }
}
