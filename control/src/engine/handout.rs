//! Steps go out to agents, and come back from agents that are lost.

use std::collections::HashMap;

use arcgate_api::agent::v1 as pb;
use prost_types::Struct;

use super::error::{Failure, Refusal};
use super::ready::Waiting;
use super::rows::{Loaded, StepRow};
use super::turn::Turn;
use crate::db::row::Columns as _;
use crate::plan::{Input, Outcome, StepIndex, StepState};
use crate::template;

/// How long an agent may take from being given a step to saying that it starts it.
pub const LEASE: crate::Millis = 60_000;
/// The most steps that are handed out at once.
pub(crate) const MOST_AT_ONCE: usize = 100;

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

/// What an agent on a channel is to be given.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The agent.
    pub(crate) agent_id: String,
    /// How many steps it wants now.
    pub(crate) most: usize,
    /// It has just come: it hears again of what it has and did not start, and of what it is to stop.
    pub(crate) anew: bool,
}

/// What an agent on a channel is given.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    pub(crate) agent_id: String,
    pub(crate) work: Vec<pb::StepRun>,
    /// Step runs to stop, and why.
    pub(crate) stops: Vec<(String, String)>,
}

impl Turn<'_> {
    /// Gives an agent the first steps that fit it. They are its own once this is durable: no other agent is given them, and if this
    /// one does not say in time that it starts one ([`LEASE`]), that attempt is dead and another one waits in its place.
    pub(super) async fn fetch(&mut self, fetch: &Fetch) -> Result<Vec<pb::StepRun>, Failure> {
        if fetch.agent_id.is_empty() {
            return Err(Refusal::Invalid("agent_id is required".into()).into());
        }
        let room = fetch.most.min(fetch.capacity.saturating_sub(self.has(&fetch.agent_id))).min(MOST_AT_ONCE);
        let mut given = Vec::new();
        for waiting in self.state.ready.first(&fetch.agent_id, &fetch.labels, room, false) {
            given.extend(self.hand_out(&fetch.agent_id, waiting).await?);
        }
        Ok(given)
    }

    /// Gives work to agents that are there: one step to each, beginning with those that have the fewest, then one more to each, until
    /// no step is left that fits one with room. At most [`MOST_AT_ONCE`] steps: whoever asked asks again if there were so many.
    pub(crate) async fn offer(&mut self, wishes: &[Wish]) -> Result<Vec<Offered>, Failure> {
        let mut offered: Vec<Offered> = Vec::new();
        for wish in wishes {
            let again = if wish.anew { self.again(&wish.agent_id).await? } else { Offered::default() };
            offered.push(Offered { agent_id: wish.agent_id.clone(), ..again });
        }
        let mut left: Vec<(usize, usize)> = (0..wishes.len()).map(|at| (at, wishes[at].most)).collect();
        left.sort_by_key(|(at, _)| self.has(&wishes[*at].agent_id));
        let mut count = 0;
        while !left.is_empty() && !self.state.ready.is_empty() && count < MOST_AT_ONCE {
            let mut more = Vec::new();
            for (at, most) in left {
                let agent_id = &wishes[at].agent_id;
                let Some(known) = self.state.agents.get(agent_id).filter(|_| most > 0) else { continue };
                if self.has(agent_id) >= known.row.capacity() || count >= MOST_AT_ONCE {
                    continue;
                }
                // Who is not approved of, or no longer, at most ends the jobs that it has begun.
                let first = self.state.ready.first(agent_id, &known.row.labels, 1, !known.row.enabled).pop();
                let Some(waiting) = first else { continue };
                count += 1;
                offered[at].work.extend(self.hand_out(agent_id, waiting).await?);
                more.push((at, most - 1));
            }
            left = more;
        }
        Ok(offered)
    }

    fn has(&self, agent_id: &str) -> usize {
        self.state.held.get(agent_id).map_or(0, std::collections::HashSet::len)
    }

    /// Gives a step to an agent. Nothing, and the step has failed: it cannot be prepared.
    async fn hand_out(&mut self, agent_id: &str, waiting: Waiting) -> Result<Option<pb::StepRun>, Failure> {
        let Waiting { step_run_id, run_id, step, .. } = waiting;
        if !self.state.ready.contains(&step_run_id) {
            return Ok(None);
        }
        let mut loaded = self.load(&run_id).await?;
        match assignment(&loaded, step) {
            Ok(assignment) => {
                let lease = self.now.saturating_add(LEASE);
                let row = &mut loaded.steps[step.job][step.step];
                agent_id.clone_into(&mut row.agent_id);
                row.lease = Some(lease);
                self.state.ready.remove(&step_run_id);
                self.state.leases.set(&step_run_id, Some(lease));
                self.state.held.entry(agent_id.to_owned()).or_default().insert(step_run_id);
                loaded.save_step(self.connection, step.job, step.step, self.now).await?;
                if self.state.agents.get(&loaded.jobs[step.job].agent_id).is_none() {
                    agent_id.clone_into(&mut loaded.jobs[step.job].agent_id);
                    loaded.save_job(self.connection, step.job, self.now).await?;
                }
                self.state.put(loaded);
                Ok(Some(assignment))
            }
            Err(why) => {
                self.state.put(loaded);
                let reason = format!("it could not be prepared: {why}");
                let end = Input::StepEnded { step, attempt: step_run_id, outcome: Outcome::Failed, reason };
                self.apply(&run_id, end, None).await.map_err(Failure::after_writing)?;
                Ok(None)
            }
        }
    }

    /// What an agent that has just come may not have heard of: what it was given and did not start, with a new lease, and what it is
    /// to stop.
    async fn again(&mut self, agent_id: &str) -> Result<Offered, Failure> {
        let mut offered = Offered::default();
        for step_run_id in self.state.held.get(agent_id).cloned().unwrap_or_default() {
            let Some((run_id, step)) = self.place_of(&step_run_id).await? else { continue };
            let mut loaded = self.load(&run_id).await?;
            match &loaded.run.record().jobs[step.job].steps[step.step].state {
                StepState::Queued(_) => {
                    let lease = self.now.saturating_add(LEASE);
                    loaded.steps[step.job][step.step].lease = Some(lease);
                    self.state.leases.set(&step_run_id, Some(lease));
                    loaded.save_step(self.connection, step.job, step.step, self.now).await?;
                    // It could be prepared before.
                    offered.work.extend(assignment(&loaded, step));
                }
                StepState::Stopping(stopping) => offered.stops.push((step_run_id, stopping.reason().to_owned())),
                _ => {}
            }
            self.state.put(loaded);
        }
        Ok(offered)
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

/// In a step's environment: the repository of its job's sources.
const SOURCE_REPO: &str = "ARCGATE_SOURCE_REPO";
/// And the branch, tag or commit of it; empty for the repository's own.
const SOURCE_BRANCH: &str = "ARCGATE_SOURCE_BRANCH";

/// What an agent is given: the step with all values filled in.
fn assignment(loaded: &Loaded, step: StepIndex) -> Result<pb::StepRun, template::TooLong> {
    let (job, row): (_, &StepRow) = (&loaded.spec.jobs[step.job], &loaded.steps[step.job][step.step]);
    let of = &job.steps[step.step];
    let plan = loaded.run.plan();
    let value_of = |name: &str| plan.value_of(name);
    let args = of.args.as_ref().map_or_else(|| Ok(Struct::default()), |args| template::fill_struct(args, &value_of))?;
    let mut env = template::environment(plan.variables(), &loaded.spec, job, of, &value_of)?;
    if let Some(source) = &job.source {
        // Whoever executes the job's first step brings them into its workspace first.
        for (name, text) in [(SOURCE_REPO, &source.repo), (SOURCE_BRANCH, &source.branch)] {
            env.insert(name.to_owned(), template::fill(text, &value_of)?.into_owned());
        }
    }
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
        workspace: loaded.jobs[step.job].job_run_id.clone(),
        timeout: row.timeout.clone(),
        image: loaded.spec.runtime.as_ref().map(|runtime| runtime.image.clone()).unwrap_or_default(),
        continue_on_error: of.continue_on_error,
        when: of.when.clone(),
        agent_selector: selector,
        ..Default::default()
    })
}
