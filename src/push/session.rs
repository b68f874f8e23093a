//! Sends the spool over `LogSession`, again after every break, until the gateway has all of it on disk.
//!
//! A connection begins with a question (an empty batch): the answer says which line the gateway lacks, and the spool goes on from
//! there. Then batches, at most [`WINDOW`] of them unanswered, and a question now and then while lines wait for the gateway's disk.

use std::collections::VecDeque;
use std::time::Duration;

use arcgate_api::gateway::v1::ingest_ack::Status;
use arcgate_api::gateway::v1::log_batch::{Compression, Format};
use arcgate_api::gateway::v1::push_logs_request::Payload;
use arcgate_api::gateway::v1::{AgentHandshake, IngestAck, LogBatch, Meta, PushLogsRequest, PushLogsResponse};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::event::Identity;
use super::notes::Notes;
use super::shared::{SharedSpool, now};
use super::spool::{CHUNK_MILLIS, Chunk};
use super::target::{PATIENCE, Target, UplinkError};
use crate::time::timestamp;
use arcgate_gateway::backoff::Backoff;

/// Batches that may wait for their answers. The gateway stops reading at 64 unread answers, so that this never blocks.
const WINDOW: usize = 32;
/// How often the gateway is asked what it has on disk, while nothing else is on the wire.
const QUESTION_EVERY: Duration = Duration::from_millis(200);
/// And once it knows that no more lines will come: it makes them durable at once then.
const QUESTION_AT_END: Duration = Duration::from_millis(20);
/// An answer may take long while the gateway's own queue is full; a dead connection is found by pings before that.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How the gateway's refusal begins when another agent writes the step run.
const FOREIGN_WRITER: &str = "foreign_writer";
/// Smaller chunks are not worth compressing.
const COMPRESS_FROM: usize = 256;

/// Delivers all of the spool. Returns when it is done, else it goes on trying; drop it to give up.
pub(crate) async fn deliver(target: &Target, about: &Identity, spool: &SharedSpool, notes: &Notes) {
    let mut backoff = Backoff::default();
    let mut seq = 0;
    while !spool.with(|spool| spool.is_done()) {
        let connection = async {
            let mut session = Session::open(target, about, spool, notes, &mut seq).await?;
            backoff.reset();
            session.run().await
        };
        if let Err(why) = connection.await {
            notes.say(&why.while_waiting());
            sleep(backoff.wait()).await;
        }
    }
}

/// What an answer will be the answer to.
enum Asked {
    /// What do you have?
    Question,
    /// These lines.
    Lines {
        /// The number of the first.
        first_line: u64,
        /// Whether they were never sent before.
        fresh: bool,
    },
    /// There are no more lines.
    End,
}

