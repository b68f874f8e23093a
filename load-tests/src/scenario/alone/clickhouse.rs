//! With the crate `clickhouse`.

use arcgate_load::Outcome;
use arcgate_load::text::BuildLog;
use clickhouse::{Client, Compression, Row};
use serde::Serialize;
use tokio::task::JoinSet;

use super::Begin;
use crate::scenario::events::{envelope, ids};
use crate::scenario::sinks::DISTINCT_LINES;

/// Lines of one insert.
const LINES: u64 = 200_000;
/// Events of one insert: those that the gateway would send have as many bytes.
const EVENTS: u64 = 50_000;
/// Inserts under way at a time.
const INSERTS: u64 = 2;

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

/// A row of the table `events`.
#[derive(Clone, Row, Serialize)]
struct Event<'a> {
    agent_id: &'a str,
    event_id: &'a str,
    digest: u64,
    seq: u64,
    r#type: &'a str,
    subject: &'a str,
    source: &'a str,
    time: i64,
    pipeline_id: &'a str,
    step_id: &'a str,
    received: i64,
    payload: &'a str,
}

/// Sends lines.
pub(super) async fn lines(url: &str, count: u64) -> Outcome<Begin> {
    let client = table(url, "logs").await?;
    let lines: Vec<String> = BuildLog::new(1).lines(DISTINCT_LINES).lines().map(str::to_owned).collect();
    let lines: &'static [String] = lines.leak();
    inserts(count, LINES, move |first, last| {
        let client = client.clone();
        async move {
            let mut insert = client.insert::<Line<'_>>("logs").await?;
            for number in first..last {
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
            Ok(insert.end().await?)
        }
    })
    .await
}

/// Sends events.
pub(super) async fn events(url: &str, count: u64) -> Outcome<Begin> {
    let client = table(url, "events").await?;
    let mut envelope = envelope();
    let payloads = ids(1).take(usize::try_from(EVENTS)?).map(|id| {
        envelope["id"] = id.as_str().into();
        (id, envelope.to_string())
    });
    let payloads: &'static [(String, String)] = payloads.collect::<Vec<_>>().leak();
    inserts(count, EVENTS, move |first, last| {
        let client = client.clone();
        async move {
            let mut insert = client.insert::<Event<'_>>("events").await?;
            for number in first..last {
                let (event_id, payload) = &payloads[number as usize % payloads.len()];
                let event = Event {
                    agent_id: "agent-0",
                    event_id,
                    digest: number,
                    seq: number + 1,
                    r#type: "arcentra.task.started",
                    subject: "pipeline/01J0000000000000000000000A/step/build",
                    source: "urn:arcentra:executor:shell",
                    time: 1_772_600_000_000,
                    pipeline_id: "01J0000000000000000000000A",
                    step_id: "build",
                    received: 1_772_600_000_000,
                    payload,
                };
                insert.write(&event).await?;
            }
            Ok(insert.end().await?)
        }
    })
    .await
}

/// An empty copy of the gateway's table.
async fn table(url: &str, table: &str) -> Outcome<Client> {
    let client = Client::default().with_url(url).with_compression(Compression::Lz4).with_validation(false);
    client.query("CREATE DATABASE IF NOT EXISTS alone").execute().await?;
    client.query(&format!("DROP TABLE IF EXISTS alone.{table} SYNC")).execute().await?;
    client.query(&format!("CREATE TABLE alone.{table} AS arcgate.{table}")).execute().await?;
    Ok(client.with_database("alone"))
}

/// Inserts `count` rows, `rows` at a time; `insert` sends those from a number to another.
async fn inserts<F>(count: u64, rows: u64, insert: impl Fn(u64, u64) -> F) -> Outcome<Begin>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let begin = Begin::now()?;
    let mut under_way = JoinSet::new();
    for first in (0..count).step_by(usize::try_from(rows)?) {
        if under_way.len() as u64 >= INSERTS {
            under_way.join_next().await.ok_or("no insert")???;
        }
        under_way.spawn(insert(first, (first + rows).min(count)));
    }
    while let Some(inserted) = under_way.join_next().await {
        inserted??;
    }
    Ok(begin)
}
