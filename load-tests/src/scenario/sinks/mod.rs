//! Through the gateway into its sinks: how fast lines and events arrive there, once more of them wait than any buffer holds.

mod push;

use std::time::{Duration, Instant};

use arcgate_load::http::Metrics;
use arcgate_load::{Outcome, within};
use clap::Args;
use clickhouse::Client;

use super::stored_in_clickhouse;
use crate::report::Report;
use crate::subject::{Subject, SubjectArguments};

pub(crate) use push::DISTINCT_LINES;

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
    #[arg(long, value_name = "ADDRESS", required_unless_present = "clickhouse")]
    kafka: Option<String>,
    /// Deliver to this ClickHouse
    #[arg(long, value_name = "URL")]
    clickhouse: Option<String>,
    /// How many lines
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// So many events, no lines; they wait in the gateway's store before the sinks are turned on
    #[arg(long, value_name = "COUNT", conflicts_with = "grpc")]
    events: Option<u64>,
}

impl Arguments {
    fn sinks(&self) -> Vec<(&'static str, &'static str, &str)> {
        let kafka = self.kafka.iter().map(|brokers| ("kafka", "ARCGATE_KAFKA__BROKERS", brokers.as_str()));
        kafka.chain(self.clickhouse.iter().map(|url| ("clickhouse", "ARCGATE_CLICKHOUSE__URL", url.as_str()))).collect()
    }

    fn settings(&self) -> Vec<(String, String)> {
        self.sinks().iter().map(|(_, name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    match arguments.events {
        Some(count) => events(&arguments, count).await,
        None => lines(&arguments, arguments.lines).await,
    }
}

/// All lines are pushed as fast as they are acked, which is far faster than any sink takes them.
async fn lines(arguments: &Arguments, count: u64) -> Outcome<Report> {
    let mut settings = arguments.subject.clone();
    arguments.settings().iter().for_each(|(name, value)| settings.set(name, value));
    let mut subject = Subject::open(settings).await?;
    subject.start_counting()?;
    let batches = push::Lines::new()?;
    let begin = Instant::now();
    batches.push(&subject, count).await?;
    let pushed = begin.elapsed();
    let into = arrived(arguments, &subject, "logs", count).await?;
    let elapsed = begin.elapsed();
    let scenario = format!("{count} lines (pushed in {:.1} s) into {into}", pushed.as_secs_f64());
    report(arguments, &subject, ("lines", "logs"), elapsed, Report::new(scenario, "lines", count)?).await
}

/// Events take the gateway longer to accept than to deliver: so they are there before the sinks are turned on. What counts begins
/// once the gateway is ready, since it reads all ids that it must know again before that.
async fn events(arguments: &Arguments, count: u64) -> Outcome<Report> {
    let mut subject = Subject::open(arguments.subject.clone()).await?;
    push::events(&subject, count).await?;
    subject.restart_with(arguments.settings()).await?;
    subject.start_counting()?;
    let begin = Instant::now();
    let before = delivered(arguments, &subject, "events").await?.into_iter().max().unwrap_or_default();
    let into = arrived(arguments, &subject, "events", count).await?;
    let elapsed = begin.elapsed();
    let scenario = format!("{count} events that wait in the store into {into}");
    report(arguments, &subject, ("events", "events"), elapsed, Report::new(scenario, "events", count - before)?).await
}

/// How many records of one of the logs each sink has delivered since the gateway's start.
async fn delivered(arguments: &Arguments, subject: &Subject, log: &str) -> Outcome<Vec<u64>> {
    let metrics = Metrics::of(&subject.addresses.http).await?;
    let of_sink = |name: &str| metrics.with("arcgate_sink_delivered_total", &format!("sink=\"{name}-{log}\"")) as u64;
    Ok(arguments.sinks().iter().map(|(name, ..)| of_sink(name)).collect())
}

/// Waits until the sinks have delivered that many records of one of the logs; returns the sinks' names.
async fn arrived(arguments: &Arguments, subject: &Subject, log: &str, count: u64) -> Outcome<String> {
    let names: Vec<_> = arguments.sinks().iter().map(|(service, ..)| format!("{service}-{log}")).collect();
    let into = names.join(" and ");
    let waiting = async {
        while delivered(arguments, subject, log).await?.into_iter().any(|delivered| delivered < count) {
            tokio::time::sleep(ASK).await;
        }
        Ok(())
    };
    within(LIMIT, &into, waiting).await?;
    Ok(into)
}

async fn report(
    arguments: &Arguments,
    subject: &Subject,
    (folder, table): (&str, &str),
    elapsed: Duration,
    report: Report,
) -> Outcome<Report> {
    let cpu = subject.cpu()?;
    let mut stored = Vec::new();
    if let Some(bytes) = subject.stored(folder)? {
        stored.push(("own store", bytes as f64 / report.count.max(1) as f64));
    }
    if let Some(url) = &arguments.clickhouse {
        let client = Client::default().with_url(url).with_database("arcgate").with_validation(false);
        stored.push(("ClickHouse", stored_in_clickhouse(&client, table).await?));
    }
    Ok(Report { elapsed: Some(elapsed), cpu, peak_memory: subject.peak_memory()?, stored, ..report })
}
