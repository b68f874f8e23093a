//! With librdkafka.

use std::time::Duration;

use arcgate_load::Outcome;
use arcgate_load::text::BuildLog;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use serde_json::json;

use super::Begin;
use crate::scenario::events::{envelope, ids};
use crate::scenario::sinks::DISTINCT_LINES;

/// Different events, sent in turn.
const DISTINCT_EVENTS: usize = 50_000;

/// Sends lines.
pub(super) fn lines(brokers: &str, count: u64) -> Outcome<Begin> {
    let text = BuildLog::new(1).lines(DISTINCT_LINES);
    let records: Vec<String> = (text.lines().zip(1..))
        .map(|(line, number)| {
            let record = json!({
                "pipelineId": "pipeline", "stepRunId": "step-1", "timestamp": 1_772_600_000, "timestampMs": 1_772_600_000_000_u64,
                "lineNumber": number, "content": line, "agentId": "sinks",
            });
            record.to_string()
        })
        .collect();
    let records: Vec<_> = records.iter().map(|record| (record, None)).collect();
    produce(brokers, ("BUILD_LOGS", "pipeline::step-1"), &records, count)
}

/// Sends events, with headers as the gateway's.
pub(super) fn events(brokers: &str, count: u64) -> Outcome<Begin> {
    let mut envelope = envelope();
    let key = envelope["subject"].as_str().unwrap_or_default().to_owned();
    let records: Vec<(String, OwnedHeaders)> = ids(1)
        .zip(1..)
        .take(DISTINCT_EVENTS)
        .map(|(id, seq)| {
            envelope["id"] = id.as_str().into();
            let (digest, seq) = (format!("{:016x}", u64::MAX / seq), seq.to_string());
            let headers = [
                ("arcgate-agent-id", "agent-0"),
                ("arcgate-event-id", id.as_str()),
                ("arcgate-digest", digest.as_str()),
                ("arcgate-seq", seq.as_str()),
            ];
            let headers = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(*value) })
            });
            (envelope.to_string(), headers)
        })
        .collect();
    let records: Vec<_> = records.iter().map(|(record, headers)| (record, Some(headers))).collect();
    produce(brokers, ("EVENT_PIPELINE", &key), &records, count)
}

#[expect(clippy::disallowed_methods, reason = "nothing else runs meanwhile")]
fn produce(
    brokers: &str,
    (topic, key): (&str, &str),
    records: &[(&String, Option<&OwnedHeaders>)],
    count: u64,
) -> Outcome<Begin> {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("compression.level", "1")
        .set("linger.ms", "20")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.kbytes", "32768")
        .create()?;
    let begin = Begin::now()?;
    for (payload, headers) in records.iter().cycle().take(usize::try_from(count)?) {
        let mut record = BaseRecord::to(topic).key(key).payload(payload.as_str());
        if let Some(headers) = headers {
            record = record.headers((*headers).clone());
        }
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            // Not `yield_now`: that takes the core from librdkafka's own threads.
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(600))?;
    Ok(begin)
}
