//! How long a line takes from push to reader: each line carries when it was due, each reader looks at the clock.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcgate_load::logs::{LogSession, batch};
use arcgate_load::process::Addresses;
use arcgate_load::reader::Reader;
use arcgate_load::{Outcome, Trouble, within};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Pace;
use crate::report::{Report, latencies};
use crate::subject::{Subject, SubjectArguments};

/// Readers get this long for what is still on its way when the last line is sent.
const REST: Duration = Duration::from_secs(30);

/// What to send and read.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// Step runs: an agent with a connection of its own and a reader each
    #[arg(long, default_value_t = 50)]
    streams: usize,
    /// Lines a second, altogether
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// Lines in a batch
    #[arg(long, default_value_t = 20)]
    batch: usize,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    let Arguments { streams, rate, batch, seconds, .. } = arguments;
    let mut subject = Subject::open(arguments.subject).await?;
    let batches = (seconds * rate / (batch * streams) as f64).ceil() as u32;
    let last = u64::from(batches) * batch as u64;
    let start = Instant::now();
    // All readers are subscribed before the first line is sent: what is measured is live.
    let ready = Arc::new(Barrier::new(streams + 1));
    let mut readers = JoinSet::new();
    for stream in 0..streams {
        let (addresses, ready) = (subject.addresses.clone(), Arc::clone(&ready));
        let limit = Duration::from_secs_f64(seconds * 2.0) + REST;
        readers.spawn(async move { within(limit, "a reader's last line", read(&addresses, stream, last, start, &ready)).await });
    }
    within(REST, "all readers' subscriptions", async { Ok(ready.wait().await) }).await?;

    subject.start_counting()?;
    let pace = Pace::new(seconds, Some(rate), batch, streams);
    let mut agents = JoinSet::new();
    for stream in 0..streams {
        let pace = pace.of(stream, streams);
        let pace = Pace { end: pace.end + Duration::from_secs(1), ..pace };
        agents.spawn(write(subject.addresses.clone(), stream, batches, batch, start, pace));
    }
    while let Some(agent) = agents.join_next().await {
        agent??;
    }
    let mut latency = latencies()?;
    while let Some(reader) = readers.join_next().await {
        latency.add(reader??)?;
    }
    let scenario = format!("{streams} streams, {streams} readers, {rate:.0} lines/s in batches of {batch}");
    Ok(Report {
        elapsed: Some(pace.begin.elapsed()),
        cpu: subject.cpu()?,
        latency_of: "due to reader",
        latency,
        peak_memory: subject.peak_memory()?,
        ..Report::new(scenario, "lines", last * streams as u64)?
    })
}

/// The agent of a stream. Its answers are read by a task of their own, so that they never hold it back.
async fn write(addresses: Addresses, stream: usize, batches: u32, size: usize, start: Instant, pace: Pace) -> Outcome<()> {
    let agent = format!("agent-{stream}");
    let (sender, mut answers) = LogSession::open(addresses.channel()?, &agent).await?.split()?;
    let answered = tokio::spawn(async move {
        while let Some(answer) = answers.message().await? {
            if let Some(message) = answer.ack.map(|ack| ack.message).filter(|message| !message.is_empty()) {
                return Err(message.into());
            }
        }
        Ok::<_, Trouble>(())
    });
    for index in 0..batches {
        let Some(due) = pace.due(index).await else { return Err("the gateway took the lines too slowly".into()) };
        let mut text = String::with_capacity(size * arcgate_load::text::LINE_BYTES);
        for line in 0..size {
            let micros = (due - start).as_micros();
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{micros} rustc --crate-name line_{line} --edition=2021 -C opt-level=3 -C embed-bitcode=no --out-dir target/release/deps"
            );
        }
        let mut batch = batch(&agent, &format!("tail-{stream}"), u64::from(index) + 1, text);
        batch.first_line = u64::from(index) * size as u64 + 1;
        sender.send(arcgate_load::logs::message(batch)).await?;
    }
    drop(sender);
    answered.await?
}

/// What matters here of a chunk of lines, and of one line.
#[derive(Deserialize)]
struct Chunk {
    data: Vec<Line>,
}
#[derive(Deserialize)]
struct Single {
    data: Line,
}
#[derive(Deserialize)]
struct Line {
    line_number: u64,
    content: String,
}

/// The reader of a stream: each line once, in order, up to `last`.
async fn read(addresses: &Addresses, stream: usize, last: u64, start: Instant, ready: &Barrier) -> Outcome<Histogram<u64>> {
    let mut reader = Reader::follow_with(&addresses.http, &format!("tail-{stream}"), json!({ "liveChunks": true })).await?;
    loop {
        let message = reader.soon().await?;
        match message.kind.as_str() {
            "history_done" => break,
            "error" => return Err(message.error.unwrap_or_default().into()),
            _ => {}
        }
    }
    ready.wait().await;
    let mut latency = latencies()?;
    let mut next = 1;
    while next <= last {
        let Some(Frame::Text(text)) = reader.frame().await? else { return Err("a reader was closed".into()) };
        let now = start.elapsed().as_micros();
        let lines = match serde_json::from_str::<Chunk>(&text) {
            Ok(chunk) => chunk.data,
            Err(_) => vec![serde_json::from_str::<Single>(&text).map_err(|error| format!("{error}: {text}"))?.data],
        };
        for line in lines {
            if line.line_number != next {
                return Err(format!("stream {stream}: line {next} was next, {} came", line.line_number).into());
            }
            next += 1;
            let due: u128 = line.content.split(' ').next().unwrap_or_default().parse()?;
            latency.saturating_record(u64::try_from(now.saturating_sub(due))?.max(1));
        }
    }
    Ok(latency)
}
