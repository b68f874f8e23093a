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
//! | `contentStepRunId` | in Kafka: the step run whose log has all of it, line by line, if lines were made of it |

pub(in crate::sink) mod json;
#[cfg(test)]
mod tests;
mod time;

use std::borrow::Cow;

pub use json::WriteError;
use json::{Json, entries};

use crate::source::events::parts::{EventParts, MetaParts};
use crate::source::events::payload::{PayloadError, Struct, Value};
use crate::store::events::StoredEvent;

/// The attributes of an envelope in the order in which they are written; `data` and the extensions follow.
const ATTRIBUTES: [&str; 7] = ["specversion", "id", "source", "type", "time", "datacontenttype", "subject"];
/// What the marks of a cut take at most, beside the step run's id.
const MARKS: usize = 128;

type Member<'a> = (&'a str, Value<'a>);

/// An event as a CloudEvent. Its texts are slices of the event's bytes wherever they stand there.
#[derive(Debug, Clone)]
pub struct CloudEvent<'a> {
    /// The payload is an envelope.
    is_envelope: bool,
    /// The envelope's own attributes, in the order of [`ATTRIBUTES`].
    given: [Option<Value<'a>>; ATTRIBUTES.len()],
    /// The envelope's `data`.
    data: Option<Value<'a>>,
    /// An envelope's other members, else the payload's: by rising name, each name once.
    members: Vec<Member<'a>>,
    /// `id`.
    pub id: &'a str,
    /// `source`.
    pub source: Cow<'a, str>,
    /// `type`.
    pub kind: &'a str,
    /// `time`, as text.
    pub time: Cow<'a, str>,
    /// `subject`, if there is one.
    pub subject: Option<Cow<'a, str>>,
    /// The pipeline: of `meta`, else what the envelope says (`pipelineId`, `pipelineNamespace`); empty if none does.
    pub pipeline_id: &'a str,
    /// `meta.step_id`; empty if not set.
    pub step_id: &'a str,
}

/// What became of an event's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is whole.
    Whole,
    /// So many bytes of `data.content` were left out.
    Cut(u64),
}

impl<'a> CloudEvent<'a> {
    /// The CloudEvent that `event` is.
    ///
    /// # Errors
    /// It is not decodable. The gateway stores no such event.
    pub fn of(event: &'a StoredEvent) -> Result<Self, PayloadError> {
        let EventParts { meta, event_type, payload } = EventParts::of(&event.raw)?;
        let MetaParts { pipeline_id, step_id, timestamp } = meta;
        let mut members = entries(Struct::new(payload))?;
        let is_envelope = text_of(&members, "specversion").is_some();
        let (mut given, mut data) = ([None; ATTRIBUTES.len()], None);
        if is_envelope {
            let mut extensions = Vec::with_capacity(members.len());
            for (name, value) in members {
                match ATTRIBUTES.iter().position(|attribute| *attribute == name) {
                    Some(at) => given[at] = Some(value),
                    None if name == "data" => data = Some(value),
                    None => extensions.push((name, value)),
                }
            }
            members = extensions;
        }
        let [_, id, source, kind, time, _, subject] =
            given.map(|value| value.and_then(Value::as_text).filter(|text| !text.is_empty()));

        let id = id.unwrap_or(&event.event_id);
        let source = source.map_or_else(|| format!("urn:arcgate:agent:{}", event.agent).into(), Cow::Borrowed);
        let own_type = Some(event_type).filter(|own| !own.is_empty());
        let kind = kind.or(own_type).unwrap_or("arcgate.event");
        let time = time.map_or_else(|| time::text(timestamp.as_ref(), event.received).into(), Cow::Borrowed);
        let subject = match subject {
            Some(subject) => Some(subject.into()),
            None if is_envelope || pipeline_id.is_empty() => None,
            None if step_id.is_empty() => Some(format!("pipeline/{pipeline_id}").into()),
            None => Some(format!("pipeline/{pipeline_id}/step/{step_id}").into()),
        };
        let pipeline_id = if pipeline_id.is_empty() && is_envelope {
            let named = |name| text_of(&members, name).filter(|text| !text.is_empty());
            named("pipelineId").or_else(|| named("pipelineNamespace")).unwrap_or_default()
        } else {
            pipeline_id
        };
        Ok(Self { is_envelope, given, data, members, id, source, kind, time, subject, pipeline_id, step_id })
    }

