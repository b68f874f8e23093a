//! Agents that send lines: batches are encoded before the clock starts, so that what is measured is the gateway.

use std::sync::Arc;
use std::time::Instant;

use arcgate_api::gateway::v1::log_batch::Compression;
use arcgate_api::gateway::v1::{LogBatch, Meta};
use arcgate_load::logs::{LogSession, client, compress, handshake, message};
use arcgate_load::process::Addresses;
use arcgate_load::text::BuildLog;
use arcgate_load::{Outcome, Trouble};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::{Pace, Tally, Window};
use crate::report::Report;
use crate::subject::{Subject, SubjectArguments};

/// Different batches that are sent in turn: enough that no cache of the processor holds them all.
const DISTINCT: usize = 64;

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// Agents: one connection each
    #[arg(long, default_value_t = 16)]
    agents: usize,
    /// Step runs that each agent sends in turn
    #[arg(long, default_value_t = 4)]
    step_runs: usize,
    /// Lines in a batch
    #[arg(long, default_value_t = 1000)]
    batch: usize,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Unanswered batches of an agent (LogSession)
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::Zstd)]
    compression: Codec,
    /// Lines a second, altogether; latencies then count from when a batch was due
    #[arg(long)]
    rate: Option<f64>,
    /// PushLogs instead of LogSession: no latencies
    #[arg(long)]
    push: bool,
    /// Let the gateway count the lines (no first_line)
    #[arg(long)]
    uncounted: bool,
    /// The seed of the lines
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// What all agents send.
#[derive(Debug)]
struct Load {
    data: Vec<(Bytes, u32)>,
    compression: Compression,
    lines: u64,
    step_runs: usize,
    window: usize,
    counted: bool,
    pace: Pace,
}

impl Load {
    /// Batch number `index` of an agent.
    fn batch(&self, agent: usize, index: u32) -> LogBatch {
        let (data, raw_size) = &self.data[(index as usize + agent) % self.data.len()];
        let (turn, step_run) = (index as usize / self.step_runs, index as usize % self.step_runs);
        LogBatch {
            batch_id: index.to_string(),
            meta: Some(Meta {
                agent_id: format!("agent-{agent}"),
                step_id: format!("load-{agent}-{step_run}"),
                seq: u64::from(index) + 1,
                ..Meta::default()
            }),
            compression: self.compression.into(),
            data: data.clone(),
            raw_size: *raw_size,
            first_line: if self.counted { turn as u64 * self.lines + 1 } else { 0 },
            ..LogBatch::default()
        }
    }
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    let compression = arguments.compression.into();
    let mut text = BuildLog::new(arguments.seed);
    let data = (0..DISTINCT)
        .map(|_| {
            let lines = text.lines(arguments.batch);
            Ok((compress(lines.as_bytes(), compression)?, u32::try_from(lines.len())?))
        })
        .collect::<Outcome<Vec<_>>>()?;
    let mut subject = Subject::open(arguments.subject).await?;
    subject.start_counting()?;
    let load = Arc::new(Load {
        data,
        compression,
        lines: arguments.batch as u64,
        step_runs: arguments.step_runs,
        window: arguments.window,
        counted: !arguments.uncounted,
        pace: Pace::new(arguments.seconds, arguments.rate, arguments.batch, arguments.agents),
    });

    let mut agents = JoinSet::new();
    for agent in 0..arguments.agents {
        let (load, addresses) = (Arc::clone(&load), subject.addresses.clone());
        agents.spawn(async move {
            let pace = load.pace.of(agent, arguments.agents);
            if arguments.push { push(&load, &addresses, agent, pace).await } else { session(load, &addresses, agent, pace).await }
        });
    }
    let mut tally = Tally::new()?;
    while let Some(agent) = agents.join_next().await {
        tally.add(&agent??)?;
    }
    let elapsed = load.pace.begin.elapsed();
    let call = if arguments.push { "PushLogs" } else { "LogSession" };
    let counted = if arguments.uncounted { "counted by the gateway" } else { "counted by the agents" };
    let rate = arguments.rate.map(|rate| format!(" at {rate:.0} lines/s")).unwrap_or_default();
    let (agents, batch) = (arguments.agents, arguments.batch);
    let scenario = format!("{call}, {agents} agents, batches of {batch} lines, {compression:?}, {counted}{rate}");
    Ok(Report {
        elapsed: Some(elapsed),
        cpu: subject.cpu()?,
        latency_of: if arguments.rate.is_some() { "due to ack" } else { "send to ack" },
        peak_memory: subject.peak_memory()?,
        faults: tally.faults("lines"),
        latency: tally.latency,
        ..Report::new(scenario, "lines", tally.taken)?
    })
}

/// One agent over LogSession, with a window of unanswered batches.
async fn session(load: Arc<Load>, addresses: &Addresses, agent: usize, pace: Pace) -> Outcome<Tally> {
    let session = LogSession::open(addresses.channel()?, &format!("agent-{agent}")).await?;
    let (batches, mut answers) = session.split()?;
    let (window, mut due) = Window::new(load.window);
    let sending = Arc::clone(&load);
    let sender = tokio::spawn(async move {
        for index in 0.. {
            let Some(due) = pace.due(index).await else { break };
            window.take(due).await?;
            batches.send(message(sending.batch(agent, index))).await?;
        }
        Ok::<_, Trouble>(())
    });
    let mut tally = Tally::new()?;
    while let Some(at) = due.next().await {
        let ack = answers.message().await?.and_then(|answer| answer.ack).ok_or("the session ended without an answer")?;
        due.answered();
        tally.note(&ack, at, load.lines);
    }
    sender.await??;
    Ok(tally)
}

/// One agent over PushLogs: one call, one answer at its end.
async fn push(load: &Arc<Load>, addresses: &Addresses, agent: usize, pace: Pace) -> Outcome<Tally> {
    let (batches, receiver) = tokio::sync::mpsc::channel(4);
    let sending = Arc::clone(load);
    let sender = tokio::spawn(async move {
        batches.send(handshake(&format!("agent-{agent}"))).await?;
        let mut sent = 0;
        for index in 0.. {
            if pace.due(index).await.is_none() {
                break;
            }
            batches.send(message(sending.batch(agent, index))).await?;
            sent += sending.lines;
        }
        Ok::<_, Trouble>(sent)
    });
    let answer = client(addresses.channel()?).push_logs(ReceiverStream::new(receiver)).await?.into_inner();
    let mut tally = Tally::new()?;
    tally.note(&answer.ack.ok_or("an answer without an ack")?, Instant::now(), sender.await??);
    // One number for a whole run is no latency.
    tally.latency.reset();
    Ok(tally)
}
