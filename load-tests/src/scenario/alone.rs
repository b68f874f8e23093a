//! What Kafka and ClickHouse take from their client libraries alone, with records that are ready-made: what a sink is measured
//! against. Same lines, same size of batches, same number of them under way, same compression as the gateway's defaults.

use std::time::Instant;

use arcgate_load::Outcome;
use arcgate_load::text::BuildLog;
use clap::Args;
use clickhouse::{Client, Compression, Row};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::report::{Report, latencies};

/// Rows of one insert.
const INSERT_ROWS: u64 = 200_000;
/// Inserts under way at a time.
const INSERTS: u64 = 2;
/// Different lines, sent in turn.
const DISTINCT: usize = 1_000;

/// What to send, and where to.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Produce to this Kafka broker, topic BUILD_LOGS, which must be there
    #[arg(long, value_name = "ADDRESS", required_unless_present = "clickhouse")]
    kafka: Option<String>,
    /// Insert into this ClickHouse, a copy of the table arcgate.logs, which must be there
    #[arg(long, value_name = "URL", conflicts_with = "kafka")]
    clickhouse: Option<String>,
    /// How many lines
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    let text = BuildLog::new(1).lines(DISTINCT);
    let lines: Vec<&str> = text.lines().collect();
    let (what, begin) = match (&arguments.kafka, &arguments.clickhouse) {
        (Some(brokers), _) => ("librdkafka", produce(brokers, &lines, arguments.lines)?),
        (None, Some(url)) => ("the crate clickhouse", insert(url, &lines, arguments.lines).await?),
        (None, None) => return Err("name --kafka or --clickhouse".into()),
    };
    Ok(Report {
        scenario: format!("{what} alone, {} ready-made records", arguments.lines),
        unit: "lines",
        count: arguments.lines,
        elapsed: begin.elapsed(),
        cpu: None,
        latency_of: "none",
        peak_memory: None,
        faults: Vec::new(),
        latency: latencies()?,
    })
}

fn produce(brokers: &str, lines: &[&str], count: u64) -> Outcome<Instant> {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", "32768")
        .create()?;
    let records: Vec<String> = (lines.iter().zip(1..))
        .map(|(line, number)| {
            let record = json!({
                "pipelineId": "pipeline", "stepRunId": "step-1", "timestamp": 1_772_600_000, "timestampMs": 1_772_600_000_000_u64,
                "lineNumber": number, "content": line, "agentId": "sinks",
            });
            record.to_string()
        })
        .collect();
    let begin = Instant::now();
    for record in records.iter().cycle().take(usize::try_from(count)?) {
        let mut record = BaseRecord::to("BUILD_LOGS").key("pipeline::step-1").payload(record);
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            std::thread::yield_now();
            record = back;
        }
    }
    producer.flush(std::time::Duration::from_secs(600))?;
    Ok(begin)
}

/// A row of the table `logs`.
#[derive(Clone, Row, Serialize)]
struct Line<'a> {
    step_run_id: &'a str,
    line_number: u64,
    origin: u64,
    timestamp: u32,
    timestamp_ms: i64,
    level: &'a str,
    content: &'a str,
    stream: &'a str,
    plugin_name: &'a str,
    agent_id: &'a str,
    pipeline_id: &'a str,
    job_id: &'a str,
    seq: u64,
    epoch: u32,
    truncated: bool,
    received: i64,
}

async fn insert(url: &str, lines: &[&str], count: u64) -> Outcome<Instant> {
    let client = Client::default().with_url(url).with_compression(Compression::Lz4).with_validation(false);
    for statement in
        ["CREATE DATABASE IF NOT EXISTS alone", "DROP TABLE IF EXISTS alone.logs SYNC", "CREATE TABLE alone.logs AS arcgate.logs"]
    {
        client.query(statement).execute().await?;
    }
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let client = client.with_database("alone");
    let begin = Instant::now();
    let mut inserts = JoinSet::new();
    for first in (0..count).step_by(usize::try_from(INSERT_ROWS)?) {
        if inserts.len() as u64 >= INSERTS {
            inserts.join_next().await.ok_or("no insert")???;
        }
        let (client, lines) = (client.clone(), lines.clone());
        inserts.spawn(async move {
            let mut insert = client.insert::<Line<'_>>("logs").await?;
            for number in first..(first + INSERT_ROWS).min(count) {
                let line = Line {
                    step_run_id: "step-1",
                    line_number: number + 1,
                    origin: 0,
                    timestamp: 1_772_600_000,
                    timestamp_ms: 1_772_600_000_000,
                    level: "",
                    content: &lines[number as usize % lines.len()],
                    stream: "",
                    plugin_name: "",
                    agent_id: "sinks",
                    pipeline_id: "pipeline",
                    job_id: "",
                    seq: 0,
                    epoch: 1,
                    truncated: false,
                    received: 1_772_600_000_000,
                };
                insert.write(&line).await?;
            }
            Outcome::Ok(insert.end().await?)
        });
    }
    while let Some(inserted) = inserts.join_next().await {
        inserted??;
    }
    Ok(begin)
}
