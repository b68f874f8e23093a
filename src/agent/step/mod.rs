//! One step run, from the yes to its report.
//!
//! Its log ends before it is reported: whoever sees that a step run is over finds all of its lines. Only if the gateway does not take
//! them for [`LOG_FIRST`], while it can be reached, the report goes ahead.

mod log;
mod output;
mod process;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arcgate_api::agent::v1::StepRun;
use arcgate_api::steprun::v1::StepRunStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(super) use self::log::StepLog;
pub(super) use self::process::{Program, run};
use super::Shared;
use super::desk::Report;
use super::events;
use super::mask::Mask;
use super::plugins::{self, Work};
use super::stop::{Stop, Why};
use crate::push::shared::now;

/// How long the gateway may take no line, before a step run is reported without the end of its log.
pub(super) const LOG_FIRST: Duration = Duration::from_secs(30);
/// How long lines are still sent after that.
const LOG_LATER: Duration = Duration::from_secs(600);
/// The longest message of a report, in bytes.
const MESSAGE_BYTES: usize = 2_048;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Well.
    Succeeded,
    /// Not.
    Failed {
        /// The exit code; -1: there is none.
        exit_code: i32,
        /// Why, for people.
        message: String,
    },
    /// It had to end.
    Stopped(Why),
}

impl Ending {
    /// A failure without exit code.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { exit_code: -1, message: message.into() }
    }

    /// What is reported; nothing if the agent ends.
    fn report(&self, step_run_id: &str, mask: &Mask) -> Option<Report> {
        let (status, exit_code, message) = match self {
            Self::Succeeded => (StepRunStatus::Success, 0, String::new()),
            Self::Failed { exit_code, message } => (StepRunStatus::Failed, *exit_code, message.clone()),
            Self::Stopped(Why::Cancelled(reason)) => (StepRunStatus::Cancelled, -1, reason.clone()),
            Self::Stopped(Why::TimedOut(limit)) => {
                (StepRunStatus::Timeout, -1, format!("it took longer than its timeout of {limit:?}"))
            }
            Self::Stopped(Why::Leaving) => return None,
        };
        let message = shortened(mask.text(&message));
        Some(Report { step_run_id: step_run_id.to_owned(), status, exit_code, message, ended: now() })
    }
}

/// Executes a step run and hands its report on.
pub(super) async fn live(shared: Arc<Shared>, step: StepRun, told: watch::Receiver<Option<Why>>, ended: mpsc::Sender<Report>) {
    let began = Instant::now();
    let mask = Arc::new(Mask::new(step.secrets.values().map(String::as_str)));
    let log = StepLog::open(&shared, &step, mask.clone());
    let about = events::About::new(&shared.own.agent_id, &step);
    let leaving = told.clone();
    let ending = perform(&shared, &step, &about, &log, told).await;
    let Some(report) = ending.report(&step.step_run_id, &mask) else {
        return log.abandon().await;
    };
    shared.courier.send(about.ended(&report, began.elapsed()));
    if !log.finish(&shared, &about, &report, began.elapsed(), leaving).await {
        return;
    }
    // The receiver is the agent's main loop; without it nobody reports anything.
    let _ = ended.send(report).await;
}

async fn perform(
    shared: &Shared,
    step: &StepRun,
    about: &events::About,
    log: &StepLog,
    told: watch::Receiver<Option<Why>>,
) -> Ending {
    let limit = match timeout_of(step) {
        Ok(limit) => limit,
        Err(why) => return Ending::failed(why),
    };
    let job_run = if step.workspace.is_empty() { &step.step_run_id } else { &step.workspace };
    let workspace = match shared.workspaces.enter(job_run) {
        Ok(workspace) => workspace,
        Err(error) => return Ending::failed(format!("this agent cannot make a workspace: {error}")),
    };
    shared.courier.send(about.started(workspace.path()));
    let work = match Work::new(shared, step, workspace.path(), about, log) {
        Ok(work) => work,
        Err(why) => return Ending::failed(why),
    };
    if !step.image.is_empty() {
        log.say(&format!("this agent runs no containers: the step runs on its machine, not in the image {}", step.image));
    }
    let mut stop = Stop::new(told, limit);
    if let Some(ending) = plugins::sources(&work, &mut stop).await {
        if let Ending::Failed { message, .. } = &ending {
            log.say(message);
        }
        return ending;
    }
    let ending = match plugins::find(step, shared.options.plugins.as_deref()) {
        Ok(plugin) => plugin.run(&work, &mut stop).await,
        Err(why) => Ending::failed(why),
    };
    if let Ending::Failed { exit_code: -1, message } = &ending {
        log.say(message);
    }
    ending
}

fn timeout_of(step: &StepRun) -> Result<Option<Duration>, String> {
    if step.timeout.is_empty() {
        return Ok(None);
    }
    let limit = arcgate_control::duration::parse(&step.timeout).map_err(|error| format!("the step's timeout: {error}"))?;
    Ok(Some(limit).filter(|limit| !limit.is_zero()))
}

fn shortened(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
