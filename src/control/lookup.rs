//! What the data plane asks of the control plane about step runs.

use arcgate_control::agents::{Agents, StepRunPlace};
use arcgate_control::status::{self, Named, Told};
use arcgate_gateway::id::{AgentId, Id, StepRunId};
use arcgate_gateway::lookup::{Parents, StatusFeed, StatusItem, StatusTarget, StepRunLookup};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use quick_cache::sync::Cache;
use tokio::runtime::Handle;

/// For so many step runs it is known without asking the database where they belong.
const KNOWN: usize = 10_000;

/// Answers from the control plane's database. Its calls that are not futures block.
pub struct ControlLookup {
    agents: Agents,
    runtime: Handle,
    /// Where step runs belong, once that does not change any more: handed to an agent, or none of the control plane's.
    places: Cache<StepRunId, Option<StepRunPlace>>,
}

impl ControlLookup {
    /// Of these agents. Called inside a runtime.
    #[must_use]
    pub fn new(agents: Agents) -> Self {
        Self { agents, runtime: Handle::current(), places: Cache::new(KNOWN) }
    }

    /// Where a step run belongs; nothing if it is none of the control plane's, or the database cannot be read.
    fn place(&self, step_run: &StepRunId) -> Option<StepRunPlace> {
        if let Some(known) = self.places.get(step_run) {
            return known;
        }
        match self.runtime.block_on(self.agents.step_run(step_run.as_str())) {
            Ok(place) => {
                if place.as_ref().is_none_or(|place| !place.agent_id.is_empty()) {
                    self.places.insert(step_run.clone(), place.clone());
                }
                place
            }
            Err(why) => {
                tracing::warn!(%why, %step_run, "where a step run belongs cannot be looked up");
                None
            }
        }
    }
}

impl StepRunLookup for ControlLookup {
    fn status(&self, target: StatusTarget) -> BoxFuture<'_, Option<StatusFeed>> {
        let StatusTarget { pipeline_id, job_id, step_run_id } = target;
        let follow = async move {
            let named = Named { pipeline_id, job_id, step_run_id };
            match status::follow(self.agents.engine(), named).await {
                Ok(feed) => feed.map(|feed| feed.map(item).boxed()),
                Err(why) => {
                    tracing::warn!(%why, "a status cannot be read");
                    None
                }
            }
        };
        follow.boxed()
    }

    fn owner(&self, step_run: &StepRunId) -> Option<AgentId> {
        self.place(step_run).and_then(|place| Id::parse(&place.agent_id).ok())
    }

    fn step_run(&self, agent: &AgentId, step_name: &str) -> Option<StepRunId> {
        let found = self.runtime.block_on(self.agents.step_run_named(agent.as_str(), step_name));
        let found = found.inspect_err(|why| tracing::warn!(%why, %agent, step_name, "a step run cannot be looked up"));
        found.ok().flatten().and_then(|id| Id::parse(&id).ok())
    }

    fn parents(&self, step_run: &StepRunId) -> Option<Parents> {
        self.place(step_run).map(|place| Parents { pipeline_id: place.pipeline_id, job_id: place.job_id })
    }
}

fn item(told: Told) -> StatusItem {
    match told {
        Told::Snapshot(data) => StatusItem::Snapshot(data),
        Told::Change(data) => StatusItem::Change(data),
    }
}
