//! Events as messages: a CloudEvent each, with headers by which a consumer can tell a repeat.
//!
//! | header | is |
//! |---|---|
//! | `arcgate-agent-id` | the agent that sent the event |
//! | `arcgate-event-id` | the event's id, unique only together with the agent and, for ids such as `evt-7`, the digest |
//! | `arcgate-digest` | the digest of its content: 16 hexadecimal digits |
//! | `arcgate-seq` | the agent's own number for it |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::delivery::{Encode, Out};
use super::producer::Record;
use super::settings::{EventKey, EventTopics};
use super::topics::Limits;
use crate::lookup::StepRunLookup;
use crate::sink::batch::Batch;
use crate::sink::cloudevent::{CloudEvent, Written};
use crate::sink::delivery::MAX_KEPT_RECORD;
use crate::sink::feed::EventFeed;
use crate::sink::{BatchLimits, Rejected};
use crate::store::StoreError;
use crate::store::events::StoredEvent;
use crate::tasklog::TaskLines;

/// What the names of the headers and their framing take in a message.
const HEADERS: usize = 128;

/// See the module.
pub(super) struct Events {
    pub(super) topics: EventTopics,
    pub(super) key: EventKey,
    pub(super) lookup: Arc<dyn StepRunLookup>,
}

impl Events {
    /// The message of one event; says whether more are wanted.
    fn event(&self, event: &StoredEvent, limits: &Limits, text: &mut Vec<u8>, out: &mut dyn Out) -> bool {
        let cloud_event = match CloudEvent::of(event) {
            Ok(cloud_event) => cloud_event,
            Err(error) => {
                out.reject(unsendable(event, format!("the event cannot be read: {error}"), BTreeMap::new(), Bytes::new()));
                return true;
            }
        };
        let topic = self.topics.of(cloud_event.kind);
        let key = self.key_of(&cloud_event);
        let (digest, seq) = (format!("{:016x}", event.digest), event.seq.to_string());
        let headers = [
            ("arcgate-agent-id", event.agent.as_str()),
            ("arcgate-event-id", &*event.event_id),
            ("arcgate-digest", digest.as_str()),
            ("arcgate-seq", seq.as_str()),
        ];
        let beside = HEADERS + key.len() + headers.iter().map(|(_, value)| value.len()).sum::<usize>();
        let limit = limits.get(topic).copied().unwrap_or_default().saturating_sub(beside);
        let step_run = || TaskLines::of(&event.raw, &event.agent, &*self.lookup).map(|lines| lines.step_run.to_string());
        text.clear();
        match cloud_event.write(limit, step_run, text) {
            Ok(written) => {
                if let Written::Cut(bytes) = written {
                    metrics::counter!("arcgate_kafka_cut_events_total").increment(1);
                    tracing::debug!(agent = %event.agent, event = %event.event_id, bytes, "the event's content is cut to the topic's limit");
                }
                let record = Record { topic, key, headers: &headers, value: text, position: event.position, line: None };
                out.send(&record)
            }
            Err(error) => {
                let route = super::ticket::route(
                    topic,
                    key.as_bytes(),
                    headers.map(|(name, value)| (name, value.as_bytes())).into_iter(),
                );
                let reason = format!("as a message for topic {topic} the event {error}, and has no content that could be cut");
                // As much of it as is kept; what does not fit even there stays in the gateway's own log.
                text.clear();
                let _ = cloud_event.write(MAX_KEPT_RECORD, || None, text);
                out.reject(unsendable(event, reason, route, Bytes::copy_from_slice(text)));
                true
            }
        }
    }

    fn key_of<'e>(&self, event: &'e CloudEvent<'_>) -> &'e str {
        let subject = || event.subject.as_deref().filter(|subject| !subject.is_empty());
        let pipeline = Some(event.pipeline_id).filter(|pipeline| !pipeline.is_empty());
        match self.key {
            EventKey::Id => event.id,
            EventKey::Subject => subject().unwrap_or(event.id),
            EventKey::Pipeline => pipeline.or_else(subject).unwrap_or(event.id),
        }
    }
}

fn unsendable(event: &StoredEvent, reason: String, route: BTreeMap<String, String>, record: Bytes) -> Rejected {
    Rejected { position: event.position, line: None, reason, route, record }
}

impl Encode for Events {
    type Feed = EventFeed;

    fn topics(&self) -> Vec<String> {
        self.topics.all()
    }

    fn pace(&self) -> (BatchLimits, u32) {
        let limits = BatchLimits { records: 2000, bytes: 2 << 20, age: Duration::from_millis(10), under_way: 8 };
        (limits, 2)
    }

    fn encode(&self, batch: &Batch<EventFeed>, limits: &Limits, out: &mut dyn Out) -> Result<(), StoreError> {
        let mut text = Vec::new();
        for event in batch.events() {
            if !self.event(&event?, limits, &mut text, out) {
                break;
            }
        }
        Ok(())
    }
}
