//! History from ClickHouse, in stretches: each is one short query in the order of the table's key, of which nothing is kept at the
//! server while a reader is slow.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use clickhouse::query::Query;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::rows::{COLUMNS, Gatherer, unreadable};
use super::{ArchiveError, ArchivedStream, LineArchive, Stretch, Wanted};
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

/// What `log_streams` and `log_marks` say of a stream, by who counted its lines.
type StreamRow = (u64, u64, u64, String, i64);
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
        let lines = "SELECT origin, toUInt64(min(first_line)), toUInt64(max(next_line)), toString(max(pipeline_id)), \
                     toInt64(max(toUnixTimestamp64Milli(last_received))) \
                     FROM log_streams WHERE step_run_id = ? GROUP BY origin";
        let marks = "SELECT origin, min(first_line), max(first_line + lines), toString(max(pipeline_id)), toInt64(countIf(kind = 'end')) \
                     FROM log_marks WHERE step_run_id = ? GROUP BY origin";
        let (lines, marks) = tokio::try_join!(
            self.answer(self.query(lines).bind(step_run.as_str()).fetch_all::<StreamRow>()),
            self.answer(self.query(marks).bind(step_run.as_str()).fetch_all::<StreamRow>()),
        )?;
        // Its own first, then what its agent counted, then that of the gateway which had lines last.
        let rank = |row: &&StreamRow| (row.0 == self.origin, row.0 == 0, row.4);
        let origin = match lines.iter().max_by_key(rank) {
            Some(row) => row.0,
            None => match marks.iter().max_by_key(rank) {
                Some(row) => row.0,
                None => return Ok(None),
            },
        };
        let mut found = ArchivedStream { origin, first_line: u64::MAX, next_line: 1, ended: false, pipeline_id: Arc::from("") };
        let of_lines = lines.iter().map(|row| (row, false));
        for (row, is_mark) in of_lines.chain(marks.iter().map(|row| (row, true))).filter(|(row, _)| row.0 == origin) {
            found.first_line = found.first_line.min(row.1);
            found.next_line = found.next_line.max(row.2);
            found.ended |= is_mark && row.4 > 0;
            if found.pipeline_id.is_empty() {
                found.pipeline_id = row.3.as_str().into();
            }
        }
        Ok(Some(Arc::new(found)))
    }

    async fn read_now(&self, wanted: Wanted) -> Result<Stretch, ArchiveError> {
        let Wanted { step_run, from, until, most, stream } = wanted;
        let stream = match stream {
            Some(stream) => Some(stream),
            None => self.find(&step_run).await?,
        };
        let nothing = Stretch { from, until, blocks: Vec::new(), older: false, stream: stream.clone() };
        let Some(known) = stream.clone() else { return Ok(nothing) };
        let (lines, gaps) = tokio::try_join!(
            self.lines(&step_run, known.origin, (from, until), most),
            self.gaps(&step_run, known.origin, (from, until))
        )?;
        let (lines, mut covered) = lines;
        if gaps.len() >= MOST_GAPS
            && let Some(last) = gaps.last()
        {
            // More gaps may stand where the last one does. A thousand at one number are enough for any reader.
            covered = covered.min(last.0.max(from + 1));
        }
        let mut blocks = lines;
        for (first_line, lines, position, reason, time) in gaps {
            let before = if lines == 0 && covered == until { first_line <= covered } else { first_line < covered };
            if before {
                let place = BlockRef { first_line, lines: u32::try_from(lines).unwrap_or(u32::MAX), position };
                let reason = reason_of(&reason).ok_or_else(|| unreadable("a gap whose reason this release does not know"))?;
                blocks.push((place, Arc::new(gap(&step_run, place, Content::Gap { reason, time }))));
            }
        }
        // At the same number, a gap of unknown size stands before the line.
        blocks.sort_by_key(|(place, _)| (place.first_line, place.lines > 0, place.position));
        let starts_with_hole = blocks.first().is_none_or(|(place, _)| place.first_line > from);
        let older = starts_with_hole && from > known.first_line && self.is_older(&step_run, known.origin, from).await?;
        Ok(Stretch { from, until: covered, blocks, older, stream })
    }

    /// The lines, and up to where these are all there are.
    async fn lines(
        &self,
        step_run: &StepRunId,
        origin: u64,
        (from, until): (u64, u64),
        most: usize,
    ) -> Result<(Vec<(BlockRef, Arc<Block>)>, u64), ArchiveError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM logs WHERE step_run_id = ? AND line_number >= ? AND line_number < ? AND origin = ? ORDER BY step_run_id, \
             line_number LIMIT ?"
        );
        let query = self.query(&sql).bind(step_run.as_str()).bind(from).bind(until).bind(origin).bind(most);
        let mut cursor = self.answer(async { query.fetch_bytes("RowBinary") }).await?;
        let mut gatherer = Gatherer::new(step_run.clone());
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

    async fn gaps(&self, step_run: &StepRunId, origin: u64, (from, until): (u64, u64)) -> Result<Vec<GapRow>, ArchiveError> {
        let sql = "SELECT first_line, lines, position, toString(reason), timestamp_ms FROM log_marks WHERE step_run_id = ? AND origin = ? AND kind = 'gap' \
                   AND first_line <= ? AND (first_line + lines > ? OR (lines = 0 AND first_line >= ?)) \
                   ORDER BY first_line, position LIMIT 1 BY first_line, store, position LIMIT ?";
        let query = self.query(sql).bind(step_run.as_str()).bind(origin).bind(until).bind(from).bind(from).bind(MOST_GAPS);
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
