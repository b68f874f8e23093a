//! Lines through the gateway into its sinks: how fast they arrive there, once more of them wait than any buffer holds.

use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::log_batch::Compression;
use arcgate_load::http::Metrics;
use arcgate_load::logs::{self, LogSession, compress};
use arcgate_load::text::BuildLog;
use arcgate_load::{Outcome, within};
use clap::Args;

use crate::report::{Report, latencies};
use crate::subject::{Subject, SubjectArguments};

/// Lines in a batch.
const BATCH: u64 = 1_000;
/// Step runs that the lines are spread over.
const STEP_RUNS: u64 = 64;
/// How often the gateway is asked what has arrived: well below what is measured.
const ASK: Duration = Duration::from_millis(20);
/// A sink that takes longer is a fault, not a figure.
const LIMIT: Duration = Duration::from_secs(600);

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// Deliver to this Kafka broker
    #[arg(long, value_name = "ADDRESS")]
    kafka: Option<String>,
    /// Deliver to this ClickHouse
    #[arg(long, value_name = "URL")]
    clickhouse: Option<String>,
    /// How many lines
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
}

/// Runs it: all lines are pushed as fast as they are acked, which is far faster than any sink takes them.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    let mut settings = arguments.subject;
    let mut sinks = Vec::new();
    if let Some(kafka) = &arguments.kafka {
        settings.set("ARCGATE_KAFKA__BROKERS", kafka);
        sinks.push("kafka-logs");
    }
    if let Some(url) = &arguments.clickhouse {
        settings.set("ARCGATE_CLICKHOUSE__URL", url);
        sinks.push("clickhouse-logs");
    }
    let mut subject = Subject::open(settings).await?;
    subject.start_counting()?;
    let begin = Instant::now();
    push(&subject, arguments.lines).await?;
    let pushed = begin.elapsed();
    for sink in &sinks {
        within(LIMIT, sink, arrived(&subject, sink, arguments.lines)).await?;
    }
    let elapsed = begin.elapsed();
    Ok(Report {
        scenario: format!("{} lines (pushed in {:.1} s) into {}", arguments.lines, pushed.as_secs_f64(), sinks.join(" and ")),
        unit: "lines",
        count: arguments.lines,
        elapsed,
        cpu: subject.cpu()?,
        latency_of: "none",
        peak_memory: subject.peak_memory()?,
        faults: Vec::new(),
        latency: latencies()?,
    })
}

async fn push(subject: &Subject, lines: u64) -> Outcome<()> {
    let text = BuildLog::new(1).lines(usize::try_from(BATCH)?);
    let data = compress(text.as_bytes(), Compression::Zstd)?;
    let mut session = LogSession::open(subject.addresses.channel()?, "sinks").await?;
    for index in 0..lines / BATCH {
        let mut batch = logs::batch("sinks", &format!("step-{}", index % STEP_RUNS), index + 1, data.clone());
        batch.compression = Compression::Zstd.into();
        batch.first_line = index / STEP_RUNS * BATCH + 1;
        session.send(batch).await?;
        // A window of 64 unanswered batches, as the session allows.
        if index >= 64 {
            session.answer().await?.ok_or("the session ended early")?;
        }
    }
    session.finish();
    while session.answer().await?.is_some() {}
    Ok(())
}

async fn arrived(subject: &Subject, sink: &str, lines: u64) -> Outcome<()> {
    let label = format!("sink=\"{sink}\"");
    while Metrics::of(&subject.addresses.http).await?.with("arcgate_sink_delivered_total", &label) < lines as f64 {
        tokio::time::sleep(ASK).await;
    }
    Ok(())
}
