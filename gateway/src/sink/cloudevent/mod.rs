//! Events as CloudEvents 1.0 in JSON, one object an event ("structured mode"), as the consumers of `EVENT_PIPELINE` read them.
//!
//! Existing agents put the whole envelope into an event's payload: then it is taken as it is, and only what it lacks of the required
//! attributes is added. A payload without `specversion` is the envelope's `data`; then
//!
//! | attribute | is |
//! |---|---|
//! | `id` | the event's id |
//! | `source` | `urn:arcgate:agent:` and the agent's id |
//! | `type` | the event's type; `arcgate.event` if it has none |
//! | `time` | when the event was made (`meta.timestamp`), else when it arrived; in UTC |
//! | `subject` | `pipeline/` and `meta.pipeline_id`, and, if set, `/step/` and `meta.step_id`; left out without a pipeline |
//! | `pipelineId`, `stepId` | as in `meta`, if set there |
//!
//! An event that would be larger than a consumer takes gets its `data.content` cut, which is where existing agents put a step's whole
//! output. Beside what is left of it stand
//!
//! | member of `data` | says |
//! |---|---|
//! | `contentTruncated` | `true` |
//! | `contentBytes` | how many bytes of UTF-8 `content` had |
//! | `contentStepRunId` | the step run whose log has all of it, line by line, if lines were made of it |

pub(in crate::sink) mod json;
#[cfg(test)]
mod tests;
mod time;

use bytes::Bytes;
use prost::Message;

pub use json::WriteError;
use json::{Json, entries};

use crate::source::events::parts::{EventParts, MetaParts};
use crate::source::events::payload::{Struct, Value};
use crate::store::events::StoredEvent;

/// The attributes of an envelope in the order in which they are written; `data` and the extensions follow.
const ATTRIBUTES: [&str; 7] = ["specversion", "id", "source", "type", "time", "datacontenttype", "subject"];
/// What the marks of a cut take at most, beside the step run's id.
const MARKS: usize = 128;

/// An event as a CloudEvent.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// The payload's bytes.
    payload: Bytes,
    /// The payload is an envelope.
    is_envelope: bool,
    /// `id`.
    pub id: String,
    /// `source`.
    pub source: String,
    /// `type`.
    pub kind: String,
    /// `time`, as text.
    pub time: String,
    /// `subject`, if there is one.
    pub subject: Option<String>,
    /// The pipeline: of `meta`, else what the envelope says (`pipelineId`, `pipelineNamespace`); empty if none does.
    pub pipeline_id: String,
    /// `meta.step_id`; empty if not set.
    pub step_id: String,
}

/// What became of an event's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is whole.
    Whole,
    /// So many bytes of `data.content` were left out.
    Cut(u64),
}

impl CloudEvent {
    /// The CloudEvent that `event` is.
    ///
    /// # Errors
    /// It is not decodable. The gateway stores no such event.
    pub fn of(event: &StoredEvent) -> Result<Self, prost::DecodeError> {
        let EventParts { meta, event_type, payload } = EventParts::decode(event.raw.clone())?;
        let MetaParts { pipeline_id, step_id, timestamp } = meta.unwrap_or_default();
        let names = ["specversion", "id", "source", "type", "time", "subject", "pipelineId", "pipelineNamespace"];
        let texts = Struct::new(&payload).texts(names);
        let is_envelope = texts[0].is_some();
        let [_, id, source, kind, time, subject, pipeline, namespace] =
            texts.map(|text| text.filter(|text| is_envelope && !text.is_empty()));

        let id = id.unwrap_or(&event.event_id).to_owned();
        let source = source.map_or_else(|| format!("urn:arcgate:agent:{}", event.agent), str::to_owned);
        let own_type = Some(event_type.as_str()).filter(|own| !own.is_empty());
        let kind = kind.or(own_type).unwrap_or("arcgate.event").to_owned();
        let time = time.map_or_else(|| time::text(timestamp.as_ref(), event.received), str::to_owned);
        let subject = match subject {
            Some(subject) => Some(subject.to_owned()),
            None if is_envelope || pipeline_id.is_empty() => None,
            None if step_id.is_empty() => Some(format!("pipeline/{pipeline_id}")),
            None => Some(format!("pipeline/{pipeline_id}/step/{step_id}")),
        };
        let pipeline_id =
            if pipeline_id.is_empty() { pipeline.or(namespace).unwrap_or_default().to_owned() } else { pipeline_id };
        Ok(Self { is_envelope, id, source, kind, time, subject, pipeline_id, step_id, payload })
    }

    /// Whether [`CloudEvent::write`] can make it smaller.
    #[must_use]
    pub fn has_content(&self) -> bool {
        matches!(self.data(), Some(Value::Struct(data)) if data.text("content").is_some())
    }

