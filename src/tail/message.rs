//! What goes over the WebSocket, as far as `tail` cares.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::cursor::Cursor;

/// The request for a log, from where `cursor` stands.
pub(crate) fn subscribe(pipeline: &str, job: &str, step_run: &str, cursor: &Cursor) -> String {
    let (from_line, last, epoch) = cursor.request();
    let mut params = json!({ "pipelineId": pipeline, "jobId": job, "stepRunId": step_run });
    for (name, number) in [("fromLine", from_line), ("tail", last), ("epoch", epoch.map(u64::from))] {
        if let Some(number) = number {
            params[name] = number.into();
        }
    }
    json!({ "channel": "channel_log", "action": "subscribe", "params": params }).to_string()
}

/// What every message has; its data are passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct Head<'a> {
    /// What it is.
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Cow<'a, str>,
    /// With `subscribed`: the epoch of the gateway's numbers.
    #[serde(default)]
    pub(crate) epoch: Option<u32>,
    /// With `error`: what went wrong.
    #[serde(default, borrow)]
    pub(crate) error: Option<Cow<'a, str>>,
}

/// The data of a `log` or a `log_chunk`.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(crate) struct Body<T> {
    /// The entries, in order.
    pub(crate) data: OneOrMany<T>,
}

/// One entry, or a list of them.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

/// A line, or a gap.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    /// The line's number, from 1; of a gap its first.
    pub(crate) line_number: u64,
    /// The line, without its end.
    #[serde(default)]
    pub(crate) content: String,
    /// `stdout`, `stderr` or empty.
    #[serde(default)]
    pub(crate) stream: String,
    /// Whether its end was cut off.
    #[serde(default)]
    pub(crate) truncated: bool,
    /// If this is a gap.
    #[serde(default)]
    pub(crate) gap: Option<Gap>,
}

/// Lines that nobody has.
#[derive(Debug, Deserialize)]
pub(crate) struct Gap {
    /// How many; none if that is not known.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Why.
    #[serde(default)]
    pub(crate) reason: String,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(std::marker::PhantomData)).map(Self)
    }
}

/// Reads a list as it is and an object as a list of one, without reading anything twice.
struct Either<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Either<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an entry or a list of entries")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = items.next_element()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, fields: A) -> Result<Vec<T>, A::Error> {
        T::deserialize(serde::de::value::MapAccessDeserializer::new(fields)).map(|entry| vec![entry])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_say_where_to_begin() {
        let request: serde_json::Value = serde_json::from_str(&subscribe("p", "-", "s", &Cursor::new(Some(7), None))).unwrap();
        assert_eq!(
            request,
            json!({ "channel": "channel_log", "action": "subscribe",
                "params": { "pipelineId": "p", "jobId": "-", "stepRunId": "s", "fromLine": 7 } })
        );
        assert!(subscribe("-", "-", "s", &Cursor::new(None, Some(3))).contains("\"tail\":3"));
    }

    #[test]
    fn messages_are_read_with_one_entry_or_many() {
        let text = r#"{"channel":"channel_log","type":"log","data":{"line_number":3,"content":"a\u001b[1m","stream":"stderr","truncated":true,"x":1}}"#;
        let head: Head<'_> = serde_json::from_str(text).unwrap();
        assert_eq!((&*head.kind, head.epoch), ("log", None));
        let one: Body<Entry> = serde_json::from_str(text).unwrap();
        assert_eq!((one.data.0[0].line_number, one.data.0[0].content.as_str()), (3, "a\u{1b}[1m"));
        assert!(one.data.0[0].truncated);

        let text = r#"{"type":"log_chunk","data":[{"line_number":1},{"line_number":2,"gap":{"count":4,"reason":"r"}}]}"#;
        let many: Body<Entry> = serde_json::from_str(text).unwrap();
        assert_eq!(many.data.0[1].gap.as_ref().unwrap().count, Some(4));

        let head: Head<'_> = serde_json::from_str(r#"{"type":"subscribed","epoch":2,"data":null}"#).unwrap();
        assert_eq!(head.epoch, Some(2));
        let head: Head<'_> = serde_json::from_str(r#"{"type":"error","error":"a \"b\""}"#).unwrap();
        assert_eq!(head.error.as_deref(), Some("a \"b\""));
    }
}
