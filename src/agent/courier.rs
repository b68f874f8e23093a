//! Delivers events over `EventSession`, from an outbox on disk: a thread of its own, since each event waits for the disk.
//!
//! What an earlier process could not deliver goes first. An event's id never changes, so that the gateway keeps it once however
//! often it is sent.

use std::thread::JoinHandle;
use std::time::Duration;

use arcgate_api::gateway::v1::push_events_request::Payload;
use arcgate_api::gateway::v1::{AgentHandshake, EventBatch, IngestAck, PushEventsRequest};
use arcgate_gateway::backoff::Backoff;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::diary::Diary;
use crate::push::event::Pending;
use crate::push::events::send;
use crate::push::outbox::{Outbox, Shelf};
use crate::push::shared::now;
use crate::push::target::{PATIENCE, Target, UplinkError};

/// How many events may wait for the thread.
const QUEUE: usize = 1_024;
/// How many events may wait for the gateway; more are dropped, and that is said.
const PENDING_MOST: usize = 4_096;
/// How many events a batch has,
const BATCH: usize = 100;
/// and how many batches wait for their answers.
const WINDOW: usize = 8;
/// An answer may take as long while the gateway's disk or a sink is slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A session without events is closed after this time: a gateway that stops waits for open ones.
const IDLE: Duration = Duration::from_secs(1);
/// How long the thread may go on at the end; what is left waits on disk.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The other end of the thread.
#[derive(Debug)]
pub(super) struct Courier {
    events: mpsc::Sender<Pending>,
    diary: Diary,
}

impl Courier {
    /// Starts the thread. It ends, after a moment for what waits, when the courier goes.
    ///
    /// # Errors
    /// There is no outbox or no thread to be had.
    pub(super) fn start(agent_id: &str, target: Target, shelf: &Shelf, diary: Diary) -> Result<(Self, JoinHandle<()>), String> {
        let left = Outbox::adopt(shelf);
        let own = Outbox::create(shelf).map_err(|error| format!("cannot keep events on disk: {error}"))?;
        let (events, incoming) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot deliver events: {error}"))?;
        let mut rounds =
            Rounds { agent_id: agent_id.to_owned(), target, own, left, incoming, diary: diary.clone(), closed: None };
        let work = move || {
            runtime.block_on(rounds.deliver());
            runtime.shutdown_background();
            rounds.own.close();
        };
        let thread = std::thread::Builder::new().name("arcgate-events".into()).spawn(work);
        let thread = thread.map_err(|error| format!("cannot deliver events: {error}"))?;
        Ok((Self { events, diary }, thread))
    }

    /// Hands an event on; never waits.
    pub(super) fn send(&self, event: Pending) {
        if let Err(error) = self.events.try_send(event) {
            let event = error.into_inner();
            self.diary.say(&format!("an event {} is lost: too many wait for this machine's disk", event.kind));
        }
    }
}

struct Rounds {
    agent_id: String,
    target: Target,
    own: Outbox,
    /// Those of earlier processes.
    left: Vec<Outbox>,
    incoming: mpsc::Receiver<Pending>,
    diary: Diary,
    /// No more events will come, and until when those that wait may go.
    closed: Option<Instant>,
}

