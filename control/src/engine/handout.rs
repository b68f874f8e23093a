//! Steps go out to agents, and come back from agents that are lost.

use std::collections::HashMap;

use arcgate_api::agent::v1 as pb;
use prost_types::Struct;

use super::error::{Failure, Refusal};
use super::rows::{Loaded, StepRow};
use super::turn::Turn;
use crate::db::row::Columns as _;
use crate::plan::{Input, Outcome, StepIndex, StepState};
use crate::template;

/// How long an agent may take from being given a step to saying that it starts it.
pub const LEASE: crate::Millis = 60_000;
/// The most steps that are handed out at once.
const MOST_AT_ONCE: usize = 100;

/// An agent that wants work.
#[derive(Debug, Clone, Default)]
pub struct Fetch {
    /// The agent.
    pub agent_id: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// How many steps it wants now.
    pub most: usize,
    /// How many it may have at once, with those that it has.
    pub capacity: usize,
}

impl Turn<'_> {
    /// Gives an agent the first steps that fit it. They are its own once this is durable: no other agent is given them, and if this
    /// one does not say in time that it starts one ([`LEASE`]), that attempt is dead and another one waits in its place.
    pub(super) async fn fetch(&mut self, fetch: &Fetch) -> Result<Vec<pb::StepRun>, Failure> {
        if fetch.agent_id.is_empty() {
            return Err(Refusal::Invalid("agent_id is required".into()).into());
        }
        let has = self.state.held.get(&fetch.agent_id).map_or(0, std::collections::HashSet::len);
        let room = fetch.most.min(fetch.capacity.saturating_sub(has)).min(MOST_AT_ONCE);
        let mut given = Vec::new();
        for waiting in self.state.ready.first(&fetch.labels, room) {
            if !self.state.ready.contains(&waiting.step_run_id) {
                continue;
            }
            let mut loaded = self.load(&waiting.run_id).await?;
            let step = waiting.step;
            match assignment(&loaded, step) {
                Ok(assignment) => {
                    let lease = self.now.saturating_add(LEASE);
                    let row = &mut loaded.steps[step.job][step.step];
                    row.agent_id.clone_from(&fetch.agent_id);
                    row.lease = Some(lease);
                    self.state.ready.remove(&waiting.step_run_id);
                    self.state.leases.set(&waiting.step_run_id, Some(lease));
                    self.state.held.entry(fetch.agent_id.clone()).or_default().insert(waiting.step_run_id);
                    loaded.save_step(self.connection, step.job, step.step, self.now).await?;
                    self.state.put(loaded);
                    given.push(assignment);
                }
                Err(why) => {
                    self.state.put(loaded);
                    let end = Input::StepEnded {
                        step,
                        attempt: waiting.step_run_id,
                        outcome: Outcome::Failed,
                        reason: format!("it could not be prepared: {why}"),
                    };
                    self.apply(&waiting.run_id, end, None).await.map_err(Failure::after_writing)?;
                }
            }
        }
        Ok(given)
    }

    /// An agent is gone: what it had started is lost, and what it had not goes to others.
    pub(super) async fn agent_lost(&mut self, agent_id: &str, reason: &str) -> Result<(), Failure> {
        let held = self.state.held.get(agent_id).cloned().unwrap_or_default();
        for step_run_id in held {
            self.step_lost(&step_run_id, &format!("agent {agent_id} is lost: {reason}")).await?;
        }
        Ok(())
    }

    /// Nothing more is heard of a step run that was handed out.
    pub(super) async fn step_lost(&mut self, step_run_id: &str, reason: &str) -> Result<(), Failure> {
        let Some((run_id, step)) = self.place_of(step_run_id).await? else { return Ok(()) };
        let loaded = self.load(&run_id).await?;
        let current = &loaded.run.record().jobs[step.job].steps[step.step];
        let (attempt, reason) = (step_run_id.to_owned(), reason.to_owned());
        let input = match &current.state {
            _ if current.attempt != step_run_id => None,
            StepState::Queued(_) => Some(Input::StepReturned { step, attempt, reason }),
            StepState::Running(_) | StepState::Stopping(_) => {
                Some(Input::StepEnded { step, attempt, outcome: Outcome::Lost, reason })
            }
            _ => None,
        };
        self.state.put(loaded);
        match input {
            Some(input) => self.apply(&run_id, input, None).await.map_err(Failure::after_writing),
            None => Ok(()),
        }
    }

    /// The run and the place of a step run.
    pub(super) async fn place_of(&mut self, step_run_id: &str) -> Result<Option<(String, StepIndex)>, Failure> {
        let text = "SELECT pipeline_run_id, job_index, step_index FROM t_step_run WHERE step_run_id = $1";
        let row = sqlx::query(text).bind(step_run_id).fetch_optional(&mut *self.connection).await?;
        let place = |row: &sqlx::any::AnyRow| -> Result<_, Failure> {
            let step = StepIndex { job: row.index("job_index")?, step: row.index("step_index")? };
            Ok((row.text("pipeline_run_id")?, step))
        };
        row.as_ref().map(place).transpose()
    }
}

/// What an agent is given: the step with all values filled in.
fn assignment(loaded: &Loaded, step: StepIndex) -> Result<pb::StepRun, template::TooLong> {
    let (job, row): (_, &StepRow) = (&loaded.spec.jobs[step.job], &loaded.steps[step.job][step.step]);
    let of = &job.steps[step.step];
    let plan = loaded.run.plan();
    let value_of = |name: &str| plan.value_of(name);
    let args = of.args.as_ref().map_or_else(|| Ok(Struct::default()), |args| template::fill_struct(args, &value_of))?;
    let mut env = template::environment(plan.variables(), &loaded.spec, job, of, &value_of)?;
    env.extend(row.env.clone().unwrap_or_default());
    let selector = of.agent_selector.as_ref().map(|selector| pb::AgentSelector {
        match_labels: selector.match_labels.clone(),
        match_expressions: selector
            .match_expressions
            .iter()
            .map(|one| pb::LabelExpression { key: one.key.clone(), operator: one.operator.clone(), values: one.values.clone() })
            .collect(),
    });
    Ok(pb::StepRun {
        step_run_id: row.step_run_id.clone(),
        pipeline_id: loaded.head.pipeline_id.clone(),
        pipeline_run_id: loaded.head.run_id.clone(),
        job_id: format!("{}-{}", loaded.head.pipeline_id, job.name),
        job_name: job.name.clone(),
        step_name: of.name.clone(),
        step_index: i32::try_from(step.step).unwrap_or(i32::MAX),
        uses: of.uses.clone(),
        action: of.action.clone(),
        args: Some(args),
        env,
        timeout: row.timeout.clone(),
        image: loaded.spec.runtime.as_ref().map(|runtime| runtime.image.clone()).unwrap_or_default(),
        continue_on_error: of.continue_on_error,
        when: of.when.clone(),
        agent_selector: selector,
        ..Default::default()
    })
}
