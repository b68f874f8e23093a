//! StepRunService. As in PipelineService, what cannot be done is answered with `success = false` and an error of code, type and message.

use std::collections::HashMap;

use arcgate_api::pipeline::v1 as spec_pb;
use arcgate_api::steprun::v1 as pb;
use arcgate_api::steprun::v1::step_run_service_server::StepRunService;
use tonic::{Request, Response, Status};

use super::{by, may};
use crate::agents::Role;
use crate::engine::{Engine, EngineError, OfStepRun, Refusal, Trigger};
use crate::spec::{self, Spec};

mod read;
#[cfg(test)]
mod tests;

use self::read::StepRuns;

/// The calls of StepRunService.
#[derive(Debug, Clone)]
pub struct StepRunCalls {
    engine: Engine,
    step_runs: StepRuns,
}

type Answered<T> = Result<Response<T>, Status>;

impl StepRunCalls {
    /// Of an engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let step_runs = StepRuns::new(engine.database().clone());
        Self { engine, step_runs }
    }
}

/// Why not: an error that is told in the answer, or a status.
fn refused(why: EngineError) -> Result<pb::Error, Status> {
    let (code, kind) = match &why {
        EngineError::Refused(Refusal::Unknown(_)) => (404, "not_found"),
        EngineError::Refused(Refusal::Invalid(_)) => (400, "validation"),
        EngineError::Refused(Refusal::Conflict(_) | Refusal::Stale { .. }) => (409, "conflict"),
        EngineError::Broken(_) => (500, "internal"),
        _ => return Err(super::refused::status(why)),
    };
    Ok(pb::Error { code, message: why.to_string(), r#type: kind.into(), details: None })
}

fn invalid(message: impl Into<String>) -> EngineError {
    Refusal::Invalid(message.into()).into()
}

fn needed(step_run_id: &str) -> Result<(), EngineError> {
    if step_run_id.is_empty() { Err(invalid("stepRunId is required")) } else { Ok(()) }
}

/// What a call comes to: its own answer, or the answer that says why not.
macro_rules! answer {
    ($done:expr, $answer:ident { $($field:ident: $value:expr),* }) => {
        match $done {
            #[allow(clippy::needless_update, reason = "some answers have more fields")]
            Ok((message, done)) => {
                let _ = &done;
                let message = String::from(message);
                Ok(Response::new(pb::$answer { success: true, message, $($field: ($value)(done),)* ..Default::default() }))
            }
            Err(why) => {
                let error = refused(why)?;
                Ok(Response::new(pb::$answer { message: error.message.clone(), error: Some(error), ..Default::default() }))
            }
        }
    };
}

impl StepRunCalls {
    async fn create(&self, who: String, asked: pb::CreateStepRunRequest) -> Result<(&'static str, String), EngineError> {
        if asked.pipeline_id.is_empty() || asked.job_id.is_empty() || asked.step_name.is_empty() {
            return Err(invalid("pipelineId/jobId/stepName are required"));
        }
        let trigger = Trigger { pipeline_id: asked.pipeline_id.clone(), triggered_by: who, ..Trigger::default() };
        let spec = one_step(asked)?;
        Ok(("created", self.engine.step_run(OfStepRun::Create(Box::new((trigger, spec)))).await?))
    }

    async fn update(&self, asked: pb::UpdateStepRunRequest) -> Result<(&'static str, ()), EngineError> {
        let pb::UpdateStepRunRequest { step_run_id, env, timeout } = asked;
        needed(&step_run_id)?;
        let nothing = env.is_empty() && timeout.is_empty();
        self.engine.step_run(OfStepRun::Update { step_run_id, env, timeout }).await?;
        Ok((if nothing { "no changes" } else { "updated" }, ()))
    }

    async fn get(&self, step_run_id: &str) -> Result<(&'static str, pb::StepRunDetail), EngineError> {
        needed(step_run_id)?;
        let found = self.step_runs.get(step_run_id).await.map_err(|error| EngineError::from(&error))?;
        let found = found.ok_or_else(|| Refusal::Unknown(format!("step run not found: {step_run_id}")))?;
        Ok(("ok", found))
    }

    async fn artifacts(&self, step_run_id: &str) -> Result<(&'static str, Vec<pb::Artifact>), EngineError> {
        self.get(step_run_id).await?;
        Ok(("ok", self.step_runs.artifacts(step_run_id).await.map_err(|error| EngineError::from(&error))?))
    }
}

/// A definition that is one step and nothing else.
fn one_step(asked: pb::CreateStepRunRequest) -> Result<Spec, EngineError> {
    for (given, field) in [
        (!asked.pipeline_run_id.is_empty(), "pipelineRunId (a run consists of its definition's steps; leave it empty)"),
        (!asked.secrets.is_empty(), "secrets (they would be kept in clear)"),
        (!asked.workspace.is_empty(), "workspace"),
        (!asked.artifacts.is_empty(), "artifacts"),
        (!asked.plugins.is_empty(), "plugins"),
    ] {
        if given {
            return Err(invalid(format!("a step run of its own cannot be given {field}")));
        }
    }
    let prefix = format!("{}-", asked.pipeline_id);
    let Some(job) = asked.job_id.strip_prefix(&prefix).filter(|job| !job.is_empty()) else {
        return Err(invalid(format!("jobId must be {prefix}<job name>")));
    };
    if !asked.job_name.is_empty() && asked.job_name != job {
        return Err(invalid(format!("jobId names the job {job}, and jobName the job {}", asked.job_name)));
    }
    let selector = |selector: pb::AgentSelector| spec_pb::AgentSelector {
        match_labels: selector.match_labels,
        match_expressions: selector
            .match_expressions
            .into_iter()
            .map(|one| spec_pb::LabelExpression { key: one.key, operator: one.operator, values: one.values })
            .collect(),
    };
    let step = spec_pb::Step {
        name: asked.step_name,
        uses: asked.uses,
        action: asked.action,
        args: asked.args,
        env: asked.env,
        continue_on_error: asked.continue_on_error,
        timeout: asked.timeout,
        when: asked.when,
        agent_selector: asked.agent_selector.map(selector),
        run_on_agent: asked.run_on_agent,
    };
    let spec = Spec {
        namespace: "step-run".into(),
        runtime: (!asked.image.is_empty()).then(|| spec_pb::Runtime { image: asked.image, ..Default::default() }),
        jobs: vec![spec_pb::Job { name: job.to_owned(), steps: vec![step], ..Default::default() }],
        ..Default::default()
    };
    let problems = spec::validate(&spec).problems;
    if problems.is_empty() {
        return Ok(spec);
    }
    let all: Vec<&str> = problems.iter().map(|problem| &*problem.message).collect();
    Err(invalid(format!("the step cannot be run: {}", all.join("; "))))
}

#[tonic::async_trait]
impl StepRunService for StepRunCalls {
    async fn create_step_run(&self, asked: Request<pb::CreateStepRunRequest>) -> Answered<pb::CreateStepRunResponse> {
        let who = may(&asked, Role::Operator)?;
        answer!(self.create(who, asked.into_inner()).await, CreateStepRunResponse { step_run_id: |id| id })
    }

    async fn get_step_run(&self, asked: Request<pb::GetStepRunRequest>) -> Answered<pb::GetStepRunResponse> {
        may(&asked, Role::Viewer)?;
        answer!(self.get(&asked.get_ref().step_run_id).await, GetStepRunResponse { step_run: Some })
    }

    async fn list_step_runs(&self, asked: Request<pb::ListStepRunsRequest>) -> Answered<pb::ListStepRunsResponse> {
        may(&asked, Role::Viewer)?;
        let asked = asked.into_inner();
        let order = read::order(&asked.sort_by)?;
        let page = asked.page.max(1);
        let page_size = if asked.page_size <= 0 { 20 } else { asked.page_size.min(read::MAX_PAGE) };
        let listed = self.step_runs.list(&asked, order, i64::from(page - 1) * i64::from(page_size), i64::from(page_size));
        let (step_runs, total) = listed.await.map_err(|error| super::refused::of_database(&error))?;
        let total = i32::try_from(total).unwrap_or(i32::MAX);
        Ok(Response::new(pb::ListStepRunsResponse { success: true, message: "ok".into(), step_runs, total, page, page_size }))
    }

    async fn update_step_run(&self, asked: Request<pb::UpdateStepRunRequest>) -> Answered<pb::UpdateStepRunResponse> {
        may(&asked, Role::Operator)?;
        answer!(self.update(asked.into_inner()).await, UpdateStepRunResponse {})
    }

    async fn delete_step_run(&self, asked: Request<pb::DeleteStepRunRequest>) -> Answered<pb::DeleteStepRunResponse> {
        may(&asked, Role::Operator)?;
        let step_run_id = asked.into_inner().step_run_id;
        let done = match needed(&step_run_id) {
            Ok(()) => self.engine.step_run(OfStepRun::Delete { step_run_id }).await,
            Err(why) => Err(why),
        };
        answer!(done.map(|_| ("deleted", ())), DeleteStepRunResponse {})
    }

    async fn cancel_step_run(&self, asked: Request<pb::CancelStepRunRequest>) -> Answered<pb::CancelStepRunResponse> {
        let who = may(&asked, Role::Operator)?;
        let pb::CancelStepRunRequest { step_run_id, reason } = asked.into_inner();
        let done = match needed(&step_run_id) {
            Ok(()) => self.engine.cancel_step(&step_run_id, by(&who, &reason)).await,
            Err(why) => Err(why),
        };
        answer!(done.map(|()| ("cancelled", ())), CancelStepRunResponse {})
    }

    async fn retry_step_run(&self, asked: Request<pb::RetryStepRunRequest>) -> Answered<pb::RetryStepRunResponse> {
        let who = may(&asked, Role::Operator)?;
        let step_run_id = asked.into_inner().step_run_id;
        let done = match needed(&step_run_id) {
            Ok(()) => self.engine.retry_step(&step_run_id, by(&who, "")).await,
            Err(why) => Err(why),
        };
        answer!(done.map(|id| ("retry created", id)), RetryStepRunResponse { new_step_run_id: |id| id })
    }

    async fn list_step_run_artifacts(
        &self,
        asked: Request<pb::ListStepRunArtifactsRequest>,
    ) -> Answered<pb::ListStepRunArtifactsResponse> {
        may(&asked, Role::Viewer)?;
        answer!(self.artifacts(&asked.get_ref().step_run_id).await, ListStepRunArtifactsResponse { artifacts: |all| all })
    }
}

/// The environment that a step run has beside its run's: what the definition gives its step, and what was set for it alone.
fn environment(of: &spec_pb::Step, own: Option<HashMap<String, String>>) -> HashMap<String, String> {
    let mut all = of.env.clone();
    all.extend(own.unwrap_or_default());
    all
}
