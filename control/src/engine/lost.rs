//! Agents that are lost, and steps of which nothing more is heard.
//!
//! **A job stays at one agent**, since its steps share files: the agent that is given its first step becomes the job's home, and its later
//! steps wait for that one, as long as it is there and its labels fit the step's selector. If the home is lost:
//!
//! - what had started there is lost, and so is a step that waits for it in a job that has begun there: each is tried again, elsewhere,
//!   if its job has attempts left, and has failed else;
//! - what had not started in a job that has not begun goes to others, and counts as no attempt;
//! - what comes later in the job (further attempts, steps that run whatever happened) goes to any agent that fits.

use super::error::Failure;
use super::rows::Loaded;
use super::turn::Turn;
use crate::db::row::Columns as _;
use crate::plan::{Input, Outcome, StepIndex, StepState};

impl Turn<'_> {
    /// An agent is gone.
    pub(crate) async fn agent_lost(&mut self, agent_id: &str, reason: &str) -> Result<(), Failure> {
        let waited = self.state.ready.of_home(agent_id);
        // From here on its steps may go to others.
        self.state.ready.home_changed(agent_id, None);
        let held = self.state.held.get(agent_id).cloned().unwrap_or_default();
        for step_run_id in held {
            self.step_lost(&step_run_id, &format!("agent {agent_id} is lost: {reason}")).await?;
        }
        for waiting in waited {
            let loaded = self.load(&waiting.run_id).await?;
            let begun = has_begun(&loaded, waiting.step.job, agent_id);
            self.state.put(loaded);
            if begun && self.state.ready.contains(&waiting.step_run_id) {
                let reason = format!("agent {agent_id}, where the job's earlier steps ran, is lost: {reason}");
                let (step, attempt) = (waiting.step, waiting.step_run_id);
                let lost = Input::StepEnded { step, attempt, outcome: Outcome::Lost, reason };
                self.apply(&waiting.run_id, lost, None).await.map_err(Failure::after_writing)?;
            }
        }
        let open = "SELECT pipeline_run_id, job_index FROM t_job_run WHERE agent_id = $1 AND status IN (1, 2, 3)";
        for row in sqlx::query(open).bind(agent_id).fetch_all(&mut *self.connection).await? {
            self.leave_home(&row.text("pipeline_run_id")?, row.index("job_index")?).await?;
        }
        Ok(())
    }

    /// A job has no home any more.
    async fn leave_home(&mut self, run_id: &str, job: usize) -> Result<(), Failure> {
        let mut loaded = self.load(run_id).await?;
        loaded.jobs[job].agent_id.clear();
        loaded.save_job(self.connection, job, self.now).await?;
        for step in 0..loaded.steps[job].len() {
            let step = StepIndex { job, step };
            if let Some(waiting) = self.state.ready.remove(&loaded.steps[job][step.step].step_run_id) {
                tracing::debug!(step_run = waiting.step_run_id, "goes to any agent");
                self.queue_or_not(&loaded, step);
            }
        }
        self.state.put(loaded);
        Ok(())
    }

    /// Nothing more is heard of a step run that was handed out.
    pub(super) async fn step_lost(&mut self, step_run_id: &str, reason: &str) -> Result<(), Failure> {
        let Some((run_id, step)) = self.place_of(step_run_id).await? else { return Ok(()) };
        let loaded = self.load(&run_id).await?;
        let current = &loaded.run.record().jobs[step.job].steps[step.step];
        let (attempt, reason) = (step_run_id.to_owned(), reason.to_owned());
        let agent_id = &loaded.steps[step.job][step.step].agent_id;
        let home = *agent_id == loaded.jobs[step.job].agent_id;
        let (input, leaves) = match &current.state {
            _ if current.attempt != step_run_id => (None, false),
            StepState::Queued(_) => {
                (Some(Input::StepReturned { step, attempt, reason }), home && !has_begun(&loaded, step.job, agent_id))
            }
            StepState::Running(_) | StepState::Stopping(_) => {
                (Some(Input::StepEnded { step, attempt, outcome: Outcome::Lost, reason }), false)
            }
            _ => (None, false),
        };
        self.state.put(loaded);
        let Some(input) = input else { return Ok(()) };
        self.apply(&run_id, input, None).await.map_err(Failure::after_writing)?;
        if leaves {
            self.leave_home(&run_id, step.job).await.map_err(Failure::after_writing)?;
        }
        Ok(())
    }

    /// An agent has come back, and has said what it still executes. What had started there before `before` and is not among it is
    /// lost. How many those were.
    pub(crate) async fn settle(&mut self, agent_id: &str, told: &[String], before: crate::Millis) -> Result<usize, Failure> {
        let mut lost = 0;
        for step_run_id in self.state.held.get(agent_id).cloned().unwrap_or_default() {
            let started = sqlx::query_scalar("SELECT start_time FROM t_step_run WHERE step_run_id = $1").bind(&*step_run_id);
            let started: Option<i64> = started.fetch_one(&mut *self.connection).await?;
            if started.is_some_and(|started| started < before) && !told.contains(&step_run_id) {
                self.step_lost(&step_run_id, &format!("agent {agent_id} came back and does not know it any more")).await?;
                lost += 1;
            }
        }
        Ok(lost)
    }
}

/// Whether a job has files at an agent: one of its steps started there.
fn has_begun(loaded: &Loaded, job: usize, agent_id: &str) -> bool {
    loaded.steps[job].iter().any(|step| step.agent_id == agent_id && step.started.is_some())
}
