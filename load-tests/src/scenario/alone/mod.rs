//! What Kafka and ClickHouse take from their client libraries alone, with records that are ready-made: what a sink is measured
//! against. Same lines and events, same size of batches, same number of them under way, same compression as the gateway's defaults.

mod clickhouse;
mod kafka;

use arcgate_load::{Outcome, procfs};
use clap::Args;

use crate::report::Report;

/// What to send, and where to.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Produce to this Kafka broker, topic BUILD_LOGS or EVENT_PIPELINE, which must be there
    #[arg(long, value_name = "ADDRESS", required_unless_present = "clickhouse")]
    kafka: Option<String>,
    /// Insert into this ClickHouse, a copy of the table arcgate.logs or arcgate.events, which must be there
    #[arg(long, value_name = "URL")]
    clickhouse: Option<String>,
    /// How many lines
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// So many events, no lines
    #[arg(long, value_name = "COUNT")]
    events: Option<u64>,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    let Arguments { kafka, clickhouse, lines, events } = arguments;
    let (unit, count) = events.map_or(("lines", lines), |events| ("events", events));
    let what = match (&kafka, &clickhouse) {
        (Some(_), Some(_)) => "librdkafka and the crate clickhouse",
        (Some(_), None) => "librdkafka",
        (None, _) => "the crate clickhouse",
    };
    let produce = kafka.map(|brokers| {
        let send = if events.is_some() { kafka::events } else { kafka::lines };
        tokio::task::spawn_blocking(move || send(&brokers, count))
    });
    let mut begun = Vec::new();
    match &clickhouse {
        Some(url) if events.is_some() => begun.push(clickhouse::events(url, count).await?),
        Some(url) => begun.push(clickhouse::lines(url, count).await?),
        None => {}
    }
    if let Some(produce) = produce {
        begun.push(produce.await??);
    }
    let Begin { time, cpu } = begun.into_iter().min_by_key(|begin| begin.time).ok_or("name --kafka or --clickhouse")?;
    Ok(Report {
        elapsed: Some(time.elapsed()),
        cpu: Some(procfs::cpu(std::process::id())?.saturating_sub(cpu)),
        ..Report::new(format!("{what} alone, {count} ready-made {unit}"), unit, count)?
    })
}

/// When everything was ready, and the processor time that took.
#[derive(Debug)]
struct Begin {
    time: std::time::Instant,
    cpu: std::time::Duration,
}

impl Begin {
    fn now() -> Outcome<Self> {
        Ok(Self { time: std::time::Instant::now(), cpu: procfs::cpu(std::process::id())? })
    }
}
