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
    #[arg(long, value_name = "URL", conflicts_with = "kafka")]
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
    let (what, begin) = match (&kafka, &clickhouse) {
        (Some(brokers), _) if events.is_some() => ("librdkafka", kafka::events(brokers, count)?),
        (Some(brokers), _) => ("librdkafka", kafka::lines(brokers, count)?),
        (None, Some(url)) if events.is_some() => ("the crate clickhouse", clickhouse::events(url, count).await?),
        (None, Some(url)) => ("the crate clickhouse", clickhouse::lines(url, count).await?),
        (None, None) => return Err("name --kafka or --clickhouse".into()),
    };
    let Begin { time, cpu } = begin;
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