struct Session<'a> {
    about: &'a Identity,
    spool: &'a SharedSpool,
    notes: &'a Notes,
    out: mpsc::Sender<PushLogsRequest>,
    answers: Streaming<PushLogsResponse>,
    asked: VecDeque<Asked>,
    seq: &'a mut u64,
    end_sent: bool,
    /// When the last answer came, or the first batch was sent after a pause.
    heard: Instant,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl<'a> Session<'a> {
    /// Connects, introduces the agent, asks what the gateway has, and tells the spool.
    async fn open(
        target: &Target,
        about: &'a Identity,
        spool: &'a SharedSpool,
        notes: &'a Notes,
        seq: &'a mut u64,
    ) -> Result<Self, UplinkError> {
        let mut client = timeout(PATIENCE, target.connect()).await.map_err(|_| UplinkError::Silent)??;
        // Handshake, window, end and question: a send never has to wait.
        let (out, requests) = mpsc::channel(WINDOW + 4);
        let handshake = AgentHandshake { agent_id: about.agent_id.clone(), last_known_seq: *seq };
        let _ = out.try_send(PushLogsRequest { payload: Some(Payload::Handshake(handshake)) });
        let call = client.log_session(target.request(ReceiverStream::new(requests)));
        let answers = timeout(PATIENCE, call).await.map_err(|_| UplinkError::Silent)??.into_inner();
        let compressor = zstd::bulk::Compressor::new(1).ok();
        let (asked, heard) = (VecDeque::with_capacity(WINDOW + 2), Instant::now());
        let mut session = Self { about, spool, notes, out, answers, asked, seq, end_sent: false, heard, compressor };
        session.ask()?;
        let first = timeout(PATIENCE, session.answer()).await.map_err(|_| UplinkError::Silent)??;
        session.asked.pop_front();
        if first.status() == Status::Rejected {
            return Err(UplinkError::NotAccepted(first.message));
        }
        spool.with(|spool| spool.meet(first.next_line, first.durable_line));
        Ok(session)
    }

    async fn run(&mut self) -> Result<(), UplinkError> {
        loop {
            self.fill()?;
            if self.spool.with(|spool| spool.is_done()) {
                return Ok(());
            }
            let quiet = self.asked.is_empty();
            let waiting = self.spool.with(|spool| spool.is_waiting());
            let at_end = self.spool.with(|spool| spool.is_end_acked());
            let due = self.heard + if at_end { QUESTION_AT_END } else { QUESTION_EVERY };
            tokio::select! {
                answer = self.answers.message() => {
                    let answer = answer?.and_then(|response| response.ack).ok_or(UplinkError::Closed)?;
                    self.take(&answer);
                }
                () = self.spool.filled() => {}
                () = sleep(Duration::from_millis(CHUNK_MILLIS.unsigned_abs())), if waiting => {}
                () = sleep_until(due), if quiet && waiting => self.ask()?,
                () = sleep_until(self.heard + ANSWER_WITHIN), if !quiet => return Err(UplinkError::Silent),
            }
        }
    }

    /// Sends what is there, as far as the window allows.
    fn fill(&mut self) -> Result<(), UplinkError> {
        while self.asked.len() < WINDOW
            && let Some(chunk) = self.spool.with(|spool| spool.take(now()))
        {
            let batch = self.batch_of(&chunk);
            self.send(Asked::Lines { first_line: chunk.first_line, fresh: !chunk.sent }, batch)?;
        }
        if !self.end_sent
            && let Some(first_line) = self.spool.with(|spool| spool.end_to_send())
        {
            self.end_sent = true;
            self.send(Asked::End, LogBatch { first_line, end_of_log: true, ..LogBatch::default() })?;
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), UplinkError> {
        self.send(Asked::Question, LogBatch::default())
    }

    fn batch_of(&mut self, chunk: &Chunk) -> LogBatch {
        let small = chunk.bytes.len() < COMPRESS_FROM;
        let compressed = self.compressor.as_mut().filter(|_| !small).and_then(|zstd| zstd.compress(&chunk.bytes).ok());
        let (compression, data) = match compressed {
            Some(data) => (Compression::Zstd, Bytes::from(data)),
            None => (Compression::None, chunk.bytes.clone()),
        };
        LogBatch {
            meta: Some(Meta { timestamp: Some(timestamp(chunk.time)), ..Meta::default() }),
            compression: compression.into(),
            data,
            raw_size: u32::try_from(chunk.bytes.len()).unwrap_or(0),
            format: Format::Text.into(),
            stream: chunk.stream.name().to_owned(),
            first_line: chunk.first_line,
            ..LogBatch::default()
        }
    }

    fn send(&mut self, asked: Asked, mut batch: LogBatch) -> Result<(), UplinkError> {
        *self.seq += 1;
        batch.batch_id = format!("batch-{}", self.seq);
        let meta = batch.meta.get_or_insert_default();
        meta.agent_id.clone_from(&self.about.agent_id);
        meta.pipeline_id.clone_from(&self.about.pipeline_id);
        meta.step_id.clone_from(&self.about.step_run_id);
        meta.seq = *self.seq;
        if self.asked.is_empty() {
            self.heard = Instant::now();
        }
        self.asked.push_back(asked);
        let request = PushLogsRequest { payload: Some(Payload::Batch(batch)) };
        self.out.try_send(request).map_err(|_| UplinkError::Closed)
    }

    async fn answer(&mut self) -> Result<IngestAck, UplinkError> {
        self.answers.message().await?.and_then(|response| response.ack).ok_or(UplinkError::Closed)
    }

    /// Takes an answer; they come in the order of the batches.
    fn take(&mut self, ack: &IngestAck) {
        self.heard = Instant::now();
        let asked = self.asked.pop_front();
        let refused = ack.status() == Status::Rejected;
        // A repeat of what we never sent is not ours. What comes late fell into a hole and is not kept, whoever sent it.
        let not_kept = match asked {
            Some(Asked::Lines { fresh, .. }) if !refused => ack.late + if fresh { ack.repeated } else { 0 },
            _ => 0,
        };
        self.spool.with(|spool| {
            match asked {
                Some(Asked::Lines { first_line, .. }) if refused => spool.refused(first_line),
                Some(Asked::Lines { first_line, .. }) if not_kept > 0 => spool.not_kept(first_line, not_kept),
                // Refused or not, there is nothing more to say about the end.
                Some(Asked::End) => spool.end_acked(),
                _ => {}
            }
            spool.answered(ack.next_line, ack.durable_line);
        });
        if not_kept > 0 {
            self.notes.say(&self.conflict());
        }
        if refused && matches!(asked, Some(Asked::Lines { .. })) {
            self.notes.say(&format!("the gateway refuses lines: {}", self.refusal(&ack.message)));
        }
    }

    /// What the gateway says, in the words of this program.
    fn refusal(&self, message: &str) -> String {
        if !message.starts_with(FOREIGN_WRITER) {
            return message.to_owned();
        }
        let step_run = &self.about.step_run_id;
        format!("{message}. Only one push may write a step run: give this one a --step-run other than {step_run}")
    }

    fn conflict(&self) -> String {
        let Identity { agent_id, step_run_id, .. } = self.about;
        format!(
            "lines are not kept, since the gateway has others under their numbers: something else writes step run {step_run_id} \
             as agent {agent_id} at the same time; give each push a --step-run of its own"
        )
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
