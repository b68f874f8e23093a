//! Reading ahead: one query that goes on, for a reader who keeps up. It gives lines only, each the one that comes next, and ends before
//! anything else: what that is, a short query finds out.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::ClickHouseArchive;
use crate::block::Block;
use crate::replay::archive::rows::Gatherer;
use crate::replay::archive::{AHEAD_BYTES, ArchiveError, ArchivedStream, Stretch, Wanted};
use crate::store::lines::BlockRef;

impl ClickHouseArchive {
    /// See [`LineArchive::read_ahead`](crate::replay::archive::LineArchive::read_ahead).
    pub(super) async fn give_ahead(&self, wanted: Wanted, out: &Sender<Stretch>) -> Result<(), ArchiveError> {
        let Wanted { step_run, from, until, stream: Some(known), .. } = wanted else { return Ok(()) };
        let gaps = self.gaps(&step_run, known.origin, (from, until), 1).await?;
        // Up to the first gap, and not to the end if one stands there.
        let until = gaps.first().map_or(until, |gap| gap.0.min(until - 1));
        if until <= from {
            return Ok(());
        }
        let rows = self.rows(&step_run, known.origin, (from, until), known.received, None);
        let mut cursor = self.go_on(async { rows.fetch_bytes("RowBinary") }).await?;
        let mut gatherer = Gatherer::new(step_run, AHEAD_BYTES);
        let mut next = from;
        while let Some(chunk) = self.go_on(cursor.next()).await? {
            let has_room = gatherer.take(&chunk)?;
            for block in gatherer.drain() {
                if !give(block, &known, &mut next, out).await {
                    return Ok(());
                }
            }
            if !has_room {
                // Lines of megabytes: in short queries.
                return Ok(());
            }
        }
        for block in gatherer.finish()? {
            if !give(block, &known, &mut next, out).await {
                break;
            }
        }
        Ok(())
    }
}

/// Gives a block to a reader if it is the one that comes `next`. Returns whether more is wanted.
async fn give(block: (BlockRef, Arc<Block>), stream: &Arc<ArchivedStream>, next: &mut u64, out: &Sender<Stretch>) -> bool {
    let (from, until) = (block.0.first_line, block.0.next_line());
    let stretch = Stretch { from, until, blocks: vec![block], older: false, stream: Some(Arc::clone(stream)) };
    let follows = from == std::mem::replace(next, until);
    follows && out.send(stretch).await.is_ok()
}
