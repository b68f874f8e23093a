//! One client stream of log batches: checks, decodes and submits each, and remembers what it had to drop.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::{AgentHandshake, LogBatch, Meta};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::Xxh3;

use super::LogIngest;
use super::metrics::LogMetrics;
use super::verdict::Verdict;
use crate::access::{Identity, Verb};
use crate::clock::Millis;
use crate::decode::{BatchBytes, DecodeError, Decoded, count_in_passing};
use crate::id::{AgentId, Id, StepRunId};
use crate::shard::{Lost, Numbering, Outcome, Payload, Refusal, Submission};
use crate::store::StoreError;
use crate::store::lines::FeederGuard;

/// Streams for which one connection remembers something; past it, the least that is known of a stream is forgotten.
const MAX_STREAMS: usize = 10_000;

/// Streams of which one connection remembers what it dropped; past it, it waits until that can be marked.
const MAX_DROPPED: usize = 1024;

/// A batch on its way.
pub(super) enum Answer {
    /// Decided here.
    Now(Verdict),
    /// Its shard will say.
    Coming { came: Instant, seq: u64, truncated: u32, step_run: StepRunId, answer: oneshot::Receiver<Result<Outcome, Refusal>> },
}

impl Answer {
    /// Waits for the shard; gives the guard too that keeps readers from seeing an end.
    pub(super) async fn verdict(self) -> (Verdict, Option<(StepRunId, FeederGuard)>) {
        match self {
            Self::Now(verdict) => (verdict, None),
            Self::Coming { came, seq, truncated, step_run, answer } => {
                let mut answer = answer.await.unwrap_or(Err(Refusal::Store(StoreError::Closed)));
                let feeder = answer.as_mut().ok().and_then(|outcome| outcome.feeder.take());
                let verdict = Verdict { came: Some(came), ..Verdict::of(seq, truncated, answer) };
                (verdict, feeder.map(|feeder| (step_run, feeder)))
            }
        }
    }
}

/// What happens when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// Wait: the client is held back by flow control.
    Wait,
    /// Wait this long, then drop the lines and count them.
    DropAfter(Duration),
}

impl WhenFull {
    fn patience(self) -> Option<Duration> {
        match self {
            Self::Wait => None,
            Self::DropAfter(patience) => Some(patience),
        }
    }
}

/// See the module.
pub(super) struct LogConnection {
    ingest: Arc<LogIngest>,
    identity: Identity,
    when_full: WhenFull,
    metrics: LogMetrics,
    agent: Option<AgentId>,
    /// Step runs that it may write.
    allowed: HashSet<StepRunId>,
    /// Lines dropped of a stream since its last batch that got through.
    dropped: HashMap<StepRunId, (AgentId, Lost)>,
    /// Streams of which a numbered batch was not taken: what follows would leave a hole that can never be filled.
    not_taken: HashSet<StepRunId>,
    /// Streams this connection feeds: their readers see no end as long as it may send more.
    feeders: HashMap<StepRunId, Option<FeederGuard>>,
}

impl LogConnection {
    pub(super) fn new(ingest: Arc<LogIngest>, identity: Identity, when_full: WhenFull, protocol: &'static str) -> Self {
        Self {
            ingest,
            agent: identity.agent().cloned(),
            identity,
            when_full,
            metrics: LogMetrics::of(protocol),
            allowed: HashSet::new(),
            dropped: HashMap::new(),
            not_taken: HashSet::new(),
            feeders: HashMap::new(),
        }
    }

    /// Takes note of who sends.
    pub(super) fn greet(&mut self, handshake: &AgentHandshake) -> Result<(), String> {
        let agent = Id::parse(&handshake.agent_id).map_err(|why| format!("handshake.agent_id {why}"))?;
        self.agent = Some(self.itself(agent)?);
        Ok(())
    }

    /// Checks, decodes and submits one batch.
    pub(super) async fn add(&mut self, batch: LogBatch) -> Answer {
        let came = Instant::now();
        let seq = batch.meta.as_ref().map_or(0, |meta| meta.seq);
        self.metrics.came(batch.data.len());
        if self.dropped.len() >= MAX_DROPPED {
            self.mark_dropped(None).await;
        }
        match self.check(&batch).await {
            Ok((agent, step_run)) => self.decode_and_submit(came, seq, agent, step_run, batch).await,
            Err(why) => rejected(seq, why),
        }
    }

    /// Keeps what a shard's answer brought, and counts it.
    pub(super) fn heard(&mut self, verdict: &Verdict, feeder: Option<(StepRunId, FeederGuard)>) {
        if let Some((step_run, guard)) = feeder
            && let Some(place) = self.feeders.get_mut(&step_run)
        {
            *place = Some(guard);
        }
        self.metrics.decided(verdict);
    }

