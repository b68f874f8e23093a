//! The reading: by a gateway's reader over WebSocket, and by the crate `clickhouse` alone.

use std::time::{Duration, Instant};

use arcgate_load::Outcome;
use arcgate_load::reader::Reader;
use clickhouse::{Client, Row};
use memchr::memmem;
use serde::Deserialize;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;

/// A reader who does not know which pipeline the step run belongs to.
async fn follow(address: &str, step_run: &str) -> Outcome<Reader> {
    Reader::follow_with(address, step_run, json!({ "pipelineId": "-", "jobId": "-" })).await
}

/// From the connection to the first lines of a step run.
pub(super) async fn first_chunk(address: &str, step_run: &str) -> Outcome<Duration> {
    let begin = Instant::now();
    let mut reader = follow(address, step_run).await?;
    loop {
        let message = reader.next().await?;
        match message.kind.as_str() {
            "log_chunk" => return Ok(begin.elapsed()),
            "subscribed" => {}
            other => return Err(format!("{step_run}: {other} came before the first lines: {:?}", message.error).into()),
        }
    }
}

/// From the connection to the end of a history, which must have `last` lines, each once and in order. Reads no more of the JSON than
/// that takes: the reader must not be what is measured.
pub(super) async fn whole(address: &str, step_run: &str, last: u64) -> Outcome<Duration> {
    const NUMBER: &str = "\"line_number\":";
    let number = memmem::Finder::new(NUMBER);
    let begin = Instant::now();
    let mut reader = follow(address, step_run).await?;
    let mut next = 1;
    while let Some(Frame::Text(text)) = reader.frame().await? {
        let mut has_lines = false;
        for at in number.find_iter(text.as_bytes()) {
            has_lines = true;
            let digits = text[at + NUMBER.len()..].split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            if digits.parse() != Ok(next) {
                return Err(format!("line {next} was next, line {digits} came").into());
            }
            next += 1;
        }
        if !has_lines && !text.contains("\"subscribed\"") {
            let done = next == last + 1 && text.contains("\"history_done\"");
            return if done { Ok(begin.elapsed()) } else { Err(format!("after line {}: {text}", next - 1).into()) };
        }
    }
    Err("the reader was closed".into())
}

/// What the gateway reads of a line.
#[derive(Row, Deserialize)]
#[expect(dead_code, reason = "reading them is what is measured")]
struct Line<'a> {
    line_number: u64,
    timestamp_ms: i64,
    stream: &'a str,
    level: &'a str,
    plugin_name: &'a str,
    agent_id: &'a str,
    truncated: bool,
    content: &'a str,
}

/// The same lines with the crate: one query, row by row.
pub(super) async fn alone(client: &Client, step_run: &str, last: u64) -> Outcome<Duration> {
    let begin = Instant::now();
    let sql = "SELECT ?fields FROM logs WHERE step_run_id = ? AND origin = 0 ORDER BY step_run_id, line_number";
    let mut rows = client.query(sql).bind(step_run).fetch::<Line<'_>>()?;
    let mut next = 1;
    while let Some(line) = rows.next().await? {
        if line.line_number != next {
            return Err(format!("line {next} was next, line {} came", line.line_number).into());
        }
        next += 1;
        std::hint::black_box(line.content);
    }
    if next == last + 1 { Ok(begin.elapsed()) } else { Err(format!("{} lines came", next - 1).into()) }
}
