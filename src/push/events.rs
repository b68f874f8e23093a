//! Delivers the events of this push, and those that earlier ones left behind, over `PushEvents`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arcgate_api::gateway::v1::push_events_request::Payload;
use arcgate_api::gateway::v1::{AgentHandshake, EventBatch, PushEventsRequest};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::event::Pending;
use super::notes::Notes;
use super::outbox::{Outbox, Shelf};
use super::shared::{SharedSpool, now};
use super::target::{PATIENCE, Target, UplinkError};
use arcgate_gateway::backoff::Backoff;

/// How long no line may arrive before the event that ends the step run goes ahead of them.
const LINES_FIRST: Duration = Duration::from_secs(1);

/// What others may know of the outbox while its own thread works on it, without waiting for that thread's disk.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Events of this push that the gateway has not confirmed.
    pub(crate) waiting: AtomicUsize,
    /// Whether those would outlive the process.
    pub(crate) kept: AtomicBool,
}

/// The outboxes of a push: its own, and those that it has adopted.
pub(crate) struct Outboxes {
    own: Outbox,
    adopted: Vec<Outbox>,
    tally: Arc<Tally>,
    notes: Notes,
}

impl Outboxes {
    /// Puts this push's outbox on `shelf` and adopts what is left there. Without a shelf it lives in memory.
    #[must_use]
    pub(crate) fn open(shelf: Option<&Shelf>, tally: Arc<Tally>, notes: Notes) -> Self {
        let adopted = shelf.map(Outbox::adopt).unwrap_or_default();
        let own = match shelf.map(Outbox::create) {
            Some(Ok(own)) => own,
            Some(Err(error)) => {
                notes.say(&format!("cannot keep events on disk: {error}; they wait in memory"));
                Outbox::in_memory()
            }
            None => Outbox::in_memory(),
        };
        tally.kept.store(own.is_on_disk(), Ordering::Release);
        Self { own, adopted, tally, notes }
    }

    /// Adds an event of this push.
    pub(crate) fn add(&mut self, event: Pending) {
        if let Err(error) = self.own.add(event) {
            self.tally.kept.store(false, Ordering::Release);
            self.notes.say(&format!("cannot keep an event on disk: {error}; it waits in memory"));
        }
    }

    /// Delivers events as they come, then those of earlier pushes. Returns when no more can come and none of its own waits; drop
    /// it to give up.
    ///
    /// The event that ends the step run goes after its lines: `lines` resolves when those have arrived.
    pub(crate) async fn deliver(
        &mut self,
        target: &Target,
        incoming: &mut mpsc::Receiver<Pending>,
        spool: &SharedSpool,
        lines: impl Future,
    ) {
        let mut lines = Some(std::pin::pin!(lines));
        let mut backoff = Backoff::default();
        loop {
            while let Ok(event) = incoming.try_recv() {
                self.add(event);
            }
            if self.own.pending().last().is_some_and(Pending::is_last)
                && let Some(lines) = lines.take()
            {
                arrive(lines, spool).await;
            }
            if !self.own.pending().is_empty() {
                match send(target, self.own.pending()).await {
                    Ok(mark) => {
                        let before = self.own.pending().len();
                        self.acked(mark);
                        self.tally.waiting.fetch_sub(before - self.own.pending().len(), Ordering::AcqRel);
                        backoff.reset();
                    }
                    Err(why) => {
                        self.notes.say(&why.while_waiting());
                        sleep(backoff.wait()).await;
                    }
                }
            } else if let Some(mut outbox) = self.adopted.pop() {
                // One try: what does not go now is left for the next push.
                if let Ok(mark) = send(target, outbox.pending()).await
                    && outbox.acked(mark).is_ok()
                {
                    outbox.close();
                }
            } else {
                let Some(event) = incoming.recv().await else { return };
                self.add(event);
            }
        }
    }

    /// Keeps events as they come, without a gateway to send them to, until no more can come.
    pub(crate) async fn keep(&mut self, incoming: &mut mpsc::Receiver<Pending>) {
        while let Some(event) = incoming.recv().await {
            self.add(event);
        }
    }

    fn acked(&mut self, mark: u64) {
        if let Err(error) = self.own.acked(mark) {
            self.notes.say(&format!("cannot note on disk that events were delivered: {error}"));
        }
    }

    /// Ends them; what waits on disk is left for the next push.
    pub(crate) fn close(self) {
        self.own.close();
    }
}

/// Waits for the last lines as long as some arrive.
async fn arrive(mut lines: Pin<&mut impl Future>, spool: &SharedSpool) {
    let mut left = u64::MAX;
    while timeout(LINES_FIRST, lines.as_mut()).await.is_err() {
        let now_left = spool.with(|spool| spool.undelivered());
        if now_left >= std::mem::replace(&mut left, now_left) {
            return;
        }
    }
}

/// Sends the events of one outbox and gives the mark up to which they need not be sent again.
///
/// # Errors
/// The gateway could not be asked, or took none.
pub(crate) async fn send(target: &Target, events: &[Pending]) -> Result<u64, UplinkError> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(0) };
    let (first, last) = (first.seq, last.seq);
    let agent_id = events[0].about.agent_id.clone();
    let handshake = AgentHandshake { agent_id, last_known_seq: first - 1 };
    let batch =
        EventBatch { batch_id: format!("batch-{first}"), events: events.iter().map(|event| event.to_event(now())).collect() };
    let messages = [Payload::Handshake(handshake), Payload::Batch(batch)];
    let requests = tokio_stream::iter(messages.map(|payload| PushEventsRequest { payload: Some(payload) }));
    let call = async {
        let mut client = target.connect().await?;
        Ok::<_, UplinkError>(client.push_events(target.request(requests)).await?.into_inner())
    };
    let ack = timeout(PATIENCE, call).await.map_err(|_| UplinkError::Silent)??.ack.unwrap_or_default();
    if ack.last_accepted_seq < first {
        return Err(UplinkError::NotAccepted(ack.message));
    }
    Ok(ack.last_accepted_seq.min(last))
}
