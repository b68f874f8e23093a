//! `LogSession`: a long-lived connection, one answer a batch, in order. It drops nothing: it stops reading.

use std::pin::Pin;
use std::sync::Arc;

use arcgate_api::gateway::v1::push_logs_request::Payload;
use arcgate_api::gateway::v1::{PushLogsRequest, PushLogsResponse};
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::LogIngest;
use super::connection::{LogConnection, WhenFull};
use crate::access::Identity;

/// Answers that may wait to be read; then the gateway reads no further.
const UNREAD: usize = 64;

/// The answers of a session.
pub type Answers = Pin<Box<dyn Stream<Item = Result<PushLogsResponse, Status>> + Send>>;

/// Serves one `LogSession` call.
///
/// # Errors
/// None at once; the stream ends with the status of what went wrong.
pub fn log_session(ingest: Arc<LogIngest>, identity: Identity, messages: Streaming<PushLogsRequest>) -> Response<Answers> {
    let (answers, unread) = mpsc::channel(UNREAD);
    tokio::spawn(async move {
        let connection = LogConnection::new(Arc::clone(&ingest), identity, WhenFull::Wait, "log_session");
        if let Err(status) = run(&ingest, connection, messages, &answers).await {
            let _ = answers.send(Err(status)).await;
        }
    });
    Response::new(Box::pin(ReceiverStream::new(unread)))
}

async fn run(
    ingest: &LogIngest,
    mut connection: LogConnection,
    mut messages: Streaming<PushLogsRequest>,
    answers: &mpsc::Sender<Result<PushLogsResponse, Status>>,
) -> Result<(), Status> {
    let mut coming = FuturesOrdered::new();
    let mut refused = ingest.admit();
    let mut open = refused.is_ok();
    while open || !coming.is_empty() {
        tokio::select! {
            message = messages.message(), if open && coming.len() < UNREAD => match message?.map(|message| message.payload) {
                Some(Some(Payload::Handshake(handshake))) => connection.greet(&handshake).map_err(Status::invalid_argument)?,
                Some(Some(Payload::Batch(batch))) => {
                    refused = ingest.admit();
                    match refused {
                        Ok(()) => coming.push_back(connection.add(batch).await.verdict()),
                        // What was taken before is answered first.
                        Err(_) => open = false,
                    }
                }
                Some(None) => {}
                None => open = false,
            },
            Some((verdict, feeder)) = coming.next() => {
                connection.heard(&verdict, feeder);
                let answer = PushLogsResponse { ack: Some(verdict.into_ack(ingest.limits.line_bytes)) };
                if answers.send(Ok(answer)).await.is_err() {
                    // The client is gone; what it sent is kept.
                    return Ok(());
                }
            }
        }
    }
    refused
}
