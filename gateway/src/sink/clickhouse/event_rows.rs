//! Events as rows of `events`.

use prost_types::Timestamp;
use serde_json::json;

use super::line_rows::decimal;
use super::rowbinary::put_bytes;
use crate::clock::Millis;
use crate::sink::cloudevent::CloudEvent;
use crate::store::events::StoredEvent;

/// The columns of `events` in the order of a row.
pub(super) const COLUMNS: &str =
    "agent_id, event_id, digest, seq, type, subject, source, time, pipeline_id, step_id, received, payload";

/// A payload has at most this many bytes; of a larger one the `content` is cut and marked, whose lines are in `logs`.
const MAX_PAYLOAD: usize = 8 << 20;

/// The times that a `DateTime64(3)` can hold: 1900 to 2299.
const TIMES: std::ops::RangeInclusive<Millis> = -2_208_988_800_000..=10_413_791_999_999;

/// Appends an event's row; `payload` is room for its text, whatever is there, so that not every event asks for memory.
///
/// # Errors
/// Why it cannot be written; trying again does not help.
pub(super) fn put_event(event: &StoredEvent, payload: &mut Vec<u8>, row: &mut Vec<u8>) -> Result<(), String> {
    let cloud = CloudEvent::of(event).map_err(|error| error.to_string())?;
    put_payload(&cloud, payload)?;
    put_bytes(row, event.agent.as_str().as_bytes());
    put_bytes(row, event.event_id.as_bytes());
    row.extend_from_slice(&event.digest.to_le_bytes());
    row.extend_from_slice(&event.seq.to_le_bytes());
    for text in [cloud.kind, cloud.subject.as_deref().unwrap_or_default(), &*cloud.source] {
        put_bytes(row, text.as_bytes());
    }
    row.extend_from_slice(&millis(&cloud.time).to_le_bytes());
    put_bytes(row, cloud.pipeline_id.as_bytes());
    put_bytes(row, cloud.step_id.as_bytes());
    row.extend_from_slice(&event.received.to_le_bytes());
    put_bytes(row, payload);
    Ok(())
}

/// An event's row as JSON: what a dead letter keeps. Nothing if its payload cannot be written: without, it would be another event.
pub(super) fn event_json(event: &StoredEvent) -> Vec<u8> {
    let mut row = json!({
        "agent_id": event.agent.as_str(), "event_id": &*event.event_id, "digest": event.digest, "seq": event.seq,
        "received": decimal(event.received),
    });
    if let (Ok(cloud), Some(row)) = (CloudEvent::of(event), row.as_object_mut()) {
        let mut payload = Vec::new();
        if put_payload(&cloud, &mut payload).is_err() {
            return Vec::new();
        }
        let texts = [
            ("type", cloud.kind),
            ("subject", cloud.subject.as_deref().unwrap_or_default()),
            ("source", &*cloud.source),
            ("time", &*decimal(millis(&cloud.time))),
            ("pipeline_id", cloud.pipeline_id),
            ("step_id", cloud.step_id),
            ("payload", &*String::from_utf8_lossy(&payload)),
        ];
        row.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
    }
    row.to_string().into_bytes()
}

/// Replaces what is in `payload` by the event's text; by nothing, if it cannot be written.
fn put_payload(cloud: &CloudEvent<'_>, payload: &mut Vec<u8>) -> Result<(), String> {
    payload.clear();
    cloud.write(MAX_PAYLOAD, || None, payload).map(drop).map_err(|error| error.to_string())
}

/// A time as agents write it (RFC 3339), in Unix milliseconds; 0 if it is none.
fn millis(time: &str) -> Millis {
    let parsed: Option<Timestamp> = time.parse().ok();
    let millis = parsed.map(|at| at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos / 1_000_000)));
    millis.filter(|millis| TIMES.contains(millis)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_with_their_zone_and_nonsense_is_1970() {
        assert_eq!(millis("2026-01-02T03:04:05.678Z"), 1_767_323_045_678);
        assert_eq!(millis("2026-01-02T04:04:05.678901234+01:00"), 1_767_323_045_678);
        for nonsense in ["", "yesterday", "9999-01-01T00:00:00Z"] {
            assert_eq!(millis(nonsense), 0, "{nonsense}");
        }
    }

    #[test]
    fn of_an_event_that_cannot_be_written_nothing_is_kept_that_would_be_another_one() {
        use arcgate_api::gateway::v1::Event;
        use prost::Message as _;
        use prost_types::value::Kind;
        use prost_types::{Struct, Value};
        // Too large, and without a content that could be cut.
        let text = |length| Value { kind: Some(Kind::StringValue("x".repeat(length))) };
        let stored = |length| {
            let payload = Struct { fields: [("note".to_owned(), text(length))].into() };
            StoredEvent {
                position: 0,
                next: 8,
                received: 1,
                agent: crate::id::Id::parse("agent-1").unwrap(),
                event_id: "evt-1".into(),
                seq: 1,
                digest: 1,
                raw: Event { payload: Some(payload), ..Event::default() }.encode_to_vec().into(),
            }
        };
        assert!(put_event(&stored(MAX_PAYLOAD), &mut Vec::new(), &mut Vec::new()).is_err());
        assert_eq!(event_json(&stored(MAX_PAYLOAD)), b"");
        assert!(!event_json(&stored(10)).is_empty());
    }
}
