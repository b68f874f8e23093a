//! The sink of lines: `logs` and `log_marks`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::insert::{BUFFERED, Rows, Turns, Unmade, insert, insert_json};
use super::line_rows::{LINE_COLUMNS, MARK_COLUMNS, Place, Prefix, line_json, mark_json, put_mark};
use super::migrate;
use super::server::Server;
use crate::block::lines::LineReader;
use crate::block::{Block, Content, GapReason};
use crate::budget::Budget;
use crate::id::StepRunId;
use crate::lookup::{Parents, StepRunLookup};
use crate::sink::{BatchLimits, DeadLetter, Delivery, DeliveryError, LineBatch, LineContent, LineEntry, Rejected};
use crate::store::Position;

/// Delivers lines.
#[derive(Clone)]
pub struct ClickHouseLines {
    server: Server,
    memory: Budget,
    lookup: Arc<dyn StepRunLookup>,
    turns: Turns,
}

impl ClickHouseLines {
    /// To that server; what batches buffer comes out of `memory`; `lookup` knows to which jobs step runs belong.
    #[must_use]
    pub fn new(server: Server, memory: Budget, lookup: Arc<dyn StepRunLookup>) -> Self {
        Self { server, memory, lookup, turns: Turns::default() }
    }
}

impl Delivery for ClickHouseLines {
    type Batch = LineBatch;

    async fn prepare(&self) -> Result<(), DeliveryError> {
        migrate::prepare(&self.server).await
    }

    async fn deliver(self: Arc<Self>, batch: LineBatch) -> Result<Vec<Rejected>, DeliveryError> {
        let turn = self.turns.take().await;
        let _memory = self.memory.take(BUFFERED).await;
        let token = batch.token();
        let (lines, lookup) = (batch.clone(), Arc::clone(&self.lookup));
        let make = move |rows: &mut Rows| {
            let _turn = turn;
            put_lines(&lines, &*lookup, rows)
        };
        let beside = insert(&self.server, "logs", LINE_COLUMNS, &token, make).await?;
        if !beside.any {
            return Ok(Vec::new());
        }
        // Read again rather than kept: a batch may consist of marks alone.
        let token = format!("{token}-marks");
        let marks = batch.clone();
        match insert(&self.server, "log_marks", MARK_COLUMNS, &token, move |rows| put_marks(&marks, &beside, rows)).await {
            Ok(()) => Ok(Vec::new()),
            // The lines are there. To have the batch cut into parts would send them again, under other tokens.
            Err(DeliveryError::Permanent { why }) => {
                let refused = self.reject(batch, why).await?;
                Ok(refused.into_iter().filter(|letter| letter.line.is_none()).collect())
            }
            Err(error) => Err(error),
        }
    }

    async fn reject(&self, batch: LineBatch, reason: String) -> Result<Vec<Rejected>, DeliveryError> {
        let lookup = Arc::clone(&self.lookup);
        let rejected = tokio::task::spawn_blocking(move || rejected(&batch, &*lookup, &reason)).await;
        rejected.map_err(|panic| DeliveryError::transient(format!("making dead letters has failed: {panic}")))?
    }

    async fn redeliver(&self, letter: &DeadLetter) -> Result<(), DeliveryError> {
        redeliver(&self.server, letter, "logs").await
    }

    fn limits(&self) -> BatchLimits {
        self.server.settings().limits
    }
}

/// Sends a dead letter's row again, to the table that it names.
pub(super) async fn redeliver(server: &Server, letter: &DeadLetter, usual: &str) -> Result<(), DeliveryError> {
    let table = match letter.route.get("table").map(String::as_str) {
        Some(table @ ("logs" | "log_marks" | "events")) => table,
        Some(other) => return Err(DeliveryError::permanent(format!("there is no table {other}"))),
        None => usual,
    };
    letter.check_whole()?;
    let record = Bytes::copy_from_slice(letter.record.as_bytes());
    let token = format!("letter-{:016x}-{}", xxhash_rust::xxh3::xxh3_64(&record), letter.position);
    insert_json(server, table, &token, record).await
}

/// What a batch has that is no line.
#[derive(Default)]
struct Beside {
    /// There are marks to write.
    any: bool,
    /// Where blocks lie that cannot be decompressed: marks of gaps stand for their lines.
    damaged: HashSet<Position>,
}

/// Where the step runs of a batch belong, each looked up once.
struct Homes<'l> {
    lookup: &'l dyn StepRunLookup,
    known: HashMap<StepRunId, Option<Parents>>,
}

impl<'l> Homes<'l> {
    fn new(lookup: &'l dyn StepRunLookup) -> Self {
        Self { lookup, known: HashMap::new() }
    }

    fn of(&mut self, step_run: &StepRunId) -> Option<&Parents> {
        if !self.known.contains_key(step_run) {
            self.known.insert(step_run.clone(), self.lookup.parents(step_run));
        }
        self.known.get(step_run)?.as_ref()
    }
}

