//! What the agents send.

use arcgate_api::gateway::v1::AgentHandshake;
use arcgate_api::gateway::v1::log_batch::Compression;
use arcgate_api::ingest::gateway_service_client::GatewayServiceClient;
use arcgate_api::ingest::{EventBatch, Payload, PushEventsRequest};
use arcgate_load::logs::{self, LogSession, compress};
use arcgate_load::text::BuildLog;
use arcgate_load::{Outcome, Trouble};
use bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;

use crate::scenario::Window;
use crate::scenario::events::{body, encode, ids};
use crate::subject::Subject;

/// Different lines, sent in turn: more than the server compresses together.
pub(crate) const DISTINCT_LINES: usize = 200_000;
/// Lines in a batch.
const BATCH: usize = 1_000;
/// Step runs that the lines are spread over.
const STEP_RUNS: u64 = 64;
/// Unanswered batches of lines, as the session allows.
const WINDOW: u64 = 64;
/// Events in a batch, and batches without an answer.
const EVENTS: u64 = 500;
const EVENTS_WINDOW: usize = 8;

/// Batches that are ready to be sent.
pub(super) struct Lines(Vec<Bytes>);

impl Lines {
    pub(super) fn new() -> Outcome<Self> {
        let mut text = BuildLog::new(1);
        let batches = (0..DISTINCT_LINES / BATCH).map(|_| compress(text.lines(BATCH).as_bytes(), Compression::Zstd));
        batches.collect::<Outcome<_>>().map(Self)
    }

    /// Pushes `lines` lines of step runs that are this process's own.
    pub(super) async fn push(&self, subject: &Subject, lines: u64) -> Outcome<()> {
        let mut session = LogSession::open(subject.addresses.channel()?, "sinks").await?;
        for (index, data) in (0..lines / BATCH as u64).zip(self.0.iter().cycle()) {
            let step_run = format!("load-{}-{}", std::process::id(), index % STEP_RUNS);
            let mut batch = logs::batch("sinks", &step_run, index + 1, data.clone());
            batch.compression = Compression::Zstd.into();
            batch.first_line = index / STEP_RUNS * BATCH as u64 + 1;
            session.send(batch).await?;
            if index >= WINDOW {
                session.answer().await?.ok_or("the session ended early")?;
            }
        }
        session.finish();
        while session.answer().await?.is_some() {}
        Ok(())
    }
}

/// Pushes `count` events and waits until all are acked.
pub(super) async fn events(subject: &Subject, count: u64) -> Outcome<()> {
    let (batches, receiver) = tokio::sync::mpsc::channel(4);
    let handshake = AgentHandshake { agent_id: "sinks".to_owned(), last_known_seq: 0 };
    batches.send(PushEventsRequest { payload: Some(Payload::Handshake(handshake)) }).await?;
    let mut client = GatewayServiceClient::new(subject.addresses.channel()?);
    let mut answers = client.event_session(ReceiverStream::new(receiver)).await?.into_inner();
    let (window, mut due) = Window::new(EVENTS_WINDOW);
    let sender = tokio::spawn(async move {
        let (body, mut ids) = (body(), ids(u64::from(std::process::id())));
        for first in (0..count).step_by(EVENTS as usize) {
            let numbers = first + 1..=(first + EVENTS).min(count);
            let events = numbers.zip(&mut ids).map(|(seq, id)| encode("sinks", &id, seq, &body)).collect();
            window.take(std::time::Instant::now()).await?;
            let batch = EventBatch::new(first.to_string(), events);
            batches.send(PushEventsRequest { payload: Some(Payload::Batch(batch)) }).await?;
        }
        Ok::<_, Trouble>(())
    });
    let mut taken = 0;
    while due.next().await.is_some() {
        taken += answers.message().await?.and_then(|answer| answer.ack).ok_or("the session ended without an answer")?.taken;
        due.answered();
    }
    sender.await??;
    if taken == count { Ok(()) } else { Err(format!("{taken} of {count} events were accepted").into()) }
}
