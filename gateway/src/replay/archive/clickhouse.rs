//! History from ClickHouse, in stretches: each is one short query in the order of the table's key, of which nothing is kept at the
//! server while a reader is slow. For one who keeps up, a single query goes on from stretch to stretch.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use clickhouse::query::Query;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::rows::{COLUMNS, Gatherer, unreadable};
use super::{AHEAD_BYTES, ArchiveError, ArchivedStream, LineArchive, MOST_BYTES, Stretch, Wanted};
use crate::block::{Block, Content};
use crate::id::StepRunId;
use crate::replay::encode::reason_of;
use crate::sink::clickhouse::{Server, origin_of};
use crate::sink::delivery::DeliveryError;
use crate::store::lines::BlockRef;

/// Gaps in a stretch at most; it ends before the next.
const MOST_GAPS: usize = 1000;
/// A server that could not be reached is not asked again for so long: readers are told at once, and wait for nothing.
const REST: Duration = Duration::from_secs(1);

/// See the module's text.
pub struct ClickHouseArchive {
    server: Server,
    origin: u64,
    failed: ArcSwapOption<(Instant, ArchiveError)>,
}

/// What `log_streams` (false) and `log_marks` (true) say of a stream, by who counted its lines: first line, next line, pipeline; of
/// lines, when the gateway had the first and the last; of marks, how many ends there are.
type StreamRow = (bool, u64, u64, u64, String, i64, i64);
/// A gap: first line, lines, position, reason, time.
type GapRow = (u64, u64, u64, String, i64);

impl ClickHouseArchive {
    /// The lines in `server`. Of a stream that several gateways counted, those of the store `store_id` are shown.
    #[must_use]
    pub fn new(server: Server, store_id: u128) -> Self {
        Self { server, origin: origin_of(store_id), failed: ArcSwapOption::empty() }
    }

    fn query(&self, sql: &str) -> Query {
        self.server.client().query(sql).with_setting("max_threads", "2")
    }

    async fn answer<T>(&self, answer: impl Future<Output = clickhouse::error::Result<T>>) -> Result<T, ArchiveError> {
        if let Some(failed) = &*self.failed.load()
            && failed.0.elapsed() < REST
        {
            return Err(failed.1.clone());
        }
        self.server.answer(answer).await.map_err(|error| {
            let (DeliveryError::Transient { why } | DeliveryError::NotReady { why } | DeliveryError::Permanent { why }) = error;
            let error = ArchiveError(why.into());
            self.failed.store(Some(Arc::new((Instant::now(), error.clone()))));
            error
        })
    }

    async fn find(&self, step_run: &StepRunId) -> Result<Option<Arc<ArchivedStream>>, ArchiveError> {
        let sql = "SELECT false, origin, toUInt64(min(first_line)), toUInt64(max(next_line)), toString(max(pipeline_id)), \
                   toInt64(min(toUnixTimestamp64Milli(first_received))), toInt64(max(toUnixTimestamp64Milli(last_received))) \
                   FROM log_streams WHERE step_run_id = ? GROUP BY origin \
                   UNION ALL \
                   SELECT true, origin, min(first_line), max(first_line + lines), toString(max(pipeline_id)), toInt64(0), \
                   toInt64(countIf(kind = 'end')) \
                   FROM log_marks WHERE step_run_id = ? GROUP BY origin";
        let query = self.query(sql).bind(step_run.as_str()).bind(step_run.as_str());
        let rows = self.answer(query.fetch_all::<StreamRow>()).await?;
        // Lines before marks. Its own first, then what its agent counted, then that of the gateway which had lines last.
        let rank = |row: &&StreamRow| (!row.0, row.1 == self.origin, row.1 == 0, row.6);
        let Some(&(_, origin, ..)) = rows.iter().max_by_key(rank) else { return Ok(None) };
        let mut found = ArchivedStream {
            origin,
            first_line: u64::MAX,
            next_line: 1,
            ended: false,
            pipeline_id: Arc::from(""),
            received: None,
        };
        for (is_mark, _, first_line, next_line, pipeline_id, first, last) in rows.iter().filter(|row| row.1 == origin) {
            found.first_line = found.first_line.min(*first_line);
            found.next_line = found.next_line.max(*next_line);
            if *is_mark {
                found.ended |= *last > 0;
            } else {
                found.received = Some((*first, *last));
            }
            if found.pipeline_id.is_empty() {
                found.pipeline_id = pipeline_id.as_str().into();
            }
        }
        Ok(Some(Arc::new(found)))
    }

    async fn read_now(&self, mut wanted: Wanted) -> Result<Stretch, ArchiveError> {
        let is_new = wanted.stream.is_none();
        if is_new {
            wanted.stream = self.find(&wanted.step_run).await?;
        }
        let Some(known) = wanted.stream.clone() else {
            return Ok(Stretch { from: wanted.from, until: wanted.until, blocks: Vec::new(), older: false, stream: None });
        };
        let stretch = self.read_of(&wanted, &known).await?;
        if is_new || stretch.is_unbroken() {
            return Ok(stretch);
        }
        // What is missing may have come since it was asked when the stream's lines were received.
        match self.find(&wanted.step_run).await? {
            Some(now) if now.origin == known.origin && now.received != known.received => {
                // Up to where the stream goes stays as the reader was told.
                let known = Arc::new(ArchivedStream { received: now.received, ..(*known).clone() });
                self.read_of(&wanted, &known).await
            }
            _ => Ok(stretch),
        }
    }

