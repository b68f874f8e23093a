//! Lines from events: existing agents deliver a step's output as `arcentra.task.log` events.
//!
//! A task follows the event log by a durable cursor, one event after the other, and waits for room instead of dropping. Each block
//! carries its event's position, so what is read again after a crash adds only what was not stored. The cursor is saved once the
//! lines are durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::decode::{BatchBytes, Compression, Decoder, Format};
use crate::lookup::StepRunLookup;
use crate::shard::{Lost, Numbering, Payload, Refusal, Shards, Submission};
use crate::source::logs::LogIngest;
use crate::stop::Stop;
use crate::store::events::{EventReader, StoredEvent};
use crate::store::lines::StreamTail;
use crate::store::meta::StoreMeta;
use crate::store::{Position, StoreError};

mod lines;

use lines::TaskLines;

/// The name of the cursor in the store's record.
pub const CURSOR: &str = "task-log";

/// Events read in one go.
const EVENTS_A_READ: usize = 256;
/// No further event is read once they have this many bytes.
const BYTES_A_READ: usize = 4 << 20;
/// Events whose lines are not durable yet; past it the task waits for the sync.
const MAX_UNDER_WAY: usize = 4096;
/// The cursor is saved at most this often: what it lags behind is read again after a crash, and found to be there.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Makes lines of events.
pub struct TaskLog {
    /// The events.
    pub events: EventReader,
    /// Where the lines go.
    pub logs: Arc<LogIngest>,
    /// Cuts an event's text into pieces; must allow as much text as an event can hold.
    pub decoder: Decoder,
    /// Keeps the cursor.
    pub meta: Arc<StoreMeta>,
    /// Knows which step run an agent's step is.
    pub lookup: Arc<dyn StepRunLookup>,
}

/// An event that has been dealt with, until its lines are durable.
struct UnderWay {
    next: Position,
    lines: Option<(Arc<StreamTail>, u64)>,
}

impl UnderWay {
    fn is_durable(&self) -> bool {
        self.lines.as_ref().is_none_or(|(tail, next_line)| tail.next_durable() >= *next_line)
    }
}

impl TaskLog {
    /// Runs until it is to `stop` or the store takes no more.
    pub async fn run(mut self, mut stop: Stop) {
        let mut under_way: VecDeque<UnderWay> = VecDeque::new();
        let mut done = self.events.position();
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        loop {
            tokio::select! {
                more = self.events.more(), if under_way.len() < MAX_UNDER_WAY => {
                    if more.is_err() {
                        break;
                    }
                    match self.step(&mut under_way).await {
                        Ok(()) => {}
                        Err(error) => {
                            tracing::error!(%error, "no more lines are made of events until a restart");
                            break;
                        }
                    }
                }
                _ = save.tick() => {
                    if let Err(error) = self.save(&mut under_way, &mut done).await {
                        tracing::warn!(%error, "the cursor of lines made of events could not be saved; trying again");
                    }
                }
                () = stop.asked() => break,
            }
        }
    }

    /// Deals with the next events.
    async fn step(&mut self, under_way: &mut VecDeque<UnderWay>) -> Result<(), StoreError> {
        // Reading blocks for as long as the disk takes; what is read is in the page cache almost always, and short.
        let events = tokio::task::block_in_place(|| self.events.read(EVENTS_A_READ, BYTES_A_READ))?;
        for event in events {
            let next = event.next;
            let lines = self.add(event).await?;
            under_way.push_back(UnderWay { next, lines });
        }
        Ok(())
    }

    /// Submits an event's lines; says what will be durable then.
    async fn add(&self, event: StoredEvent) -> Result<Option<(Arc<StreamTail>, u64)>, StoreError> {
        let Some(lines) = TaskLines::of(&event.raw, &event.agent, self.lookup.as_ref()) else { return Ok(None) };
        let step_run = lines.step_run.clone();
        let (reply, answer) = oneshot::channel();
        let mut batch = Submission {
            step_run: lines.step_run,
            agent: event.agent.clone(),
            pipeline_id: lines.pipeline_id.into(),
            numbering: Numbering::Event { position: event.position },
            payload: Payload::Lines(Vec::new()),
            lost: Lost::default(),
            end_of_log: lines.ends,
            arrived: event.received,
            wants_feeder: false,
            memory: None,
            reply,
        };
        if !lines.text.is_empty() {
            let bytes = BatchBytes {
                compression: Compression::None,
                data: lines.text,
                raw_size: 0,
                format: Format::Text,
                stream: lines.stream,
                level: "".into(),
                plugin: lines.plugin.into(),
                time: lines.time.unwrap_or(event.received),
                agent: event.agent,
            };
            match self.decoder.run(&bytes).await {
                Ok(decoded) => {
                    batch.payload = Payload::Lines(decoded.pieces);
                    batch.memory = Some(decoded.memory);
                }
                Err(error) => {
                    tracing::warn!(%step_run, position = event.position, %error, "the output in an event cannot be made lines; readers see a gap");
                    batch.payload = Payload::Unreadable;
                }
            }
        }
        if self.submit_to().submit(batch, None).await.is_err() {
            return Err(StoreError::Closed);
        }
        match answer.await {
            Ok(Ok(outcome)) => {
                metrics::counter!("arcgate_lines_total", "protocol" => "task_log", "result" => "taken").increment(outcome.taken);
                metrics::counter!("arcgate_lines_total", "protocol" => "task_log", "result" => "repeated").increment(outcome.repeated);
                Ok(Some((outcome.tail, outcome.next_line)))
            }
            Ok(Err(Refusal::Store(error))) => Err(error),
            // Its agent sends the lines by itself, or there is no number left for them.
            Ok(Err(refusal)) => {
                tracing::debug!(%refusal, "the output in an event is not made lines");
                Ok(None)
            }
            Err(_) => Err(StoreError::Closed),
        }
    }

    fn submit_to(&self) -> &Shards {
        &self.logs.shards
    }

    /// Saves how far all lines are durable.
    async fn save(&self, under_way: &mut VecDeque<UnderWay>, done: &mut Position) -> Result<(), StoreError> {
        let mut reached = *done;
        while under_way.front().is_some_and(UnderWay::is_durable)
            && let Some(event) = under_way.pop_front()
        {
            reached = event.next;
        }
        if under_way.is_empty() {
            reached = reached.max(self.events.position());
        }
        if reached == *done {
            return Ok(());
        }
        let meta = Arc::clone(&self.meta);
        tokio::task::spawn_blocking(move || meta.save_cursor(CURSOR, reached)).await.map_err(|_| StoreError::Closed)??;
        *done = reached;
        Ok(())
    }
}
