//! Which lines an event holds, and for which stream: pure, so that it can be tried on any event.

use bytes::Bytes;

use crate::block::OutputStream;
use crate::clock::Millis;
use crate::id::{AgentId, Id, StepRunId};
use crate::lookup::StepRunLookup;
use crate::source::events::parts::{EventParts, MetaParts};
use crate::source::events::payload::{Struct, Value};

/// The event type whose payload is a step's output.
const TASK_LOG: &str = "arcentra.task.log";

/// Event types after which a step run writes no more.
const ENDINGS: [&str; 5] = [
    "arcentra.task.finished",
    "arcentra.step.completed",
    "arcentra.step.failed",
    "arcentra.step.cancelled",
    "arcentra.step.timeout",
];

/// What an event says about a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TaskLines {
    /// The log stream.
    pub(crate) step_run: StepRunId,
    /// The pipeline, if the event names one.
    pub(crate) pipeline_id: String,
    /// The lines, a slice of the event; empty for an event that only ends the log.
    pub(crate) text: Bytes,
    /// Which output they came from.
    pub(crate) stream: OutputStream,
    /// The plugin that wrote them; empty if not said.
    pub(crate) plugin: String,
    /// When the event was sent, in Unix milliseconds.
    pub(crate) time: Option<Millis>,
    /// Nothing follows.
    pub(crate) ends: bool,
}

impl TaskLines {
    /// What `raw`, an encoded event of `agent`, says about a log; `None` if nothing.
    pub(crate) fn of(raw: &Bytes, agent: &AgentId, lookup: &dyn StepRunLookup) -> Option<Self> {
        let event = EventParts::of(raw).ok()?;
        let payload = Struct::new(event.payload);
        let event_type = payload.text("type").unwrap_or(event.event_type);
        let ends = ENDINGS.contains(&event_type);
        if !ends && event_type != TASK_LOG {
            return None;
        }
        let meta = event.meta;
        let step_run = step_run_of(&meta, payload, agent, lookup)?;
        let data = match payload.get("data") {
            Some(Value::Struct(data)) => data,
            _ => Struct::new(&[]),
        };
        let text = if ends { "" } else { data.text("content").unwrap_or_default() };
        Some(Self {
            step_run,
            pipeline_id: pipeline_of(&meta, payload).to_owned(),
            text: raw.slice_ref(text.as_bytes()),
            stream: match data.text("stream") {
                Some("stdout") => OutputStream::Stdout,
                Some("stderr") => OutputStream::Stderr,
                _ => OutputStream::Unspecified,
            },
            plugin: payload.text("pluginName").unwrap_or_default().to_owned(),
            time: meta.timestamp.map(|at| at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000)),
            ends,
        })
    }
}

/// `meta.step_id` if set, else what the control plane knows, else a name made of what the event says.
fn step_run_of(meta: &MetaParts<'_>, payload: Struct<'_>, agent: &AgentId, lookup: &dyn StepRunLookup) -> Option<StepRunId> {
    if !meta.step_id.is_empty() {
        return Id::parse(meta.step_id).ok();
    }
    let step = payload.text("stepName").or_else(|| payload.text("stepId")).unwrap_or_default();
    lookup.step_run(agent, step).or_else(|| Id::parse(&format!("{}-{step}-{agent}", pipeline_of(meta, payload))).ok())
}

fn pipeline_of<'a>(meta: &MetaParts<'a>, payload: Struct<'a>) -> &'a str {
    if meta.pipeline_id.is_empty() { payload.text("pipelineId").unwrap_or_default() } else { meta.pipeline_id }
}
