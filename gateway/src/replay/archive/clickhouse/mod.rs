//! History from ClickHouse, in stretches: each is one short query in the order of the table's key, of which nothing is kept at the
//! server while a reader is slow. For one who keeps up, a single query goes on from stretch to stretch.

mod ahead;
mod stretch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use clickhouse::error::{Error, Result as Answer};
use clickhouse::query::Query;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::rows::COLUMNS;
use super::{ArchiveError, ArchivedStream, LineArchive, Stretch, Wanted};
use crate::id::StepRunId;
use crate::sink::clickhouse::{Server, origin_of};
use crate::sink::delivery::DeliveryError;

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

impl ClickHouseArchive {
    /// The lines in `server`. Of a stream that several gateways counted, those of the store `store_id` are shown.
    #[must_use]
    pub fn new(server: Server, store_id: u128) -> Self {
        Self { server, origin: origin_of(store_id), failed: ArcSwapOption::empty() }
    }

    fn query(&self, sql: &str) -> Query {
        self.server.client().query(sql).with_setting("max_threads", "2")
    }

    /// Waits for the answer to a new query, unless the server has just not been there.
    async fn answer<T>(&self, answer: impl Future<Output = Answer<T>>) -> Result<T, ArchiveError> {
        if let Some(failed) = &*self.failed.load()
            && failed.0.elapsed() < REST
        {
            return Err(failed.1.clone());
        }
        let refused = AtomicBool::new(false);
        let look = |error: &Error| refused.store(matches!(error, Error::BadResponse(_)), Ordering::Relaxed);
        let answer = self.go_on(async { answer.await.inspect_err(look) }).await;
        // What it refuses is the affair of who asked.
        if let Err(error) = &answer
            && !refused.load(Ordering::Relaxed)
        {
            self.failed.store(Some(Arc::new((Instant::now(), error.clone()))));
        }
        answer
    }

    /// Waits for more of an answer.
    async fn go_on<T>(&self, answer: impl Future<Output = Answer<T>>) -> Result<T, ArchiveError> {
        let answer = self.server.answer(answer).await;
        if let Err(DeliveryError::NotReady { .. }) = &answer
            && let Err(error) = self.server.renew()
        {
            tracing::warn!(%error, "password and certificates for ClickHouse cannot be read again");
        }
        answer.map_err(|error| {
            let (DeliveryError::Transient { why } | DeliveryError::NotReady { why } | DeliveryError::Permanent { why }) = error;
            ArchiveError(why.into())
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
        let mut rows = self.answer(query.fetch_all::<StreamRow>()).await?;
        if rows.iter().all(|row| row.0) {
            // `log_streams` gets a log's rows after `logs`, and may have been made after it, or kept for a shorter time.
            let sql = "SELECT false, origin, min(line_number), max(line_number) + 1, toString(max(pipeline_id)), \
                       toInt64(min(toUnixTimestamp64Milli(received))), toInt64(max(toUnixTimestamp64Milli(received))) \
                       FROM logs WHERE step_run_id = ? GROUP BY origin";
            rows.extend(self.answer(self.query(sql).bind(step_run.as_str()).fetch_all::<StreamRow>()).await?);
        }
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

    /// Lines in order. When they were `received` tells the server which days to look at: without it, it would have to look into every
    /// part of every day.
    fn rows(
        &self,
        step_run: &StepRunId,
        origin: u64,
        (from, until): (u64, u64),
        received: Option<(i64, i64)>,
        most: Option<usize>,
    ) -> Query {
        let days =
            received.map_or("", |_| "AND received >= fromUnixTimestamp64Milli(?) AND received <= fromUnixTimestamp64Milli(?)");
        let limit = most.map(|most| format!("LIMIT {most}")).unwrap_or_default();
        let sql = format!(
            "SELECT {COLUMNS} FROM logs WHERE step_run_id = ? AND line_number >= ? AND line_number < ? AND origin = ? {days} \
             ORDER BY step_run_id, line_number {limit}"
        );
        let query = self.query(&sql).bind(step_run.as_str()).bind(from).bind(until).bind(origin);
        match received {
            Some((first, last)) => query.bind(first).bind(last),
            None => query,
        }
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
                // Whoever reads on asks with a short query, and is told if that fails too.
                tracing::debug!(%error, "reading ahead in ClickHouse has failed");
            }
        }
        .boxed()
    }
}
