//! Reading ahead in the archive: while a reader sees one stretch, the next is made. Only for readers that keep up: whoever stops
//! reading loses it, and what it holds at the archive, at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::subscription::AbortOnDrop;
use crate::replay::archive::{LineArchive, Stretch, Wanted};

/// So long one reader has a place among those that may read ahead; then others have their turn.
const TURN: Duration = Duration::from_secs(10);
/// Stretches that wait for the reader, beside the one that is being made.
const WAITING: usize = 1;

/// What comes after the stretch that a subscription shows. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The first number of the next stretch, and the number after the last one.
    rest: (u64, u64),
    stretches: mpsc::Receiver<Stretch>,
    ends: Instant,
    /// It ended and gave nothing: what follows is not for reading ahead, and to try it again would cost a query for each stretch.
    is_futile: bool,
    gave: bool,
    _task: AbortOnDrop,
}

impl Ahead {
    /// Has `archive` read what is wanted, in a task of its own that keeps its `place` as long as it lives.
    pub(super) fn start(archive: Arc<dyn LineArchive>, wanted: Wanted, place: OwnedSemaphorePermit) -> Self {
        let rest = (wanted.from, wanted.until);
        let (out, stretches) = mpsc::channel(WAITING);
        let (handle, registration) = AbortHandle::new_pair();
        let reading = async move {
            archive.read_ahead(wanted, out).await;
            drop(place);
        };
        tokio::spawn(Abortable::new(reading, registration));
        Self { rest, stretches, ends: Instant::now() + TURN, is_futile: false, gave: false, _task: AbortOnDrop(handle) }
    }

    /// Whether it has turned out that reading ahead is of no use here.
    pub(super) fn is_futile(&self) -> bool {
        self.is_futile
    }

    /// The stretch that is wanted, if it comes from here; if not, this is of no use any more.
    pub(super) async fn take(&mut self, wanted: &Wanted) -> Option<Stretch> {
        if self.rest != (wanted.from, wanted.until) || Instant::now() >= self.ends {
            return None;
        }
        let stretch = self.stretches.recv().await;
        self.is_futile = stretch.is_none() && !self.gave;
        self.gave |= stretch.is_some();
        self.rest.0 = stretch.as_ref()?.until;
        stretch
    }
}