    async fn read_of(&self, wanted: &Wanted, known: &Arc<ArchivedStream>) -> Result<Stretch, ArchiveError> {
        let Wanted { step_run, from, until, most, .. } = wanted;
        let (from, until) = (*from, *until);
        let ((mut blocks, mut covered), gaps) = tokio::try_join!(
            self.lines(step_run, known, (from, until), *most),
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
        let starts_with_hole = blocks.first().is_none_or(|(place, _)| place.first_line > from);
        let older = starts_with_hole && from > known.first_line && self.is_older(step_run, known.origin, from).await?;
        Ok(Stretch { from, until: covered, blocks, older, stream: Some(Arc::clone(known)) })
    }

    /// The lines, and up to where these are all there are.
    async fn lines(
        &self,
        step_run: &StepRunId,
        known: &ArchivedStream,
        (from, until): (u64, u64),
        most: usize,
    ) -> Result<(Vec<(BlockRef, Arc<Block>)>, u64), ArchiveError> {
        let mut cursor =
            self.answer(async { self.rows(step_run, known, (from, until), Some(most)).fetch_bytes("RowBinary") }).await?;
        let mut gatherer = Gatherer::new(step_run.clone(), MOST_BYTES);
        let mut whole = true;
        while let Some(chunk) = self.answer(cursor.next()).await? {
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

    /// Lines in order. When they were received tells the server which parts to look at: without it, it would have to look into every
    /// part of every day.
    fn rows(&self, step_run: &StepRunId, known: &ArchivedStream, (from, until): (u64, u64), most: Option<usize>) -> Query {
        let limit = most.map(|most| format!("LIMIT {most}")).unwrap_or_default();
        let sql = format!(
            "SELECT {COLUMNS} FROM logs WHERE step_run_id = ? AND line_number >= ? AND line_number < ? AND origin = ? \
             AND received >= fromUnixTimestamp64Milli(?) AND received <= fromUnixTimestamp64Milli(?) \
             ORDER BY step_run_id, line_number {limit}"
        );
        // None: only marks are known of it.
        let (first, last) = known.received.unwrap_or((0, -1));
        let query = self.query(&sql).bind(step_run.as_str()).bind(from).bind(until).bind(known.origin);
        query.bind(first).bind(last)
    }

    /// See [`LineArchive::read_ahead`].
    async fn give_ahead(&self, wanted: Wanted, out: &Sender<Stretch>) -> Result<(), ArchiveError> {
        let Wanted { step_run, from, until, stream: Some(known), .. } = wanted else { return Ok(()) };
        let gaps = self.gaps(&step_run, known.origin, (from, until), 1).await?;
        // Up to the first gap, and not to the end if one stands there.
        let until = gaps.first().map_or(until, |gap| gap.0.min(until - 1));
        if until <= from {
            return Ok(());
        }
        let rows = self.rows(&step_run, &known, (from, until), None);
        let mut cursor = self.answer(async { rows.fetch_bytes("RowBinary") }).await?;
        let mut gatherer = Gatherer::new(step_run, AHEAD_BYTES);
        let mut next = from;
        while let Some(chunk) = self.answer(cursor.next()).await? {
            let is_all = gatherer.take(&chunk)?;
            for block in gatherer.drain() {
                if !give(block, &known, &mut next, out).await {
                    return Ok(());
                }
            }
            if !is_all {
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

    /// The gaps that are in the way, at most `most`, the first ones.
    async fn gaps(
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

impl LineArchive for ClickHouseArchive {
    fn stream<'a>(&'a self, step_run: &'a StepRunId) -> BoxFuture<'a, Result<Option<Arc<ArchivedStream>>, ArchiveError>> {
        self.find(step_run).boxed()
    }

    fn read(&self, wanted: Wanted) -> BoxFuture<'_, Result<Stretch, ArchiveError>> {
        self.read_now(wanted).boxed()
    }

    fn read_ahead(&self, wanted: Wanted, out: Sender<Stretch>) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.give_ahead(wanted, &out).await {
                // Whoever reads on asks again, and is told then.
                tracing::debug!(%error, "reading ahead in ClickHouse has failed");
            }
        }
        .boxed()
    }
}

/// Gives a block to a reader if it is the one that comes `next`. Returns whether more is wanted.
async fn give(block: (BlockRef, Arc<Block>), stream: &Arc<ArchivedStream>, next: &mut u64, out: &Sender<Stretch>) -> bool {
    let (from, until) = (block.0.first_line, block.0.next_line());
    let stretch = Stretch { from, until, blocks: vec![block], older: false, stream: Some(Arc::clone(stream)) };
    let follows = from == std::mem::replace(next, until);
    follows && out.send(stretch).await.is_ok()
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
