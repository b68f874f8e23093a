//! One stretch: a short query for its lines, and one for the gaps between them.

use std::sync::Arc;

use super::ClickHouseArchive;
use crate::block::{Block, Content};
use crate::id::StepRunId;
use crate::replay::archive::rows::{Gatherer, unreadable};
use crate::replay::archive::{ArchiveError, ArchivedStream, MOST_BYTES, Stretch, Wanted};
use crate::replay::encode::reason_of;
use crate::store::lines::BlockRef;

/// Gaps in a stretch at most; it ends before the next.
const MOST_GAPS: usize = 1000;

/// A gap: first line, lines, position, reason, time.
type GapRow = (u64, u64, u64, String, i64);

impl ClickHouseArchive {
    /// See [`LineArchive::read`](crate::replay::archive::LineArchive::read).
    pub(super) async fn read_now(&self, wanted: Wanted) -> Result<Stretch, ArchiveError> {
        let Wanted { step_run, from, until, most, stream } = wanted;
        let stream = match stream {
            Some(stream) => Some(stream),
            None => self.find(&step_run).await?,
        };
        let Some(known) = stream else {
            return Ok(Stretch { from, until, blocks: Vec::new(), older: false, stream: None });
        };
        let mut stretch = self.read_within(&step_run, &known, (from, until), most, known.received).await?;
        if known.received.is_some() && stretch.has_hole() {
            // Lines may have come since, and `log_streams` gets them after `logs` has: when they were received is of no use then.
            stretch = self.read_within(&step_run, &known, (from, until), most, None).await?;
        }
        let starts_with_hole = stretch.blocks.first().is_none_or(|(place, _)| place.first_line > from);
        stretch.older = starts_with_hole && from > known.first_line && self.is_older(&step_run, known.origin, from).await?;
        Ok(stretch)
    }

    /// The lines that were `received` then, and the gaps.
    async fn read_within(
        &self,
        step_run: &StepRunId,
        known: &Arc<ArchivedStream>,
        (from, until): (u64, u64),
        most: usize,
        received: Option<(i64, i64)>,
    ) -> Result<Stretch, ArchiveError> {
        let ((mut blocks, mut covered), gaps) = tokio::try_join!(
            self.lines(step_run, known.origin, (from, until), most, received),
            self.gaps(step_run, known.origin, (from, until), MOST_GAPS)
        )?;
        if gaps.len() >= MOST_GAPS
            && let Some(last) = gaps.last()
        {
            // More gaps may stand where the last one does. A thousand at one number are enough for any reader.
            covered = covered.min(last.0.max(from + 1));
        }
        for (first_line, lines, position, reason, time) in gaps {
            let before = if lines == 0 && covered == until { first_line <= covered } else { first_line < covered };
            if before {
                let place = BlockRef { first_line, lines: u32::try_from(lines).unwrap_or(u32::MAX), position };
                let reason = reason_of(&reason).ok_or_else(|| unreadable("a gap whose reason this release does not know"))?;
                blocks.push((place, Arc::new(gap(step_run, place, Content::Gap { reason, time }))));
            }
        }
        // At the same number, a gap of unknown size stands before the line.
        blocks.sort_by_key(|(place, _)| (place.first_line, place.lines > 0, place.position));
        Ok(Stretch { from, until: covered, blocks, older: false, stream: Some(Arc::clone(known)) })
    }

    /// The lines, and up to where these are all there are.
    async fn lines(
        &self,
        step_run: &StepRunId,
        origin: u64,
        (from, until): (u64, u64),
        most: usize,
        received: Option<(i64, i64)>,
    ) -> Result<(Vec<(BlockRef, Arc<Block>)>, u64), ArchiveError> {
        let rows = self.rows(step_run, origin, (from, until), received, Some(most));
        let mut cursor = self.answer(async { rows.fetch_bytes("RowBinary") }).await?;
        let mut gatherer = Gatherer::new(step_run.clone(), MOST_BYTES);
        let mut whole = true;
        while let Some(chunk) = self.go_on(cursor.next()).await? {
            // A cursor that is dropped ends its query.
            if !gatherer.take(&chunk)? {
                whole = false;
                break;
            }
        }
        whole &= gatherer.rows() < most;
        let covered = if whole { until } else { gatherer.next().clamp(from + 1, until) };
        Ok((gatherer.finish()?, covered))
    }

    /// The gaps that are in the way, at most `most`, the first ones.
    pub(super) async fn gaps(
        &self,
        step_run: &StepRunId,
        origin: u64,
        (from, until): (u64, u64),
        most: usize,
    ) -> Result<Vec<GapRow>, ArchiveError> {
        let sql = "SELECT first_line, lines, position, toString(reason), timestamp_ms FROM log_marks WHERE step_run_id = ? AND origin = ? AND kind = 'gap' \
                   AND first_line <= ? AND (first_line + lines > ? OR (lines = 0 AND first_line >= ?)) \
                   ORDER BY first_line, position LIMIT 1 BY first_line, store, position LIMIT ?";
        let query = self.query(sql).bind(step_run.as_str()).bind(origin).bind(until).bind(from).bind(from).bind(most);
        self.answer(query.fetch_all::<GapRow>()).await
    }

    /// Whether there is a line before `from`.
    async fn is_older(&self, step_run: &StepRunId, origin: u64, from: u64) -> Result<bool, ArchiveError> {
        let sql = "SELECT line_number FROM logs WHERE step_run_id = ? AND line_number < ? AND origin = ? LIMIT 1";
        let query = self.query(sql).bind(step_run.as_str()).bind(from).bind(origin);
        Ok(self.answer(query.fetch_optional::<u64>()).await?.is_some())
    }
}

/// A gap as the store has it.
fn gap(step_run: &StepRunId, place: BlockRef, content: Content) -> Block {
    Block {
        step_run: step_run.clone(),
        first_line: place.first_line,
        lines: place.lines,
        epoch: 0,
        agent_counted: false,
        origin: None,
        content,
    }
}
