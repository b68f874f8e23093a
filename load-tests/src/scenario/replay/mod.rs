//! History from ClickHouse, by a gateway whose own store is empty: how fast a long step run is read, against what the crate
//! `clickhouse` alone reads of the same rows, and how soon a reader of one step run among 100 million lines sees something.

mod archive;
mod read;

use std::time::Duration;

use arcgate_load::{Outcome, procfs, within};
use clap::Args;
use clickhouse::{Client, Compression};

use self::archive::{Archive, LINES};
use crate::report::{Report, latencies};
use crate::subject::{Cores, Subject, SubjectArguments};

/// The long step run is read so often by each of the two, in turns: what else the machine does meanwhile hits both.
const ROUNDS: u32 = 3;
/// What takes longer is a fault, not a figure.
const LIMIT: Duration = Duration::from_secs(600);

/// What to read.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// The ClickHouse to fill: a database of this run's own is created there, and removed in the end
    #[arg(long, value_name = "URL")]
    clickhouse: String,
    /// Use the database of this name, which an earlier run has filled with as many lines, or fill it and leave it there
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// How many lines there are altogether, in millions
    #[arg(long, default_value_t = 100)]
    millions: u64,
    /// Lines of the long step run
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// Step runs whose first chunk is waited for, each once
    #[arg(long, default_value_t = 40)]
    step_runs: u64,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Vec<Report>> {
    let own = arguments.database.is_none().then(|| format!("arcgate_load_{}", std::process::id()));
    let database = arguments.database.clone().or(own.clone()).unwrap_or_default();
    let server = Client::default().with_url(&arguments.clickhouse).with_compression(Compression::Lz4).with_validation(false);
    let client = server.clone().with_database(&database);
    let measured = measure(arguments, &database, client).await;
    if let Some(own) = own {
        let removed = server.query(&format!("DROP DATABASE IF EXISTS {own} SYNC")).execute().await;
        // What came before it matters more.
        return measured.and_then(|reports| removed.map(|()| reports).map_err(Into::into));
    }
    measured
}

async fn measure(arguments: Arguments, database: &str, client: Client) -> Outcome<Vec<Report>> {
    let Arguments { subject: mut settings, clickhouse, millions, lines, step_runs, .. } = arguments;
    settings.set("ARCGATE_CLICKHOUSE__URL", &clickhouse);
    settings.set("ARCGATE_CLICKHOUSE__DATABASE", database);
    let mut subject = Subject::open(settings).await?;
    let archive = Archive::make(client, millions * 1_000_000, lines).await?;

    let mut first = latencies()?;
    // The very first one finds everything cold: a table that was made a moment ago, no connection. It is told apart.
    let mut cold = None;
    for step_run in archive.some(step_runs + 1).await? {
        let reading = read::first_chunk(&subject.addresses.http, &step_run);
        let taken = within(LIMIT, "a first chunk", reading).await?;
        match cold {
            None => cold = Some(taken),
            Some(_) => first.saturating_record(u64::try_from(taken.as_micros())?),
        }
    }
    let cold = cold.unwrap_or_default().as_millis();

    let (mut replayed, mut read_alone) = (Duration::ZERO, Duration::ZERO);
    let (mut replay_cpu, mut alone_cpu) = (Duration::ZERO, Duration::ZERO);
    let long = archive.long().await?;
    for _ in 0..ROUNDS {
        // The crate has what the gateway has: the same cores.
        subject.move_load(Cores::Gateways)?;
        let before = procfs::cpu(std::process::id())?;
        let alone = within(LIMIT, "the crate's read", read::alone(&archive.client, &long, lines)).await?;
        alone_cpu += procfs::cpu(std::process::id())?.saturating_sub(before);
        subject.move_load(Cores::Own)?;
        subject.start_counting()?;
        let replay = within(LIMIT, "the gateway's replay", read::whole(&subject.addresses.http, &long, lines)).await?;
        replay_cpu += subject.cpu()?.unwrap_or_default();
        eprintln!("  {replay:.2?} through the gateway, {alone:.2?} by the crate alone");
        replayed += replay;
        read_alone += alone;
    }

    let all = archive.lines;
    let share = 100.0 * read_alone.as_secs_f64() / replayed.as_secs_f64();
    let among = format!("from ClickHouse, among {all} lines");
    Ok(vec![
        Report {
            latency_of: "connect to first chunk",
            latency: first,
            stored: vec![("ClickHouse", archive.bytes_per_line().await?)],
            ..Report::new(
                format!(
                    "First chunk of {step_runs} step runs of {LINES} lines each {among}, after a first one that took {cold} ms"
                ),
                "chunks",
                step_runs,
            )?
        },
        Report {
            elapsed: Some(replayed),
            cpu: Some(replay_cpu),
            peak_memory: subject.peak_memory()?,
            ..Report::new(
                format!("Replay of {lines} lines {among}: {share:.0}% of the crate alone"),
                "lines",
                lines * u64::from(ROUNDS),
            )?
        },
        Report {
            elapsed: Some(read_alone),
            cpu: Some(alone_cpu),
            ..Report::new(
                format!("the crate clickhouse alone, one query for the same {lines} rows"),
                "lines",
                lines * u64::from(ROUNDS),
            )?
        },
    ])
}
