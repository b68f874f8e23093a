//! Which step runs the agent has, what it has said of each, and what it still has to say: pure bookkeeping.
//!
//! ```text
//!   assigned ──▶ asking ──yes──▶ executing ──ended──▶ reporting ──yes──▶ forgotten
//!                  │ no                │ cancelled: it is to end, and then reports
//!                  └──▶ forgotten
//! ```
//!
//! Whatever is said has a request's name, and is said again on the next channel until it is answered. A step run starts only after
//! the yes. What executes is named anew on each channel, so that the other side knows that it still does.

use std::collections::BTreeMap;

use arcgate_api::agent::v1::StepRun;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::stream::v1::StepRunStatusUpdate;

use crate::time::Millis;

/// How a step run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The step run.
    pub(super) step_run_id: String,
    /// The end.
    pub(super) status: StepRunStatus,
    /// The exit code; -1: there is none.
    pub(super) exit_code: i32,
    /// Why, for people; without secrets.
    pub(super) message: String,
    /// When it ended.
    pub(super) ended: Millis,
}

/// What is to be said, under a request's name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Say {
    /// The request's name.
    pub(super) request_id: String,
    /// What.
    pub(super) update: StepRunStatusUpdate,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    /// Nothing.
    Nothing,
    /// Start this step run.
    Start(Box<StepRun>),
    /// End this one, for that reason.
    Stop {
        /// The step run.
        step_run_id: String,
        /// For people.
        reason: String,
    },
    /// Say this.
    Say(Say),
}

#[derive(Debug)]
enum Stage {
    Asking(Box<StepRun>),
    Executing,
    Reporting(Report),
}

#[derive(Debug)]
struct Held {
    stage: Stage,
    /// The request that waits for an answer; empty: none does.
    request_id: String,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Desk {
    held: BTreeMap<String, Held>,
    requests: u64,
    most: usize,
}

impl Desk {
    /// Holds at most `most` step runs.
    pub(super) fn new(most: usize) -> Self {
        Self { held: BTreeMap::new(), requests: 0, most }
    }

    /// A step run was assigned. Nothing to say: it is known, or there is no room for it. Then it is offered again, or to others.
    pub(super) fn assigned(&mut self, step: StepRun) -> Option<Say> {
        let step_run_id = step.step_run_id.clone();
        if step_run_id.is_empty() || self.held.contains_key(&step_run_id) || self.held.len() >= self.most {
            return None;
        }
        self.held.insert(step_run_id.clone(), Held { stage: Stage::Asking(Box::new(step)), request_id: String::new() });
        self.say(&step_run_id)
    }

    /// The yes to a request.
    pub(super) fn answered(&mut self, request_id: &str) -> Act {
        let Some(step_run_id) = self.asked_by(request_id) else { return Act::Nothing };
        let Some(mut held) = self.held.remove(&step_run_id) else { return Act::Nothing };
        held.request_id.clear();
        let (stage, act) = match held.stage {
            Stage::Asking(step) => (Stage::Executing, Act::Start(step)),
            Stage::Executing => (Stage::Executing, Act::Nothing),
            Stage::Reporting(_) => return Act::Nothing,
        };
        self.held.insert(step_run_id, Held { stage, ..held });
        act
    }

    /// A cancellation: the no to a request, or, with an empty `request_id`, somebody's wish.
    pub(super) fn cancelled(&mut self, step_run_id: &str, request_id: &str, reason: &str, now: Millis) -> Act {
        let Some(held) = self.held.get_mut(step_run_id) else { return Act::Nothing };
        let answers = !request_id.is_empty();
        if answers && held.request_id != request_id {
            return Act::Nothing;
        }
        match &held.stage {
            Stage::Executing => {
                held.request_id.clear();
                Act::Stop { step_run_id: step_run_id.to_owned(), reason: reason.to_owned() }
            }
            Stage::Asking(_) | Stage::Reporting(_) if answers => {
                self.held.remove(step_run_id);
                Act::Nothing
            }
            // It may have been granted already: the answer is on its way, and comes to nothing.
            Stage::Asking(_) => self.ended(Report {
                step_run_id: step_run_id.to_owned(),
                status: StepRunStatus::Cancelled,
                exit_code: -1,
                message: reason.to_owned(),
                ended: now,
            }),
            Stage::Reporting(_) => Act::Nothing,
        }
    }

    /// A step run has ended.
    pub(super) fn ended(&mut self, report: Report) -> Act {
        let step_run_id = report.step_run_id.clone();
        let Some(held) = self.held.get_mut(&step_run_id) else { return Act::Nothing };
        held.stage = Stage::Reporting(report);
        self.say(&step_run_id).map_or(Act::Nothing, Act::Say)
    }

    /// There is a new channel: all that is to be said on it before the first sign of life.
    pub(super) fn opened(&mut self) -> Vec<Say> {
        let all: Vec<String> = self.held.keys().cloned().collect();
        all.iter().filter_map(|step_run_id| self.say(step_run_id)).collect()
    }

    /// How many step runs it executes, or is about to.
    pub(super) fn executing(&self) -> usize {
        self.held.values().filter(|held| !matches!(held.stage, Stage::Reporting(_))).count()
    }

    /// Whether something that was said waits for its answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.held.values().any(|held| !held.request_id.is_empty())
    }

    fn asked_by(&self, request_id: &str) -> Option<String> {
        let mut held = self.held.iter().filter(|_| !request_id.is_empty());
        held.find(|(_, held)| held.request_id == request_id).map(|(step_run_id, _)| step_run_id.clone())
    }

    fn say(&mut self, step_run_id: &str) -> Option<Say> {
        let held = self.held.get_mut(step_run_id)?;
        self.requests += 1;
        held.request_id = format!("r{}", self.requests);
        let step_run_id = step_run_id.to_owned();
        let update = match &held.stage {
            // No end yet, so no exit code: -1.
            Stage::Asking(_) | Stage::Executing => {
                StepRunStatusUpdate { step_run_id, status: StepRunStatus::Running.into(), exit_code: -1, ..Default::default() }
            }
            Stage::Reporting(report) => StepRunStatusUpdate {
                step_run_id,
                status: report.status.into(),
                exit_code: report.exit_code,
                error_message: report.message.clone(),
                timestamp: report.ended / 1_000,
            },
        };
        Some(Say { request_id: held.request_id.clone(), update })
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
