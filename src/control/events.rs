//! The event log as the engine needs it: its own events go in, what others sent comes out.
//!
//! A cursor is `<store id>:<position>`: positions of another store mean nothing, and its events are new.

use arcgate_api::gateway::v1::{Event as WireEvent, Meta};
use arcgate_control::engine::{Accepted, Event, EventFeed, EventLog, LogError, Portion, is_of_interest};
use arcgate_gateway::id::CONTROL_PLANE;
use arcgate_gateway::source::events::own::{OwnEvents, json_of, kind_of};
use arcgate_gateway::store::Position;
use arcgate_gateway::store::events::StoredEvent;

use crate::json::to_struct;

/// An event of interest is small; a larger one is none.
const LARGEST: usize = 1 << 20;

/// See the module.
pub(super) struct JoinedLog {
    events: OwnEvents,
}

impl JoinedLog {
    pub(super) fn new(events: OwnEvents) -> Self {
        Self { events }
    }

    fn position(&self, cursor: Option<&str>) -> Position {
        let position = cursor.and_then(|cursor| cursor.split_once(':')).filter(|(store, _)| *store == self.store());
        position.and_then(|(_, position)| position.parse().ok()).unwrap_or(0)
    }

    fn store(&self) -> String {
        format!("{:032x}", self.events.store_id())
    }
}

impl EventLog for JoinedLog {
    async fn append(&self, events: Vec<Event>) -> Result<(), LogError> {
        let events = events.iter().map(wire_event).collect::<Result<Vec<_>, _>>()?;
        self.events.append(&events).await.map_err(LogError)
    }
}

impl EventFeed for JoinedLog {
    async fn read(&self, after: Option<String>) -> Result<Portion, LogError> {
        let read = self.events.read(self.position(after.as_deref())).await.map_err(|error| LogError(error.to_string()))?;
        let events = read.events.iter().filter_map(accepted).collect();
        Ok(Portion { events, passed: read.events.len(), next: format!("{}:{}", self.store(), read.next) })
    }
}

/// An event as agents send them. The step run that it is about is named, so that its log ends with the step run.
fn wire_event(event: &Event) -> Result<WireEvent, LogError> {
    let unfit = |why: &dyn std::fmt::Display| LogError(format!("event {} is no JSON object: {why}", event.event_id));
    let json: serde_json::Value = serde_json::from_str(&event.payload).map_err(|error| unfit(&error))?;
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    let meta = Meta {
        agent_id: CONTROL_PLANE.to_owned(),
        pipeline_id: text("pipelineId"),
        step_id: text("stepRunId"),
        timestamp: None,
        seq: u64::try_from(event.seq).unwrap_or(u64::MAX),
    };
    let payload = Some(to_struct(&json).ok_or_else(|| unfit(&"it is something else"))?);
    Ok(WireEvent { event_id: event.event_id.clone(), meta: Some(meta), event_type: event.event_type.clone(), payload })
}

/// What others sent, if it is of interest.
fn accepted(event: &StoredEvent) -> Option<Accepted> {
    let (event_type, step_run_id) =
        kind_of(event).filter(|(kind, _)| is_of_interest(kind) && event.agent.as_str() != CONTROL_PLANE)?;
    let (agent_id, event_id) = (event.agent.to_string(), event.event_id.to_string());
    match json_of(event, LARGEST) {
        Ok(payload) => Some(Accepted { agent_id, event_id, step_run_id, event_type, payload }),
        Err(why) => {
            tracing::warn!(agent = agent_id, event = event_id, %why, "an event is passed over");
            None
        }
    }
}