    /// Whether lines were dropped that no marker tells of yet.
    pub(super) fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Stores markers for the lines that were dropped, waiting for room at most `patience`; what finds none is kept for the next
    /// time.
    pub(super) async fn mark_dropped(&mut self, patience: Option<Duration>) {
        let mut patience = patience;
        for (step_run, (agent, lost)) in std::mem::take(&mut self.dropped) {
            let (mut marker, _answer) = self.submission(&step_run, &agent);
            marker.lost = lost;
            if self.ingest.shards.submit(marker, patience).await.is_err() {
                // One long wait in all, however many streams there are.
                patience = Some(Duration::ZERO);
                self.dropped.insert(step_run, (agent, lost));
            }
        }
    }

    /// Ends the connection's work: what was dropped is marked, waiting as long as a batch would.
    pub(super) async fn finish(mut self) {
        self.mark_dropped(self.when_full.patience()).await;
        for (step_run, (_, lost)) in self.dropped {
            let lines = lost.lines;
            tracing::warn!(%step_run, lines, "dropped lines could not even be marked: readers will not see that they are missing");
        }
    }

    async fn check(&mut self, batch: &LogBatch) -> Result<(AgentId, StepRunId), String> {
        let meta = batch.meta.as_ref().ok_or("meta is missing; set meta.step_id, meta.agent_id and meta.seq")?;
        if meta.seq == 0 && !batch.data.is_empty() {
            return Err("meta.seq is 0; number batches from 1".into());
        }
        let agent = self.agent_of(meta)?;
        let step_run = Id::parse(&meta.step_id).map_err(|why| format!("meta.step_id {why}"))?;
        if meta.pipeline_id.len() > crate::id::MAX_ID_BYTES {
            return Err(format!(
                "meta.pipeline_id has {} bytes; at most {} are allowed",
                meta.pipeline_id.len(),
                crate::id::MAX_ID_BYTES
            ));
        }
        if !self.allowed.contains(&step_run) {
            if !self.ingest.access.may(&self.identity, Verb::WriteLogs, Some(&step_run)).await {
                return Err(format!("{} may not write logs of step run {step_run}; use a token that may", self.identity));
            }
            if self.allowed.len() >= MAX_STREAMS {
                self.allowed.clear();
            }
            self.allowed.insert(step_run.clone());
        }
        Ok((agent, step_run))
    }

    fn agent_of(&self, meta: &Meta) -> Result<AgentId, String> {
        match &self.agent {
            Some(agent) if meta.agent_id.is_empty() || meta.agent_id == agent.as_str() => Ok(agent.clone()),
            _ if meta.agent_id.is_empty() => Err("meta.agent_id is empty and no handshake named the agent; send either".into()),
            _ => self.itself(Id::parse(&meta.agent_id).map_err(|why| format!("meta.agent_id {why}"))?),
        }
    }

    /// An agent that has shown its token writes as itself.
    fn itself(&self, agent: AgentId) -> Result<AgentId, String> {
        match self.identity.agent().filter(|own| **own != agent) {
            None => Ok(agent),
            Some(own) => Err(format!("this is the token of agent {own}: it cannot write as agent {agent}")),
        }
    }

    async fn decode_and_submit(
        &mut self,
        came: Instant,
        seq: u64,
        agent: AgentId,
        step_run: StepRunId,
        batch: LogBatch,
    ) -> Answer {
        let (mut submission, answer) = self.submission(&step_run, &agent);
        let is_numbered = batch.first_line > 0;
        submission.numbering = if is_numbered {
            Numbering::Agent { first_line: batch.first_line }
        } else {
            Numbering::Gateway { fingerprint: fingerprint(&agent, &step_run, seq, &batch) }
        };
        submission.pipeline_id = batch.meta.as_ref().map_or("", |meta| &meta.pipeline_id).into();
        submission.end_of_log = batch.end_of_log;

        let (mut truncated, mut rejection) = (0, None);
        match self.decode(batch, agent, submission.arrived).await {
            Decode::Lines(decoded) => {
                truncated = decoded.truncated;
                submission.payload = Payload::Lines(decoded.pieces);
                submission.memory = Some(decoded.memory);
            }
            Decode::NoMemory { lines } => return self.no_room(seq, submission, lines),
            // The agent counts its lines: it may send them again as they should be, so nothing is marked.
            Decode::Unreadable(error) if is_numbered => return rejected(seq, format!("the batch {error}")),
            Decode::Unreadable(error) => {
                submission.payload = Payload::Unreadable;
                rejection = Some(format!("the batch {error}"));
            }
        }

        submission.lost = self.dropped.remove(&step_run).map_or(Lost::default(), |(_, lost)| lost);
        // Nobody hears what becomes of an unreadable batch, so its answer can bring no guard.
        submission.wants_feeder = rejection.is_none() && self.begins_to_feed(&step_run, submission.end_of_log);
        if let Err(submission) = self.submit(submission).await {
            let lines = submission.payload.lines();
            return self.no_room(seq, submission, Some(lines));
        }
        match rejection {
            Some(why) => rejected(seq, why),
            None => Answer::Coming { came, seq, truncated, step_run, answer },
        }
    }

