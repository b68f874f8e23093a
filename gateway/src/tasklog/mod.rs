//! Lines from events: existing agents deliver a step's output as `arcentra.task.log` events.
//!
//! A task follows the event log by a durable cursor, one event after the other, and waits for room instead of dropping. Each block
//! carries its event's position, so what is read again after a crash adds only what was not stored. The cursor is saved once the
//! lines are durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::decode::{BatchBytes, Compression, Decoder, Format};
use crate::id::CONTROL_PLANE;
use crate::lookup::StepRunLookup;
use crate::shard::{Lost, Numbering, Payload, Refusal, Submission};
use crate::source::logs::LogIngest;
use crate::stop::Stop;
use crate::store::events::{EventReader, StoredEvent};
use crate::store::lines::StreamTail;
use crate::store::meta::StoreMeta;
use crate::store::{Position, StoreError};

mod lines;
#[cfg(test)]
mod tests;

pub(crate) use lines::TaskLines;

/// The name of the cursor in the store's record.
pub const CURSOR: &str = "task-log";

/// Events read in one go.
const EVENTS_A_READ: usize = 256;
/// No further event is read once they have this many bytes.
const BYTES_A_READ: usize = 4 << 20;
/// Events whose lines are not durable yet; past it the task waits for the sync. They take 2 MiB.
const MAX_UNDER_WAY: usize = 64 << 10;
/// The cursor is saved this often: what it lags behind is read again after a crash, and found to be there.
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
    /// It ends the log, which takes no number: that is durable once the stream's mark is.
    ends: bool,
}

/// How far it has got.
struct Progress {
    under_way: VecDeque<UnderWay>,
    /// All lines of the events before are durable.
    reached: Position,
    saved: Position,
}

impl Progress {
    /// Moves on past what has become durable, with the line log synced up to `synced`; says whether nothing is under way.
    fn settle(&mut self, synced: Position) -> bool {
        while self.under_way.front().is_some_and(|event| event.is_durable(synced))
            && let Some(event) = self.under_way.pop_front()
        {
            self.reached = event.next;
        }
        self.under_way.is_empty()
    }
}

impl UnderWay {
    fn is_durable(&self, synced: Position) -> bool {
        self.lines.as_ref().is_none_or(|(tail, next_line)| {
            tail.next_durable() >= *next_line && (!self.ends || (tail.is_ended() && tail.newest() < synced))
        })
    }
}

impl TaskLog {
    /// Runs until it is to `stop` or the store takes no more.
    pub async fn run(mut self, mut stop: Stop) {
        let mut progress =
            Progress { under_way: VecDeque::new(), reached: self.events.position(), saved: self.events.position() };
        tokio::select! {
            // Wherever that ends it: what is stored of an event and not yet saved is found to be there at the next start.
            () = stop.asked() => {}
            error = self.follow(&mut progress) => match error {
                StoreError::Closed => {}
                error => tracing::error!(%error, "no more lines are made of events until a restart"),
            }
        }
        self.save(&mut progress).await;
    }

    /// Deals with events until that is no longer possible.
    async fn follow(&mut self, progress: &mut Progress) -> StoreError {
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let dealt = tokio::select! {
                more = self.events.more(), if progress.under_way.len() < MAX_UNDER_WAY => match more {
                    Ok(()) => self.step(progress).await,
                    Err(error) => Err(error),
                },
                _ = save.tick() => {
                    self.save(progress).await;
                    Ok(())
                }
            };
            if let Err(error) = dealt {
                return error;
            }
        }
    }

    /// Deals with the next events.
    async fn step(&mut self, progress: &mut Progress) -> Result<(), StoreError> {
        // Reading blocks for as long as the disk takes; what is read is in the page cache almost always, and short.
        let events = tokio::task::block_in_place(|| {
            let events = self.events.read(EVENTS_A_READ, BYTES_A_READ)?;
            let lines = |event: StoredEvent| (self.lines_of(&event), event);
            Ok::<Vec<_>, StoreError>(events.into_iter().map(lines).collect())
        })?;
        for (lines, event) in events {
            let next = event.next;
            let ends = lines.as_ref().is_some_and(|lines| lines.ends);
            let lines = match lines {
                Some(lines) => self.add(event, lines).await?,
                None => None,
            };
            progress.under_way.push_back(UnderWay { next, lines, ends });
        }
        if progress.settle(self.logs.store.log().synced()) {
            // Past what is no event, too. Not before all that was read is dealt with.
            progress.reached = self.events.position();
        }
        Ok(())
    }

    /// What an event says about a log: nothing about one of a step run that was handed to another agent.
    fn lines_of(&self, event: &StoredEvent) -> Option<TaskLines> {
        let lines = TaskLines::of(&event.raw, &event.agent, self.lookup.as_ref())?;
        if event.agent.as_str() == CONTROL_PLANE {
            return Some(lines);
        }
        match self.lookup.owner(&lines.step_run).filter(|owner| *owner != event.agent) {
            None => Some(lines),
            Some(owner) => {
                let (step_run, agent) = (&lines.step_run, &event.agent);
                tracing::warn!(%step_run, %agent, %owner, "an agent's event about another agent's step run adds nothing to its log");
                None
            }
        }
    }

    /// Submits an event's lines; says what will be durable then.
    async fn add(&self, event: StoredEvent, lines: TaskLines) -> Result<Option<(Arc<StreamTail>, u64)>, StoreError> {
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
                seq: event.seq,
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
        if self.logs.shards.submit(batch, None).await.is_err() {
            return Err(StoreError::Closed);
        }
        match answer.await {
            Ok(Ok(outcome)) => {
                metrics::counter!("arcgate_lines_total", "protocol" => "task_log", "result" => "taken").increment(outcome.taken);
                metrics::counter!("arcgate_lines_total", "protocol" => "task_log", "result" => "repeated")
                    .increment(outcome.repeated);
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

    /// Saves how far all lines are durable. What fails is tried again at the next time.
    async fn save(&self, progress: &mut Progress) {
        progress.settle(self.logs.store.log().synced());
        let reached = progress.reached;
        if reached == progress.saved {
            return;
        }
        let meta = Arc::clone(&self.meta);
        match tokio::task::spawn_blocking(move || meta.save_cursor(CURSOR, reached)).await {
            Ok(Ok(())) => progress.saved = reached,
            Ok(Err(error)) => tracing::warn!(%error, "the cursor of lines made of events could not be saved; trying again"),
            Err(error) => tracing::error!(%error, "saving the cursor of lines made of events has panicked"),
        }
    }
}