    /// Whether [`CloudEvent::write`] can make it smaller.
    #[must_use]
    pub fn has_content(&self) -> bool {
        matches!(self.data_members(), Ok(Some(data)) if text_of(&data, "content").is_some())
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

    /// The members of `data`, if it is an object.
    fn data_members(&self) -> Result<Option<Cow<'_, [Member<'a>]>>, PayloadError> {
        match self.data {
            Some(Value::Struct(data)) => Ok(Some(entries(data)?.into())),
            _ if self.is_envelope => Ok(None),
            _ => Ok(Some(self.members.as_slice().into())),
        }
    }

    /// Writes the envelope; with `cut`, the step run of the lines or "", it is made to fit.
    fn envelope(&self, limit: usize, cut: Option<&str>, out: &mut Vec<u8>) -> Result<Written, WriteError> {
        let mut json = Json::new(out, limit);
        json.raw("{")?;
        for (name, given) in ATTRIBUTES.into_iter().zip(self.given) {
            let own = match name {
                "specversion" => Some("1.0"),
                "id" => Some(self.id),
                "source" => Some(&*self.source),
                "type" => Some(self.kind),
                "time" => Some(&*self.time),
                "datacontenttype" => Some("application/json"),
                _ => self.subject.as_deref(),
            };
            match (given, own) {
                // An attribute that an envelope leaves empty counts as missing.
                (Some(value), own) if !matches!((value, own), (Value::Text("") | Value::Null, Some(_))) => {
                    json.name(name)?;
                    json.value(value, 1)?;
                }
                (_, Some(own)) => json.text_member(name, own)?,
                (_, None) => {}
            }
        }
        let mut written = Written::Whole;
        match (self.data_members()?, cut) {
            (Some(data), Some(step_run)) => {
                // What the extensions behind it take is known only by writing them.
                let mut extensions = Vec::new();
                self.extensions(&mut Json::new(&mut extensions, limit))?;
                json.name("data")?;
                written = cut_data(&mut json, &data, step_run, extensions.len() + 1)?;
            }
            (Some(data), None) => {
                json.name("data")?;
                // The payload itself stands in nothing.
                json.object(&data, usize::from(self.is_envelope))?;
            }
            (None, _) => {
                if let Some(data) = self.data {
                    json.name("data")?;
                    json.value(data, 1)?;
                }
            }
        }
        self.extensions(&mut json)?;
        json.raw("}")?;
        Ok(written)
    }

    /// Writes the members that are no attributes, each with a comma before it.
    fn extensions(&self, json: &mut Json<'_>) -> Result<(), WriteError> {
        if self.is_envelope {
            return json.members(&self.members, 1);
        }
        for (name, text) in [("pipelineId", self.pipeline_id), ("stepId", self.step_id)] {
            if !text.is_empty() {
                json.text_member(name, text)?;
            }
        }
        Ok(())
    }
}

/// The text of the member of that name, if it is one.
fn text_of<'a>(members: &[Member<'a>], name: &str) -> Option<&'a str> {
    members.iter().find(|(own, _)| *own == name)?.1.as_text()
}

/// Writes `data` with its `content`, as the last but the marks, cut so that `reserve` bytes of the limit remain.
fn cut_data(json: &mut Json<'_>, data: &[Member<'_>], step_run: &str, reserve: usize) -> Result<Written, WriteError> {
    const OWN: [&str; 4] = ["content", "contentTruncated", "contentBytes", "contentStepRunId"];
    let content = text_of(data, "content").unwrap_or_default();
    let rest: Vec<_> = data.iter().filter(|(name, _)| !OWN.contains(name)).copied().collect();
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