    async fn decode(&self, batch: LogBatch, agent: AgentId, arrived: Millis) -> Decode {
        let bytes = match BatchBytes::of(batch, agent, arrived) {
            Ok(bytes) => bytes,
            Err(error) => return Decode::Unreadable(error),
        };
        let decoding = self.ingest.decoder.run(&bytes);
        let decoded = match self.when_full {
            WhenFull::Wait => Some(decoding.await),
            WhenFull::DropAfter(patience) => tokio::time::timeout(patience, decoding).await.ok(),
        };
        match decoded {
            Some(Ok(decoded)) => Decode::Lines(decoded),
            Some(Err(error)) => Decode::Unreadable(error),
            None => {
                let limit = self.ingest.limits.raw_bytes;
                let counted = tokio::task::spawn_blocking(move || count_in_passing(&bytes, limit)).await;
                Decode::NoMemory { lines: counted.unwrap_or(None) }
            }
        }
    }

    async fn submit(&self, batch: Submission) -> Result<(), Submission> {
        if self.not_taken.contains(&batch.step_run) {
            return Err(batch);
        }
        self.ingest.shards.submit(batch, self.when_full.patience()).await
    }

    /// There was no room in time: a numbered batch is left to its agent, which has it still; another is dropped and counted.
    fn no_room(&mut self, seq: u64, batch: Submission, lines: Option<u64>) -> Answer {
        if let Numbering::Agent { first_line } = batch.numbering {
            if self.not_taken.len() < MAX_STREAMS {
                self.not_taken.insert(batch.step_run.clone());
            }
            let why = format!("there was no room for lines {first_line} and on of step run {}; send them again", batch.step_run);
            return rejected(seq, why);
        }
        let known = &mut self.dropped.entry(batch.step_run).or_insert((batch.agent, Lost::default())).1;
        known.lines += lines.unwrap_or(0) + batch.lost.lines;
        known.more |= lines.is_none() || batch.lost.more;
        Answer::Now(Verdict::dropped(seq, lines.unwrap_or(0)))
    }

    fn begins_to_feed(&mut self, step_run: &StepRunId, end_of_log: bool) -> bool {
        if end_of_log {
            self.feeders.remove(step_run);
            return false;
        }
        if self.feeders.contains_key(step_run) || self.feeders.len() >= MAX_STREAMS {
            return false;
        }
        self.feeders.insert(step_run.clone(), None);
        true
    }

    /// A batch of nothing, to be filled.
    fn submission(&self, step_run: &StepRunId, agent: &AgentId) -> (Submission, oneshot::Receiver<Result<Outcome, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            step_run: step_run.clone(),
            agent: agent.clone(),
            pipeline_id: "".into(),
            numbering: Numbering::Gateway { fingerprint: 0 },
            payload: Payload::Lines(Vec::new()),
            lost: Lost::default(),
            end_of_log: false,
            arrived: self.ingest.clock.now(),
            wants_feeder: false,
            memory: None,
            reply,
        };
        (submission, answer)
    }
}

/// What became of a batch's bytes.
enum Decode {
    Lines(Decoded),
    Unreadable(DecodeError),
    /// There was no memory for them in time; how many lines they hold, if that could be told in passing.
    NoMemory {
        lines: Option<u64>,
    },
}

fn rejected(seq: u64, why: impl Into<String>) -> Answer {
    Answer::Now(Verdict::rejected(seq, why))
}

/// What a batch whose lines the gateway counts is recognised by.
fn fingerprint(agent: &AgentId, step_run: &StepRunId, seq: u64, batch: &LogBatch) -> u64 {
    let mut hasher = Xxh3::new();
    agent.hash(&mut hasher);
    step_run.hash(&mut hasher);
    (seq, &batch.batch_id).hash(&mut hasher);
    hasher.update(&batch.data);
    hasher.finish()
}
