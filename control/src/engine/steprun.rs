//! What is wanted of step runs beside cancelling and retrying: one made on its own, one changed before it goes out, an old one removed.

use std::collections::HashMap;

use super::error::{Failure, Refusal};
use super::rows::{StepRow, is_over};
use super::trigger::{Trigger, Triggered};
use super::turn::Turn;
use crate::db::row::Columns as _;
use crate::plan::{StepIndex, StepState};
use crate::spec::Spec;
use crate::{duration, pipelines};

/// What is wanted of a step run.
#[derive(Debug, Clone)]
pub(crate) enum OfStepRun {
    /// A run of a pipeline that is this one step, beside the pipeline's definition. The definition is valid and has one job with one
    /// step.
    Create(Box<(Trigger, Spec)>),
    /// Other environment or another time limit, for one that is not handed out yet. Its later attempts have them too.
    Update { step_run_id: String, env: HashMap<String, String>, timeout: String },
    /// An attempt that another one has followed is removed.
    Delete { step_run_id: String },
}

impl Turn<'_> {
    /// The id of the step run.
    pub(super) async fn step_run(&mut self, what: &OfStepRun) -> Result<String, Failure> {
        match what {
            OfStepRun::Create(of) => self.create_step_run(&of.0, &of.1).await,
            OfStepRun::Update { step_run_id, env, timeout } => {
                self.update_step_run(step_run_id, env, timeout).await?;
                Ok(step_run_id.clone())
            }
            OfStepRun::Delete { step_run_id } => {
                self.delete_step_run(step_run_id).await?;
                Ok(step_run_id.clone())
            }
        }
    }

    async fn create_step_run(&mut self, trigger: &Trigger, spec: &Spec) -> Result<String, Failure> {
        let text = pipelines::kept_text(spec)?;
        let Triggered { run_id, .. } = self.trigger_with(trigger, Some(&text)).await?;
        let step = sqlx::query_scalar("SELECT step_run_id FROM t_step_run WHERE pipeline_run_id = $1 AND is_current = 1");
        Ok(step.bind(&*run_id).fetch_one(&mut *self.connection).await?)
    }

    async fn place(&mut self, step_run_id: &str) -> Result<(String, StepIndex), Failure> {
        let unknown = || Refusal::Unknown(format!("there is no step run {step_run_id}"));
        Ok(self.place_of(step_run_id).await?.ok_or_else(unknown)?)
    }

    async fn update_step_run(&mut self, step_run_id: &str, env: &HashMap<String, String>, timeout: &str) -> Result<(), Failure> {
        if !timeout.is_empty()
            && let Err(why) = duration::parse(timeout)
        {
            return Err(Refusal::Invalid(format!("timeout: {why}")).into());
        }
        let (run_id, step) = self.place(step_run_id).await?;
        let mut loaded = self.load(&run_id).await?;
        let current = &loaded.run.record().jobs[step.job].steps[step.step];
        let row = &loaded.steps[step.job][step.step];
        let waits = matches!(current.state, StepState::Waiting(_) | StepState::Delayed(_) | StepState::Queued(_));
        if current.attempt != step_run_id || !waits || !row.agent_id.is_empty() {
            self.state.put(loaded);
            let why = format!("step run {step_run_id} was handed out already, and can no longer be changed");
            return Err(Refusal::Conflict(why).into());
        }
        let row: &mut StepRow = &mut loaded.steps[step.job][step.step];
        if !env.is_empty() {
            row.env = Some(env.clone());
        }
        if !timeout.is_empty() {
            timeout.clone_into(&mut row.timeout);
        }
        loaded.save_step(self.connection, step.job, step.step, self.now).await?;
        // It is not given back, but read anew, since its plan has other limits now.
        drop(loaded);
        Ok(())
    }

    async fn delete_step_run(&mut self, step_run_id: &str) -> Result<(), Failure> {
        self.place(step_run_id).await?;
        let found = sqlx::query("SELECT is_current, status FROM t_step_run WHERE step_run_id = $1").bind(step_run_id);
        let found = found.fetch_one(&mut *self.connection).await?;
        if found.number("is_current")? != 0 || !is_over(super::rows::step_status(found.number("status")?)) {
            let why = format!(
                "step run {step_run_id} is the last attempt of its step, which its run is made of; only attempts that another one followed can be removed"
            );
            return Err(Refusal::Conflict(why).into());
        }
        for text in ["DELETE FROM t_step_run_artifact WHERE step_run_id = $1", "DELETE FROM t_step_run WHERE step_run_id = $1"] {
            sqlx::query(text).bind(step_run_id).execute(&mut *self.connection).await?;
        }
        Ok(())
    }
}