fn put_lines(batch: &LineBatch, lookup: &dyn StepRunLookup, rows: &mut Rows) -> Result<Beside, Unmade> {
    let mut beside = Beside::default();
    let mut homes = Homes::new(lookup);
    let mut reader = LineReader::default();
    let mut prefix = Prefix::default();
    for entry in batch.entries() {
        let entry = entry?;
        let is_put = match &entry.what {
            LineContent::Block(block) if matches!(block.content, Content::Text { .. }) => {
                let put = put_block(
                    block,
                    Place::of(batch.store_id(), &entry, homes.of(&block.step_run)),
                    &mut reader,
                    &mut prefix,
                    rows,
                )?;
                if !put {
                    beside.damaged.insert(entry.position);
                }
                put
            }
            _ => false,
        };
        beside.any |= !is_put;
    }
    Ok(beside)
}

/// Says whether it could: a block that cannot be decompressed has no lines any more.
fn put_block(
    block: &Block,
    place: Place<'_>,
    reader: &mut LineReader,
    prefix: &mut Prefix,
    rows: &mut Rows,
) -> Result<bool, Unmade> {
    let Ok(lines) = reader.lines(block, block.first_line) else {
        // Its frame is as it was written, so nothing that is done now helps.
        tracing::error!(step_run = %block.step_run, first_line = block.first_line, lines = block.lines, "a block cannot be decompressed; a gap is delivered in its place");
        return Ok(false);
    };
    let mut last = std::ptr::null();
    for line in lines {
        if !std::ptr::eq(last, line.run) {
            last = line.run;
            prefix.set(block, line.run, place);
        }
        prefix.put(&line, rows.buffer());
        rows.row_done()?;
    }
    Ok(true)
}

fn put_marks(batch: &LineBatch, beside: &Beside, rows: &mut Rows) -> Result<(), Unmade> {
    for entry in batch.entries() {
        let mut entry = entry?;
        if beside.damaged.contains(&entry.position) {
            to_gap(&mut entry);
        }
        if put_mark(&entry, batch.store_id(), rows.buffer()) {
            rows.row_done()?;
        }
    }
    Ok(())
}

/// Puts a gap in the place of a block that cannot be decompressed.
fn to_gap(entry: &mut LineEntry) {
    if let LineContent::Block(block) = &mut entry.what {
        block.content = Content::Gap { reason: GapReason::Damaged, time: entry.received };
    }
}

fn rejected(batch: &LineBatch, lookup: &dyn StepRunLookup, reason: &str) -> Result<Vec<Rejected>, DeliveryError> {
    let mut homes = Homes::new(lookup);
    let mut rejected = Vec::new();
    let mut reader = LineReader::default();
    for entry in batch.entries() {
        let mut entry = entry?;
        if matches!(&entry.what, LineContent::Block(block) if reader.lines(block, block.first_line).is_err()) {
            to_gap(&mut entry);
        }
        let mut add = |line, table: &str, record: Vec<u8>| {
            let route = [("table".to_owned(), table.to_owned())].into();
            let (reason, record) = (reason.to_owned(), Bytes::from(record));
            rejected.push(Rejected { position: entry.position, line, reason, route, record });
        };
        match &entry.what {
            LineContent::Block(block) if matches!(block.content, Content::Text { .. }) => {
                let place = Place::of(batch.store_id(), &entry, homes.of(&block.step_run));
                let Ok(lines) = reader.lines(block, block.first_line) else { continue };
                lines.for_each(|line| add(Some(line.number), "logs", line_json(block, &line, place)));
            }
            _ => {
                if let Some(record) = mark_json(&entry, batch.store_id()) {
                    add(None, "log_marks", record);
                }
            }
        }
    }
    Ok(rejected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::id::Id;

    #[test]
    fn a_gap_is_delivered_in_the_place_of_a_block_that_cannot_be_decompressed() {
        let bytes = Bytes::from_static(b"no zstd at all");
        let content = Content::Text { codec: Codec::Zstd, raw_bytes: 40, skip: 0, runs: Vec::new(), bytes };
        let step_run = Id::parse("step-1").unwrap();
        let block = Block { step_run, first_line: 7, lines: 4, epoch: 1, agent_counted: true, origin: None, content };
        let mut entry = LineEntry { position: 64, received: 1000, pipeline_id: "".into(), what: LineContent::Block(block) };
        let mut rows = Rows::gathered();
        let LineContent::Block(block) = &entry.what else { panic!() };
        let put = put_block(block, Place::of(1, &entry, None), &mut LineReader::default(), &mut Prefix::default(), &mut rows);
        assert!(matches!(put, Ok(false)) && rows.buffer().is_empty());

        to_gap(&mut entry);
        let mark: serde_json::Value = serde_json::from_slice(&mark_json(&entry, 1).unwrap()).unwrap();
        assert_eq!((&mark["first_line"], &mark["lines"], &mark["reason"]), (&7.into(), &4.into(), &"damaged".into()));
    }
}