impl Rounds {
    async fn deliver(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let why = match self.round(&mut backoff).await {
                Ok(()) => return,
                Err(why) => why,
            };
            self.diary.say(&format!("events wait: {why}; it is tried again"));
            // Meanwhile what comes goes to disk.
            let until = Instant::now() + backoff.wait();
            loop {
                tokio::select! {
                    event = self.incoming.recv(), if self.closed.is_none() => self.keep(event),
                    () = sleep_until(until) => break,
                }
            }
            if self.closed.is_some_and(|until| Instant::now() >= until) {
                return;
            }
        }
    }

    /// Delivers until the connection breaks, or until there is nothing more to do.
    async fn round(&mut self, backoff: &mut Backoff) -> Result<(), UplinkError> {
        while let Some(mut outbox) = self.left.pop() {
            match send(&self.target, outbox.pending()).await {
                Ok(mark) => {
                    if outbox.acked(mark).is_ok() && outbox.pending().is_empty() {
                        outbox.close();
                    } else {
                        self.left.push(outbox);
                    }
                }
                // Another agent's, who used this folder before: its file stays for whoever wants it.
                Err(UplinkError::Refused(status)) if status.code() == Code::PermissionDenied => {}
                Err(why) => {
                    self.left.push(outbox);
                    return Err(why);
                }
            }
            backoff.reset();
        }
        loop {
            // A connection is opened when there is something to send.
            while self.own.pending().is_empty() {
                if self.closed.is_some() {
                    return Ok(());
                }
                let event = self.incoming.recv().await;
                self.keep(event);
            }
            self.session(backoff).await?;
        }
    }

    /// Sends what waits and what comes, until nothing has come for a while.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), UplinkError> {
        let mut client = timeout(PATIENCE, self.target.connect()).await.map_err(|_| UplinkError::Silent)??;
        // Handshake and window: a send never has to wait.
        let (out, requests) = mpsc::channel(WINDOW + 2);
        let mut sent = self.own.pending().first().map_or(0, |event| event.seq - 1);
        let handshake = AgentHandshake { agent_id: self.agent_id.clone(), last_known_seq: sent };
        let say = |payload| out.try_send(PushEventsRequest { payload: Some(payload) }).map_err(|_| UplinkError::Closed);
        say(Payload::Handshake(handshake))?;
        let call = client.event_session(self.target.request(ReceiverStream::new(requests)));
        let mut answers = timeout(PATIENCE, call).await.map_err(|_| UplinkError::Silent)??.into_inner();
        let mut unanswered = std::collections::VecDeque::with_capacity(WINDOW);
        let mut heard = Instant::now();
        loop {
            while unanswered.len() < WINDOW
                && let Some((batch, last)) = self.batch_after(sent)
            {
                say(Payload::Batch(batch))?;
                if unanswered.is_empty() {
                    heard = Instant::now();
                }
                unanswered.push_back(last);
                sent = last;
            }
            let quiet = unanswered.is_empty();
            if quiet && (self.closed.is_some() || heard.elapsed() >= IDLE) {
                return Ok(());
            }
            let last_moment = self.closed.unwrap_or(heard + ANSWER_WITHIN);
            tokio::select! {
                answer = answers.message() => {
                    let ack = answer?.and_then(|answer| answer.ack).ok_or(UplinkError::Closed)?;
                    heard = Instant::now();
                    self.take(&ack, unanswered.pop_front())?;
                    backoff.reset();
                }
                event = self.incoming.recv(), if self.closed.is_none() => self.keep(event),
                () = sleep_until(last_moment.min(heard + ANSWER_WITHIN)), if !quiet => return Err(UplinkError::Silent),
                () = sleep_until(heard + IDLE), if quiet => {}
            }
        }
    }

    /// The next events to send, and the last one's number.
    fn batch_after(&self, sent: u64) -> Option<(EventBatch, u64)> {
        let pending = self.own.pending();
        let from = pending.partition_point(|event| event.seq <= sent);
        let some = &pending[from..pending.len().min(from + BATCH)];
        let last = some.last()?.seq;
        let events = some.iter().map(|event| event.to_event(now())).collect();
        Some((EventBatch { batch_id: format!("batch-{}", some[0].seq), events }, last))
    }

    fn take(&mut self, ack: &IngestAck, asked: Option<u64>) -> Result<(), UplinkError> {
        // Never beyond what was sent, whatever it says.
        let asked = asked.ok_or(UplinkError::Closed)?;
        if let Err(error) = self.own.acked(ack.last_accepted_seq.min(asked)) {
            self.diary.say(&format!("cannot note on disk that events were delivered: {error}; they may be sent again"));
        }
        // What the gateway did not take is sent again, after a pause.
        if ack.last_accepted_seq < asked { Err(UplinkError::NotAccepted(ack.message.clone())) } else { Ok(()) }
    }

    /// Puts down an event, and those that wait behind it.
    fn keep(&mut self, event: Option<Pending>) {
        let Some(event) = event else {
            self.closed = Some(Instant::now() + LAST_WORDS);
            return;
        };
        if self.own.pending().len() >= PENDING_MOST {
            self.diary.say(&format!("an event {} is lost: {PENDING_MOST} wait for the gateway already", event.kind));
        } else if let Err(error) = self.own.add(event) {
            self.diary.say(&format!("cannot keep an event on disk: {error}; it waits in memory"));
        }
    }
}

/// Waits for the thread to put down what it holds, for a bounded time. Whoever holds the courier must let go of it before.
pub(super) async fn end(thread: JoinHandle<()>) {
    let until = Instant::now() + LAST_WORDS + Duration::from_secs(1);
    while !thread.is_finished() && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
}
