//! What agents say about step runs, and what counts of it.
//!
//! Reports come at least once, late, and in any order. The rule:
//!
//! 1. A report counts only from the agent that was given the step run. Of another it is refused, and so is one about a step run that
//!    does not exist.
//! 2. The first report that it runs starts it; later ones change nothing.
//! 3. The first report of an end ends it, even if no start was reported: then it started and ended at once. Later reports change
//!    nothing, also if they tell another end or that it runs.
//! 4. An attempt that was given up (its agent was lost, its time was over, it was cancelled) stays given up, whatever is reported
//!    later; the attempt after it is not touched.
//! 5. What changes nothing is answered like what does, so that nobody repeats it; but a *start* of a step run that is over is refused,
//!    so that an agent that asks before it starts does not start it.
//! 6. Pending and queued are nothing that an agent can report: they change nothing.

use std::collections::{BTreeMap, HashMap};

use arcgate_api::steprun::v1::StepRunStatus;

use super::error::{Failure, Refusal};
use super::rows::is_over;
use super::turn::Turn;
use crate::db::row::json;
use crate::plan::{Input, Outcome, StepState};

mod job;

pub use self::job::JobReport;

/// A report about a step run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The step run.
    pub step_run_id: String,
    /// Who reports.
    pub agent_id: String,
    /// What it says.
    pub status: StepRunStatus,
    /// The exit code, if there is one.
    pub exit_code: Option<i32>,
    /// Why, in words; may be empty.
    pub message: String,
    /// Figures of the execution, by name.
    pub metrics: HashMap<String, String>,
}

/// The longest message that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// How many figures of an execution are kept.
const MOST_METRICS: usize = 100;

impl Turn<'_> {
    /// Whether the report changed something.
    pub(super) async fn report(&mut self, report: &Report) -> Result<bool, Failure> {
        let id = &*report.step_run_id;
        let Some((run_id, step)) = self.place_of(id).await? else {
            return Err(Refusal::Unknown(format!("there is no step run {id}")).into());
        };
        let holder = sqlx::query_scalar("SELECT agent_id FROM t_step_run WHERE step_run_id = $1").bind(id);
        let holder: String = holder.fetch_one(&mut *self.connection).await?;
        if holder.is_empty() || holder != report.agent_id {
            let why =
                format!("step run {id} was not handed to agent {}, so that its reports about it do not count", report.agent_id);
            return Err(Refusal::Forbidden(why).into());
        }
        let loaded = self.load(&run_id).await?;
        let current = &loaded.run.record().jobs[step.job].steps[step.step];
        let state = Some(&current.state).filter(|_| current.attempt == id).cloned();
        self.state.put(loaded);
        let attempt = id.to_owned();
        let input = match (state, outcome(report.status)) {
            (Some(StepState::Queued(_)), None) if report.status == StepRunStatus::Running => Input::StepStarted { step, attempt },
            (Some(StepState::Queued(_) | StepState::Running(_) | StepState::Stopping(_)), Some(outcome)) => {
                Input::StepEnded { step, attempt, outcome, reason: shortened(&report.message) }
            }
            (None | Some(StepState::Ended(_)), None) if report.status == StepRunStatus::Running => {
                return Err(Refusal::Conflict(format!("step run {id} is over; do not start it")).into());
            }
            _ => return Ok(false),
        };
        self.apply(&run_id, input, report.exit_code.map(i64::from)).await?;
        if !report.metrics.is_empty() {
            let metrics = json(&few(&report.metrics))?;
            let text = "UPDATE t_step_run SET metrics = $2 WHERE step_run_id = $1";
            sqlx::query(text).bind(id).bind(metrics).execute(&mut *self.connection).await?;
        }
        Ok(true)
    }
}

fn outcome(status: StepRunStatus) -> Option<Outcome> {
    debug_assert!(is_over(status) == !matches!(status as i32, 0..=3));
    match status {
        StepRunStatus::Success | StepRunStatus::Skipped => Some(Outcome::Succeeded),
        StepRunStatus::Failed => Some(Outcome::Failed),
        StepRunStatus::Cancelled => Some(Outcome::Cancelled),
        StepRunStatus::Timeout => Some(Outcome::TimedOut),
        StepRunStatus::Unspecified | StepRunStatus::Pending | StepRunStatus::Queued | StepRunStatus::Running => None,
    }
}

/// What is kept of figures: the first by name.
fn few(metrics: &HashMap<String, String>) -> BTreeMap<&str, String> {
    let mut all: Vec<_> = metrics.iter().collect();
    all.sort();
    all.into_iter().take(MOST_METRICS).map(|(name, value)| (&**name, shortened(value))).collect()
}

fn shortened(text: &str) -> String {
    let end = (0..=text.len().min(MAX_MESSAGE_BYTES)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