    /// Appends the JSON to `out`: whole if `out` then has at most `limit` bytes, else with its `content` cut; `step_run` is asked
    /// for only then, and names the log that has all of it.
    ///
    /// # Errors
    /// It is too large even so; `out` is as it was. Trying again does not help.
    pub fn write(
        &self,
        limit: usize,
        step_run: impl FnOnce() -> Option<String>,
        out: &mut Vec<u8>,
    ) -> Result<Written, WriteError> {
        let start = out.len();
        let written = match self.envelope(limit, None, out) {
            Err(WriteError::TooLarge(_)) if self.has_content() => {
                out.truncate(start);
                self.envelope(limit, Some(step_run().as_deref().unwrap_or_default()), out)
            }
            written => written,
        };
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn data(&self) -> Option<Value<'_>> {
        let payload = Struct::new(&self.payload);
        if self.is_envelope { payload.get("data") } else { Some(Value::Struct(payload)) }
    }

    /// Writes the envelope; with `cut`, the step run of the lines or "", it is made to fit.
    fn envelope(&self, limit: usize, cut: Option<&str>, out: &mut Vec<u8>) -> Result<Written, WriteError> {
        let payload = entries(Struct::new(&self.payload))?;
        let members = if self.is_envelope { payload.as_slice() } else { &[] };
        let given = |name: &str| members.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let mut json = Json::new(out, limit);
        json.raw("{")?;
        for name in ATTRIBUTES {
            let own = match name {
                "specversion" => Some("1.0"),
                "id" => Some(self.id.as_str()),
                "source" => Some(self.source.as_str()),
                "type" => Some(self.kind.as_str()),
                "time" => Some(self.time.as_str()),
                "datacontenttype" => Some("application/json"),
                _ => self.subject.as_deref(),
            };
            match (given(name), own) {
                // An attribute that an envelope leaves empty counts as missing.
                (Some(value), own) if !matches!((value, own), (Value::Text("") | Value::Null, Some(_))) => {
                    json.name(name)?;
                    json.value(value, 1)?;
                }
                (_, Some(own)) => json.text_member(name, own)?,
                (_, None) => {}
            }
        }
        // Extensions come before `data` in effort, behind it in place: what they take is known only by writing them.
        let mut extensions = Vec::new();
        self.extensions(members, &mut Json::new(&mut extensions, limit))?;
        let data = if self.is_envelope { given("data") } else { Some(Value::Struct(Struct::new(&self.payload))) };
        let written = match data {
            None => Written::Whole,
            Some(data) => {
                json.name("data")?;
                match (data, cut) {
                    (Value::Struct(data), Some(step_run)) => cut_data(&mut json, data, step_run, extensions.len() + 1)?,
                    (data, _) => {
                        // The payload itself stands in nothing.
                        json.value(data, usize::from(self.is_envelope))?;
                        Written::Whole
                    }
                }
            }
        };
        // Built by `Json` from text: it is UTF-8.
        json.raw(&String::from_utf8_lossy(&extensions))?;
        json.raw("}")?;
        Ok(written)
    }

    /// Writes the members that are no attributes, each with a comma before it.
    fn extensions(&self, members: &[(&str, Value<'_>)], json: &mut Json<'_>) -> Result<(), WriteError> {
        for (name, value) in members {
            if !ATTRIBUTES.contains(name) && *name != "data" {
                json.name(name)?;
                json.value(*value, 1)?;
            }
        }
        if !self.is_envelope {
            for (name, text) in [("pipelineId", &self.pipeline_id), ("stepId", &self.step_id)] {
                if !text.is_empty() {
                    json.text_member(name, text)?;
                }
            }
        }
        Ok(())
    }
}

/// Writes `data` with its `content`, as the last but the marks, cut so that `reserve` bytes of the limit remain.
fn cut_data(json: &mut Json<'_>, data: Struct<'_>, step_run: &str, reserve: usize) -> Result<Written, WriteError> {
    const OWN: [&str; 4] = ["content", "contentTruncated", "contentBytes", "contentStepRunId"];
    let content = data.text("content").unwrap_or_default();
    let rest: Vec<_> = entries(data)?.into_iter().filter(|(name, _)| !OWN.contains(name)).collect();
    json.raw("{")?;
    json.members(&rest, 2)?;
    json.name("content")?;
    // No character of an id needs more than six.
    let taken = json.cut_text(content, reserve + MARKS + 6 * step_run.len())?;
    json.name("contentTruncated")?;
    json.raw("true")?;
    json.name("contentBytes")?;
    json.raw(&content.len().to_string())?;
    if !step_run.is_empty() {
        json.text_member("contentStepRunId", step_run)?;
    }
    json.raw("}")?;
    Ok(Written::Cut((content.len() - taken) as u64))
}
