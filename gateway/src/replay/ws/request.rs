//! What clients ask for, and what is answered if it makes no sense.

use serde::Deserialize;
use serde_json::Value;

use super::reply;
use crate::id::{Id, StepRunId};

/// Line numbers are 32-bit signed integers on this interface.
const LAST_LINE: u64 = i32::MAX as u64;
/// Of a text that makes no sense, at most this many bytes are sent back.
const ECHO_BYTES: usize = 256;

/// The step run that a request names, with where the client believes it to be. Sent back in each answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Target {
    #[serde(deserialize_with = "text")]
    pub(super) pipeline_id: String,
    #[serde(deserialize_with = "text")]
    pub(super) job_id: String,
    #[serde(deserialize_with = "text")]
    pub(super) step_run_id: String,
}

/// What a client writes for a pipeline or a job that it does not know.
const UNKNOWN: &str = "-";

impl Target {
    /// Whether where the client believes the step run to be contradicts what is known. Who does not know contradicts nobody: the
    /// client writes `-`, and what is not known here is empty.
    pub(super) fn contradicts(&self, known_pipeline: &str, known_job: &str) -> bool {
        let differ = |believed: &str, known: &str| believed != UNKNOWN && !known.is_empty() && believed != known;
        differ(&self.pipeline_id, known_pipeline) || differ(&self.job_id, known_job)
    }
}

/// Where a log subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At this line.
    Line(u64),
    /// At the last so many lines.
    Tail(u64),
}

/// A log subscription as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogRequest {
    pub(super) target: Target,
    pub(super) step_run: StepRunId,
    pub(super) start: Start,
    /// The epoch under which the client has seen the lines before `start`.
    pub(super) epoch: Option<u32>,
    /// It joins other subscriptions of the connection instead of replacing them.
    pub(super) multi: bool,
    /// Live lines may come in chunks.
    pub(super) live_chunks: bool,
}

/// A request that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Follow a log.
    Log(Box<LogRequest>),
    /// Stop following a log.
    EndLog(Target),
    /// Follow a step run's status.
    Status {
        /// The step run as it was named.
        target: Target,
        /// The step run.
        step_run: StepRunId,
    },
    /// Stop following a status.
    EndStatus(Target),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    #[serde(deserialize_with = "text")]
    channel: String,
    #[serde(deserialize_with = "text")]
    action: String,
    params: Option<RawParams>,
    multi: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawParams {
    #[serde(flatten)]
    target: Target,
    from_line: Option<Value>,
    tail: Option<Value>,
    epoch: Option<Value>,
    live_chunks: Option<Value>,
}

/// Reads a request.
///
/// # Errors
/// The error message to send, in the order of checks that clients know.
pub(super) fn parse(message: &[u8]) -> Result<Request, Vec<u8>> {
    let is_object = message.trim_ascii_start().first() == Some(&b'{');
    let Some(raw) = is_object.then(|| serde_json::from_slice::<Raw>(message).ok()).flatten() else {
        return Err(reply::error("", &Target::default(), "invalid request: message must be a JSON object"));
    };
    let params = raw.params.unwrap_or_default();
    let target = params.target;
    let refuse = |error: &str| Err(reply::error(clip(&raw.channel), &target.clipped(), error));
    if [&target.pipeline_id, &target.job_id, &target.step_run_id].iter().any(|id| id.is_empty()) {
        return refuse("pipelineId, jobId and stepRunId are required");
    }
    let is_log = match raw.channel.as_str() {
        "channel_log" => true,
        "channel_status" => false,
        other => return refuse(&format!("unknown channel: {}", clip(other))),
    };
    let action = raw.action.trim().to_lowercase();
    let subscribe = match action.as_str() {
        "" | "subscribe" => true,
        "unsubscribe" => false,
        other => return refuse(&format!("unknown action: {}", clip(other))),
    };
    for (name, id) in [("pipelineId", &target.pipeline_id), ("jobId", &target.job_id)] {
        if let Err(error) = Id::parse(id) {
            return refuse(&format!("{name} {error}"));
        }
    }
    let step_run = match StepRunId::parse(&target.step_run_id) {
        Ok(step_run) => step_run,
        Err(error) => return refuse(&format!("stepRunId {error}")),
    };
    let multi = raw.multi.unwrap_or(false);
    match (is_log, subscribe) {
        (true, false) => return Ok(Request::EndLog(target)),
        (false, true) => return Ok(Request::Status { target, step_run }),
        (false, false) => return Ok(Request::EndStatus(target)),
        (true, true) => {}
    }
    let options = || -> Result<_, String> {
        let from_line = number("fromLine", params.from_line.as_ref(), 1, LAST_LINE)?;
        let tail = number("tail", params.tail.as_ref(), 0, LAST_LINE)?;
        let epoch = number("epoch", params.epoch.as_ref(), 0, u32::MAX.into())?;
        let start = match (from_line, tail) {
            (Some(_), Some(_)) => return Err("params has both fromLine and tail; give one of them".into()),
            (_, Some(tail)) => Start::Tail(tail),
            (line, None) => Start::Line(line.unwrap_or(1)),
        };
        let live_chunks = match &params.live_chunks {
            None | Some(Value::Null) => false,
            Some(Value::Bool(yes)) => *yes,
            Some(_) => return Err("params.liveChunks must be true or false".into()),
        };
        Ok((start, epoch.and_then(|epoch| u32::try_from(epoch).ok()), live_chunks))
    };
    match options() {
        Ok((start, epoch, live_chunks)) => {
            Ok(Request::Log(Box::new(LogRequest { target, step_run, start, epoch, multi, live_chunks })))
        }
        Err(error) => refuse(&error),
    }
}

impl Target {
    /// With texts that cannot be identifiers cut short.
    fn clipped(&self) -> Self {
        let clip = |text: &str| clip(text).to_owned();
        Self { pipeline_id: clip(&self.pipeline_id), job_id: clip(&self.job_id), step_run_id: clip(&self.step_run_id) }
    }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(ECHO_BYTES)]
}

/// A text that may be missing or null.
fn text<'de, D: serde::Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

fn number(name: &str, value: Option<&Value>, least: u64, most: u64) -> Result<Option<u64>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("params.{name} must be a whole number from {least} to {most}")),
        },
    }
}
