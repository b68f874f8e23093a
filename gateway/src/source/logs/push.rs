//! `PushLogs`: many batches, one answer at the end.

use std::sync::Arc;
use std::time::Duration;

use arcgate_api::gateway::v1::push_logs_request::Payload;
use arcgate_api::gateway::v1::{PushLogsRequest, PushLogsResponse};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::MissedTickBehavior;
use tonic::{Response, Status, Streaming};

use super::LogIngest;
use super::connection::{Answer, LogConnection, WhenFull};
use super::verdict::{Totals, Verdict};
use crate::access::Identity;

/// Batches of one client stream that wait for their shard at once.
const IN_FLIGHT: usize = 64;

/// Lines that were dropped are marked in their stream after this long, if no batch of it comes before.
const MARK_AFTER: Duration = Duration::from_secs(1);

/// Serves one `PushLogs` call. In a task of its own: a client that goes away ends the call at once, but not what follows it, the
/// marks of what was dropped.
///
/// # Errors
/// A handshake without a valid agent, or a message that cannot be decoded: `INVALID_ARGUMENT` or what tonic says. A disk that is
/// almost full: `RESOURCE_EXHAUSTED`; what was taken before is kept.
pub async fn push_logs(
    ingest: Arc<LogIngest>,
    identity: Identity,
    messages: Streaming<PushLogsRequest>,
) -> Result<Response<PushLogsResponse>, Status> {
    let run = tokio::spawn(run(ingest, identity, messages));
    run.await.unwrap_or_else(|error| Err(Status::internal(format!("the call was cut off: {error}"))))
}

async fn run(
    ingest: Arc<LogIngest>,
    identity: Identity,
    mut messages: Streaming<PushLogsRequest>,
) -> Result<Response<PushLogsResponse>, Status> {
    ingest.admit()?;
    let (limit, patience) = (ingest.limits.line_bytes, ingest.patience);
    let mut connection = LogConnection::new(Arc::clone(&ingest), identity, WhenFull::DropAfter(patience), "push_logs");
    let mut totals = Totals::default();
    let mut coming = FuturesOrdered::new();
    let mut marks = tokio::time::interval(MARK_AFTER);
    marks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            message = messages.message(), if coming.len() < IN_FLIGHT => match message {
                Ok(Some(message)) => match message.payload {
                    Some(Payload::Handshake(handshake)) => {
                        if let Err(why) = connection.greet(&handshake) {
                            break Err(Status::invalid_argument(why));
                        }
                    }
                    Some(Payload::Batch(batch)) => {
                        if let Err(full) = ingest.admit() {
                            break Err(full);
                        }
                        match connection.add(batch).await {
                            Answer::Now(verdict) => count(&mut connection, &mut totals, verdict),
                            answer @ Answer::Coming { .. } => coming.push_back(answer.verdict()),
                        }
                    }
                    None => {}
                },
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            },
            Some((verdict, feeder)) = coming.next() => {
                connection.heard(&verdict, feeder);
                totals.add(verdict);
            }
            _ = marks.tick(), if connection.has_dropped() => connection.mark_dropped(Some(Duration::ZERO)).await,
        }
    };
    while let Some((verdict, feeder)) = coming.next().await {
        connection.heard(&verdict, feeder);
        totals.add(verdict);
    }
    connection.finish().await;
    ended?;
    Ok(Response::new(PushLogsResponse { ack: Some(totals.into_ack(limit)) }))
}

fn count(connection: &mut LogConnection, totals: &mut Totals, verdict: Verdict) {
    connection.heard(&verdict, None);
    totals.add(verdict);
}
