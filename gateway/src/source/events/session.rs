//! EventSession: a long-lived stream of batches, each answered after its sync, in order.
//!
//! One task reads and hands the batches to the event log; the stream of answers waits for them in the same order. While
//! 64 answers wait to be read, or 1 MiB of events waits for the disk, nothing more is read: HTTP/2 holds the client back.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arcgate_api::gateway::v1::PushEventsResponse;
use arcgate_api::ingest::{Payload, PushEventsRequest};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Response, Status};

use super::ack::Tally;
use super::mark::StreamMark;
use super::{EventIngest, Sender, Underway, cost, record_ack};
use crate::access::Identity;
use crate::id::AgentId;

const PROTOCOL: &str = "event_session";

/// How many batches may be read and not be answered, or answered and not read.
const UNREAD: usize = 64;

/// How many bytes of events may wait for the disk before the next batch is read; a larger batch waits alone.
const WINDOW_BYTES: u32 = 1 << 20;

/// The answers of a session.
pub type Answers = Pin<Box<dyn Stream<Item = Result<PushEventsResponse, Status>> + Send>>;

/// Takes the batches of a session; the response is the stream of answers, one a batch.
///
/// The answers end with an error if nobody says who sends, the store takes nothing, or the stream breaks. What is not
/// acknowledged then is to be sent again.
#[must_use]
pub fn event_session<S>(ingest: Arc<EventIngest>, identity: &Identity, requests: S) -> Response<Answers>
where
    S: Stream<Item = Result<PushEventsRequest, Status>> + Send + Unpin + 'static,
{
    let (steps, taken) = mpsc::channel(UNREAD);
    let (reader, sender) = (Arc::clone(&ingest), Sender::of(identity));
    tokio::spawn(async move {
        let gone = steps.clone();
        tokio::select! {
            () = gone.closed() => {}
            result = read(&reader, sender, requests, &steps) => if let Err(status) = result {
                let _ = steps.send(Err(status)).await;
            }
        }
    });
    let session = Session { ingest, taken, mark: StreamMark::default(), failed: false };
    let answers = stream::unfold(session, |mut session| async move {
        let answer = session.next().await?;
        session.failed = answer.is_err();
        Some((answer, session))
    });
    Response::new(Box::pin(answers))
}

/// What has been read, in order.
enum Step {
    Handshake(u64),
    /// A batch; one without events is nobody's.
    Batch {
        began: Instant,
        underway: Option<(AgentId, Underway)>,
    },
}

async fn read<S>(
    ingest: &EventIngest,
    mut sender: Sender,
    mut requests: S,
    steps: &mpsc::Sender<Result<Step, Status>>,
) -> Result<(), Status>
where
    S: Stream<Item = Result<PushEventsRequest, Status>> + Send + Unpin,
{
    ingest.admit()?;
    let window = Arc::new(Semaphore::new(WINDOW_BYTES as usize));
    // The loop ends when nobody waits for answers any more. A window that is used up is waited for before the next message is
    // read: until then the last one counts as being received.
    while let Ok(slot) = steps.reserve().await {
        drop(window.acquire().await);
        let Some(request) = requests.next().await else { break };
        match request?.payload {
            Some(Payload::Handshake(handshake)) => {
                sender.handshake(&handshake)?;
                slot.send(Ok(Step::Handshake(handshake.last_known_seq)));
            }
            Some(Payload::Batch(batch)) => {
                let began = Instant::now();
                let may_begin_runs = sender.may_begin_runs;
                let underway = match sender.of_batch(&batch.events)? {
                    Some(agent) => {
                        let bytes = u32::try_from(cost(&batch)).unwrap_or(u32::MAX).min(WINDOW_BYTES);
                        let slot = Arc::clone(&window).acquire_many_owned(bytes).await.ok();
                        Some((agent.clone(), ingest.submit(agent, may_begin_runs, batch, slot).await?))
                    }
                    None => None,
                };
                slot.send(Ok(Step::Batch { began, underway }));
            }
            None => {}
        }
    }
    Ok(())
}

struct Session {
    ingest: Arc<EventIngest>,
    taken: mpsc::Receiver<Result<Step, Status>>,
    mark: StreamMark,
    failed: bool,
}

impl Session {
    async fn next(&mut self) -> Option<Result<PushEventsResponse, Status>> {
        if self.failed {
            return None;
        }
        loop {
            match self.taken.recv().await? {
                Ok(Step::Handshake(last_known_seq)) => self.mark.handshake(last_known_seq),
                Ok(Step::Batch { began, underway }) => return Some(self.answer(began, underway).await),
                Err(status) => return Some(Err(status)),
            }
        }
    }

    async fn answer(&mut self, began: Instant, underway: Option<(AgentId, Underway)>) -> Result<PushEventsResponse, Status> {
        let mut tally = Tally::default();
        let mut sender = None;
        if let Some((agent, underway)) = underway {
            underway.arrive(&self.ingest, &mut tally, &mut self.mark).await?;
            sender = Some(agent);
        }
        tally.count(PROTOCOL);
        let response = self.ingest.answer(sender.as_ref(), tally, &mut self.mark);
        record_ack(PROTOCOL, began);
        Ok(response)
    }
}
