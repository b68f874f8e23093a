//! What the engine can be asked for.

use arcgate_api::agent::v1 as agent;

use super::error::{Failure, Refusal};
use super::feed::Effect;
use super::handout::{Fetch, Offered, Wish};
use super::report::Report;
use super::rows::Loaded;
use super::steprun::OfStepRun;
use super::trigger::{Trigger, Triggered};
use super::turn::Turn;
use crate::plan::{Input, StepIndex, What};

/// A request. It can be done again after a failed transaction, so that it holds all it needs.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Trigger(Trigger),
    Run {
        run_id: String,
        what: OfRun,
    },
    Job {
        run_id: String,
        job: String,
        what: OfJob,
    },
    Step {
        step_run_id: String,
        what: OfStep,
    },
    Fetch(Fetch),
    Report(Report),
    AgentLost {
        agent_id: String,
        reason: String,
    },
    /// What follows from accepted events, and the cursor behind them.
    Accepted {
        effects: Vec<Effect>,
        after: Option<String>,
        next: String,
    },
    /// The event log has the control plane's events up to this one.
    Relayed {
        seq: i64,
    },
    Pipeline(crate::pipelines::Write),
    Agent(crate::agents::Write),
    Offer(Vec<Wish>),
    StepRun(OfStepRun),
    Tick,
}

/// What is wanted of a run. Each with by whom and why.
#[derive(Debug, Clone)]
pub enum OfRun {
    /// Nothing new starts.
    Pause(String),
    /// It goes on.
    Resume(String),
    /// It ends.
    Cancel(String),
}

/// What is wanted of a job.
#[derive(Debug, Clone)]
pub enum OfJob {
    /// Its approval is given, by this person.
    Approve(String),
    /// Its approval is denied: by whom and why.
    Reject(String),
    /// It ends: why.
    Cancel(String),
}

/// What is wanted of a step run.
#[derive(Debug, Clone)]
pub enum OfStep {
    /// It ends: why.
    Cancel(String),
    /// Its step runs again, after the run's end: why.
    Retry(String),
}

#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Triggered(Triggered),
    Given(Vec<agent::StepRun>),
    /// Whether a report changed something.
    Reported(bool),
    /// The id of a new attempt, or of the step run that something was done to.
    Again(String),
    Pipeline(crate::pipelines::Written),
    Agent(crate::agents::Written),
    Offered(Vec<Offered>),
}

impl Turn<'_> {
    pub(super) async fn execute(&mut self, command: &Command) -> Result<Answer, Failure> {
        match command {
            Command::Trigger(trigger) => return Ok(Answer::Triggered(self.trigger(trigger).await?)),
            Command::Run { run_id, what } => {
                let input = match what.clone() {
                    OfRun::Pause(reason) => Input::Pause { reason },
                    OfRun::Resume(reason) => Input::Resume { reason },
                    OfRun::Cancel(reason) => Input::Cancel { what: What::Run, reason },
                };
                self.apply(run_id, input, None).await?;
            }
            Command::Job { run_id, job: name, what } => {
                let loaded = self.load(run_id).await?;
                let job = loaded.jobs.iter().position(|job| job.name == *name);
                self.state.put(loaded);
                let job = job.ok_or_else(|| Refusal::Unknown(format!("run {run_id} has no job '{name}'")))?;
                let input = match what.clone() {
                    OfJob::Approve(by) => Input::Approve { job, by },
                    OfJob::Reject(reason) => Input::Reject { job, reason },
                    OfJob::Cancel(reason) => Input::Cancel { what: What::Job(job), reason },
                };
                self.apply(run_id, input, None).await?;
            }
            Command::Step { step_run_id, what } => return self.step(step_run_id, what).await,
            Command::Fetch(fetch) => return Ok(Answer::Given(self.fetch(fetch).await?)),
            Command::Report(report) => return Ok(Answer::Reported(self.report(report).await?)),
            Command::AgentLost { agent_id, reason } => self.agent_lost(agent_id, reason).await?,
            Command::Accepted { effects, after, next } => self.accepted(effects, after.as_deref(), next).await?,
            Command::Relayed { seq } => {
                sqlx::query("DELETE FROM t_outbox WHERE seq <= $1").bind(*seq).execute(&mut *self.connection).await?;
            }
            Command::Pipeline(write) => return Ok(Answer::Pipeline(crate::pipelines::write(self, write).await?)),
            Command::Agent(write) => return Ok(Answer::Agent(crate::agents::write(self, write).await?)),
            Command::Offer(wishes) => return Ok(Answer::Offered(self.offer(wishes).await?)),
            Command::StepRun(what) => return Ok(Answer::Again(self.step_run(what).await?)),
            Command::Tick => self.tick().await?,
        }
        Ok(Answer::Done)
    }

    async fn step(&mut self, step_run_id: &str, what: &OfStep) -> Result<Answer, Failure> {
        let unknown = || Refusal::Unknown(format!("there is no step run {step_run_id}"));
        let (run_id, step) = self.place_of(step_run_id).await?.ok_or_else(unknown)?;
        let loaded = self.load(&run_id).await?;
        let current = attempt(&loaded, step);
        self.state.put(loaded);
        if current != step_run_id {
            let why = format!("step run {step_run_id} is over, and its step has another one since: {current}");
            return Err(Refusal::Conflict(why).into());
        }
        match what.clone() {
            OfStep::Cancel(reason) => {
                self.apply(&run_id, Input::Cancel { what: What::Step(step), reason }, None).await?;
                Ok(Answer::Done)
            }
            OfStep::Retry(reason) => {
                self.apply(&run_id, Input::RetryStep { step, reason }, None).await?;
                let loaded = self.load(&run_id).await?;
                let new = attempt(&loaded, step);
                self.state.put(loaded);
                Ok(Answer::Again(new))
            }
        }
    }
}

fn attempt(loaded: &Loaded, step: StepIndex) -> String {
    loaded.run.record().jobs[step.job].steps[step.step].attempt.clone()
}
