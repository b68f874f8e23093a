//! An agent that sends lines.

use std::io::Write;

use arcgate_api::gateway::v1::gateway_service_client::GatewayServiceClient;
use arcgate_api::gateway::v1::log_batch::Compression;
use arcgate_api::gateway::v1::push_logs_request::Payload;
use arcgate_api::gateway::v1::{AgentHandshake, IngestAck, LogBatch, Meta, PushLogsRequest, PushLogsResponse};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::process::MAX_MESSAGE;
use crate::{Outcome, Trouble};

/// Batches that wait on this side before `send` does; the gateway's own bound is what holds a sender back.
const QUEUE: usize = 4;

/// Compresses the data of a batch.
pub fn compress(data: &[u8], compression: Compression) -> Outcome<Bytes> {
    Ok(match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data)?;
            encoder.finish()?.into()
        }
        Compression::Zstd => zstd::bulk::compress(data, 1)?.into(),
        Compression::Unspecified | Compression::None => Bytes::copy_from_slice(data),
    })
}

/// A batch of text lines, not compressed: of a step run, from an agent, with its seq; the gateway counts the lines.
pub fn batch(agent: &str, step_run: &str, seq: u64, text: impl Into<Bytes>) -> LogBatch {
    LogBatch {
        batch_id: format!("batch-{seq}"),
        meta: Some(Meta { agent_id: agent.to_owned(), step_id: step_run.to_owned(), seq, ..Meta::default() }),
        compression: Compression::None.into(),
        data: text.into(),
        ..LogBatch::default()
    }
}

/// A batch without lines: it asks for the step run's `next_line` and `durable_line`.
pub fn question(agent: &str, step_run: &str, seq: u64) -> LogBatch {
    batch(agent, step_run, seq, Bytes::new())
}

/// The client, with the message limits of existing agents.
pub fn client(channel: Channel) -> GatewayServiceClient<Channel> {
    GatewayServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// The message that holds a batch.
pub fn message(batch: LogBatch) -> PushLogsRequest {
    PushLogsRequest { payload: Some(Payload::Batch(batch)) }
}

/// The message that introduces an agent.
pub fn handshake(agent: &str) -> PushLogsRequest {
    PushLogsRequest { payload: Some(Payload::Handshake(AgentHandshake { agent_id: agent.to_owned(), last_known_seq: 0 })) }
}

/// Sends the batches in one PushLogs call and returns its single answer.
pub async fn push(channel: Channel, agent: &str, batches: impl IntoIterator<Item = LogBatch>) -> Outcome<IngestAck> {
    let messages: Vec<_> = std::iter::once(handshake(agent)).chain(batches.into_iter().map(message)).collect();
    let answer = client(channel).push_logs(tokio_stream::iter(messages)).await?;
    answer.into_inner().ack.ok_or_else(|| Trouble::from("an answer without an ack"))
}

/// A LogSession: one answer per batch, in order.
#[derive(Debug)]
pub struct LogSession {
    sender: Option<mpsc::Sender<PushLogsRequest>>,
    answers: Streaming<PushLogsResponse>,
}

impl LogSession {
    /// Opens it and introduces the agent.
    pub async fn open(channel: Channel, agent: &str) -> Outcome<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        sender.send(handshake(agent)).await?;
        let answers = client(channel).log_session(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { sender: Some(sender), answers })
    }

    /// Sends a batch; waits only if the gateway holds the connection back.
    pub async fn send(&self, batch: LogBatch) -> Outcome<()> {
        let sender = self.sender.as_ref().ok_or("the session is half-closed")?;
        Ok(sender.send(message(batch)).await?)
    }

    /// The next answer; `None` after the last.
    pub async fn answer(&mut self) -> Outcome<Option<IngestAck>> {
        Ok(self.answers.message().await?.and_then(|answer| answer.ack))
    }

    /// Sends one batch and waits for its answer.
    pub async fn ask(&mut self, batch: LogBatch) -> Outcome<IngestAck> {
        self.send(batch).await?;
        self.answer().await?.ok_or_else(|| Trouble::from("the session ended without an answer"))
    }

    /// Says that no more batches come; answers may still.
    pub fn finish(&mut self) {
        self.sender = None;
    }

    /// Its two sides, for a task each.
    pub fn split(mut self) -> Outcome<(mpsc::Sender<PushLogsRequest>, Streaming<PushLogsResponse>)> {
        Ok((self.sender.take().ok_or("the session is half-closed")?, self.answers))
    }
}
