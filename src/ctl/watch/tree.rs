//! What is known of a run: its jobs and their steps, in the order of the definition.

use std::collections::HashSet;

use arcgate_api::pipeline::v1::{PipelineRunDetail, PipelineStatus};
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::stream::v1 as pb;

/// What a stream tells.
#[derive(Debug)]
pub(super) enum Change {
    Run(pb::StreamPipelineStatusResponse),
    Job(pb::StreamJobStatusResponse),
    Step(pb::StreamStepRunStatusResponse),
}

/// Where something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Run,
    Job(usize),
    Step(usize, usize),
}

/// A job.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) name: String,
    /// As it was told last; absent: only its steps were.
    pub(super) told: Option<pb::StreamJobStatusResponse>,
    pub(super) steps: Vec<Step>,
}

/// A step, in its newest attempt.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) told: pb::StreamStepRunStatusResponse,
    /// The attempts that were seen.
    attempts: HashSet<String>,
}

impl Step {
    pub(super) fn attempt(&self) -> usize {
        self.attempts.len()
    }

    pub(super) fn is_over(&self) -> bool {
        use StepRunStatus as S;
        !matches!(self.told.status(), S::Unspecified | S::Pending | S::Queued | S::Running)
    }
}

impl Job {
    pub(super) fn status(&self) -> PipelineStatus {
        self.told.as_ref().map_or(PipelineStatus::Pending, pb::StreamJobStatusResponse::status)
    }

    /// Whether none of it ran. A job's status does not tell it from success.
    pub(super) fn is_skipped(&self) -> bool {
        self.status() == PipelineStatus::Success
            && !self.steps.is_empty()
            && self.steps.iter().all(|step| step.told.status() == StepRunStatus::Skipped)
    }
}

/// A run.
#[derive(Debug)]
pub(super) struct Tree {
    /// The pipeline's name.
    pub(super) pipeline: String,
    /// As it was told last.
    pub(super) run: pb::StreamPipelineStatusResponse,
    pub(super) jobs: Vec<Job>,
    /// When it began, in seconds since the Unix epoch; 0: not yet.
    pub(super) began: i64,
}

impl Tree {
    pub(super) fn new(run: PipelineRunDetail) -> Self {
        let told = pb::StreamPipelineStatusResponse { run_id: run.run_id, total_jobs: run.total_jobs, ..Default::default() };
        Self { pipeline: run.pipeline_name, run: told, jobs: Vec::new(), began: run.start_time }
    }

    /// Notes a change. Where it was; nothing: it was known already, as after a break.
    pub(super) fn take(&mut self, change: Change) -> Option<Place> {
        match change {
            Change::Run(run) => {
                let same = run.status == self.run.status;
                if self.began == 0 && run.status() == PipelineStatus::Running {
                    self.began = run.timestamp;
                }
                self.run = run;
                (!same).then_some(Place::Run)
            }
            Change::Job(job) => {
                let at = self.job(&job.job_name);
                let same = self.jobs[at].told.as_ref().is_some_and(|told| told.status == job.status);
                self.jobs[at].told = Some(job);
                (!same).then_some(Place::Job(at))
            }
            Change::Step(step) => {
                let job = self.job(&step.job_name);
                let steps = &mut self.jobs[job].steps;
                let Some(at) = steps.iter().position(|known| known.told.step_name == step.step_name) else {
                    steps.push(Step { attempts: [step.step_run_id.clone()].into(), told: step });
                    return Some(Place::Step(job, steps.len() - 1));
                };
                let known = &mut steps[at];
                let is_new = known.attempts.insert(step.step_run_id.clone());
                // An attempt that another one has followed is over.
                if !is_new && known.told.step_run_id != step.step_run_id {
                    return None;
                }
                let same = !is_new && known.told.status == step.status;
                known.told = step;
                (!same).then_some(Place::Step(job, at))
            }
        }
    }

    fn job(&mut self, name: &str) -> usize {
        self.jobs.iter().position(|job| job.name == name).unwrap_or_else(|| {
            self.jobs.push(Job { name: name.to_owned(), ..Job::default() });
            self.jobs.len() - 1
        })
    }

    pub(super) fn step(&self, place: Place) -> Option<&Step> {
        match place {
            Place::Step(job, step) => Some(&self.jobs[job].steps[step]),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in super::super) fn tree() -> Tree {
        Tree::new(PipelineRunDetail { run_id: "R".into(), pipeline_name: "build".into(), total_jobs: 2, ..Default::default() })
    }

    pub(in super::super) fn job(name: &str, status: PipelineStatus) -> Change {
        Change::Job(pb::StreamJobStatusResponse { job_name: name.into(), status: status.into(), ..Default::default() })
    }

    pub(in super::super) fn step(name: &str, id: &str, status: StepRunStatus) -> Change {
        let (job, step) = name.split_once('.').unwrap();
        Change::Step(pb::StreamStepRunStatusResponse {
            job_name: job.into(),
            step_name: step.into(),
            step_run_id: id.into(),
            status: status.into(),
            timestamp: 1_000,
            exit_code: -1,
            ..Default::default()
        })
    }

    #[test]
    fn changes_are_told_once_and_an_older_attempt_never_hides_a_newer() {
        use StepRunStatus as S;
        let mut tree = tree();
        assert_eq!(tree.take(step("a.s", "1", S::Queued)), Some(Place::Step(0, 0)));
        assert_eq!(tree.take(step("a.s", "1", S::Queued)), None);
        assert_eq!(tree.take(job("a", PipelineStatus::Pending)), Some(Place::Job(0)));
        assert_eq!(tree.take(job("b", PipelineStatus::Pending)), Some(Place::Job(1)));
        assert_eq!(tree.take(step("a.s", "1", S::Failed)), Some(Place::Step(0, 0)));
        assert_eq!(tree.take(step("a.s", "2", S::Queued)), Some(Place::Step(0, 0)));
        assert_eq!(tree.take(step("a.s", "1", S::Failed)), None);
        let step = tree.step(Place::Step(0, 0)).unwrap();
        assert_eq!((step.attempt(), &*step.told.step_run_id, step.is_over()), (2, "2", false));
    }

    #[test]
    fn a_job_of_which_nothing_ran_is_skipped() {
        let mut tree = tree();
        tree.take(step("a.s", "1", StepRunStatus::Skipped));
        tree.take(job("a", PipelineStatus::Success));
        assert!(tree.jobs[0].is_skipped());
        tree.take(step("a.t", "2", StepRunStatus::Success));
        assert!(!tree.jobs[0].is_skipped());
    }
}
