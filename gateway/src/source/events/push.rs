//! PushEvents: a stream of batches, answered once, when the client has closed its side: as if all had been one batch.
//!
//! Each batch is on disk before the next is read, so a stream holds one batch in memory.

use std::time::Instant;

use arcgate_api::gateway::v1::PushEventsResponse;
use arcgate_api::ingest::{Payload, PushEventsRequest};
use futures_util::{Stream, StreamExt};
use tonic::{Response, Status};

use super::ack::Tally;
use super::mark::StreamMark;
use super::{EventIngest, Sender, record_ack};
use crate::access::Identity;

const PROTOCOL: &str = "push_events";

/// Takes the batches of a stream and answers them.
///
/// # Errors
/// Nobody says who sends; the store takes nothing; the stream breaks. Then nothing is acknowledged, and all is to be sent again.
pub async fn push_events<S>(
    ingest: &EventIngest,
    identity: &Identity,
    mut requests: S,
) -> Result<Response<PushEventsResponse>, Status>
where
    S: Stream<Item = Result<PushEventsRequest, Status>> + Send + Unpin,
{
    ingest.admit()?;
    let mut began = Instant::now();
    let mut sender = Sender::of(identity);
    let mut mark = StreamMark::default();
    let mut tally = Tally::default();
    while let Some(request) = requests.next().await {
        match request?.payload {
            Some(Payload::Handshake(handshake)) => {
                sender.handshake(&handshake)?;
                mark.handshake(handshake.last_known_seq);
            }
            Some(Payload::Batch(batch)) => {
                began = Instant::now();
                let may_begin_runs = sender.may_begin_runs;
                if let Some(agent) = sender.of_batch(&batch.events)? {
                    ingest.submit(agent, may_begin_runs, batch, None).await?.arrive(ingest, &mut tally, &mut mark).await?;
                }
            }
            None => {}
        }
    }
    tally.count(PROTOCOL);
    let response = ingest.answer(sender.agent.as_ref(), tally, &mut mark);
    record_ack(PROTOCOL, began);
    Ok(Response::new(response))
}
