//! PipelineService. What cannot be done is answered with `success = false` and an error of code, type and message; only a control plane
//! that cannot do anything now, or a caller who may not, is answered with a gRPC error.

use arcgate_api::pipeline::v1 as pb;
use arcgate_api::pipeline::v1::pipeline_service_server::PipelineService;
use tonic::{Request, Response, Status};

use super::{by, may};
use crate::agents::Role;
use crate::engine::{Answer, Command, Engine, EngineError, OfRun, Refusal, Trigger, unexpected};
use crate::pipelines::{Changes, Draft, Paging, Pipelines, Pushed, Repositories, Save, Write, Written};
use crate::spec::{self, Spec};

mod refused;
#[cfg(test)]
mod tests;

use self::refused::{Refused, invalid, not_found};

/// The calls of PipelineService.
#[derive(Debug, Clone)]
pub struct PipelineCalls {
    engine: Engine,
    pipelines: Pipelines,
    repositories: Repositories,
}

type Answered<T> = Result<Response<T>, Status>;

/// What a call comes to: its own answer, or the answer that says why not.
macro_rules! answer {
    ($done:expr, $answer:ident) => {
        match $done {
            Ok(answer) => Ok(Response::new(answer)),
            Err(Refused::Business(error)) => {
                let message = error.message.clone();
                #[allow(clippy::needless_update, reason = "some answers have more fields")]
                let answer = pb::$answer { success: false, message, error: Some(error), ..Default::default() };
                Ok(Response::new(answer))
            }
            Err(Refused::Transport(status)) => Err(status),
        }
    };
}

impl PipelineCalls {
    /// Of an engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let pipelines = Pipelines::new(engine.database().clone());
        let repositories = Repositories::new(engine.clone());
        Self { engine, pipelines, repositories }
    }

    async fn write(&self, write: Write) -> Result<Written, Refused> {
        match self.engine.ask(Command::Pipeline(write)).await? {
            Answer::Pipeline(written) => Ok(written),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn pipeline(&self, pipeline_id: &str) -> Result<pb::PipelineDetail, Refused> {
        if pipeline_id.is_empty() {
            return Err(invalid("pipelineId is required"));
        }
        self.pipelines.get(pipeline_id).await?.ok_or_else(|| not_found(format!("pipeline not found: {pipeline_id}")))
    }

    async fn a_run(&self, run_id: &str) -> Result<pb::PipelineRunDetail, Refused> {
        if run_id.is_empty() {
            return Err(invalid("runId is required"));
        }
        self.pipelines.get_run(run_id).await?.ok_or_else(|| not_found(format!("pipeline run not found: {run_id}")))
    }

    /// Stops, pauses or resumes a run, which must be of the pipeline, if one is named.
    async fn of_run(&self, pipeline_id: &str, run_id: &str, what: OfRun) -> Result<(), Refused> {
        let run = self.a_run(run_id).await?;
        if !pipeline_id.is_empty() && pipeline_id != run.pipeline_id {
            return Err(invalid(format!("run {run_id} is of pipeline {}, not of {pipeline_id}", run.pipeline_id)));
        }
        let verb = match &what {
            OfRun::Pause(_) => "pause",
            OfRun::Resume(_) => "resume",
            OfRun::Cancel(_) => "stop",
        };
        match self.engine.run(run_id, what).await {
            Err(EngineError::Refused(Refusal::Conflict(why))) => {
                Err(EngineError::Refused(Refusal::Conflict(format!("invalid run state for {verb}: {why}"))).into())
            }
            other => Ok(other?),
        }
    }

    async fn create(&self, who: String, asked: pb::CreatePipelineRequest) -> Result<pb::CreatePipelineResponse, Refused> {
        let draft = Draft {
            save_mode: asked.save_mode(),
            project_id: asked.project_id,
            name: asked.name,
            description: asked.description,
            repo_url: asked.repo_url,
            default_branch: asked.default_branch,
            path: asked.pipeline_file_path,
            pr_target_branch: asked.pr_target_branch,
            metadata: asked.metadata,
            created_by: named(asked.created_by, who),
        };
        let Written::Created(pipeline_id) = self.write(Write::Create(Box::new(draft))).await? else {
            return Err(refused::other_answer());
        };
        Ok(pb::CreatePipelineResponse { success: true, message: "pipeline created".into(), pipeline_id, error: None })
    }

    async fn update(&self, asked: pb::UpdatePipelineRequest) -> Result<pb::UpdatePipelineResponse, Refused> {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let changes = Changes {
            pipeline_id: asked.pipeline_id.clone(),
            name: given(&asked.name),
            description: given(&asked.description),
            // As it was shown, it stays as it is.
            repo_url: given(&asked.repo_url).filter(|url| !url.contains("//…@")),
            default_branch: given(&asked.default_branch),
            path: given(&asked.pipeline_file_path),
            save_mode: Some(asked.save_mode()).filter(|mode| *mode != pb::PipelineSaveMode::Unspecified),
            pr_target_branch: given(&asked.pr_target_branch),
            enabled: match asked.is_enabled {
                0 => None,
                1 => Some(true),
                -1 => Some(false),
                other => return Err(invalid(format!("isEnabled is {other}; it must be 1 to enable, -1 to disable, or 0"))),
            },
            metadata: Some(asked.metadata).filter(|metadata| !metadata.is_empty()),
        };
        let written = self.write(Write::Update(Box::new(changes))).await?;
        let message = if matches!(written, Written::Updated(false)) { "no changes" } else { "pipeline updated" };
        Ok(pb::UpdatePipelineResponse { success: true, message: message.into(), error: None })
    }

    async fn trigger(&self, who: String, asked: pb::TriggerPipelineRequest) -> Result<pb::TriggerPipelineResponse, Refused> {
        let pb::TriggerPipelineRequest { pipeline_id, variables, triggered_by, request_id } = asked;
        if pipeline_id.is_empty() {
            return Err(invalid("pipelineId is required"));
        }
        // A request that comes again needs no repository.
        if request_id.is_empty() || !self.pipelines.has_begun(&pipeline_id, &request_id).await? {
            self.repositories.sync(&self.pipeline(&pipeline_id).await?).await?;
        }
        let (kind, triggered_by) = (pb::TriggerType::Manual, named(triggered_by, who));
        let trigger = Trigger { pipeline_id, request_id, variables, triggered_by, kind, ..Trigger::default() };
        let done = self.engine.trigger(trigger).await?;
        let message = if done.repeated { "idempotent request" } else { "pipeline triggered" };
        Ok(pb::TriggerPipelineResponse { success: true, message: message.into(), run_id: done.run_id, error: None })
    }

    async fn spec_of(&self, pipeline_id: &str) -> Result<pb::GetPipelineSpecResponse, Refused> {
        let pipeline = self.pipeline(pipeline_id).await?;
        self.repositories.sync(&pipeline).await?;
        let head = self.pipelines.head(pipeline_id).await?;
        let (spec, format, head) =
            head.ok_or_else(|| not_found(format!("pipeline {pipeline_id} has no definition yet; save one")))?;
        Ok(pb::GetPipelineSpecResponse {
            success: true,
            message: "ok".into(),
            spec: Some(spec),
            format,
            head_commit_sha: head,
            branch: pipeline.default_branch,
            pipeline_file_path: pipeline.pipeline_file_path,
            error: None,
        })
    }

    async fn validate(&self, asked: pb::ValidatePipelineSpecRequest) -> Result<pb::ValidatePipelineSpecResponse, Refused> {
        let spec = match asked.spec {
            Some(spec) => spec,
            None if asked.pipeline_id.is_empty() => return Err(invalid("spec is required")),
            None => self.spec_of(&asked.pipeline_id).await?.spec.unwrap_or_default(),
        };
        let warnings = checked(&spec)?;
        Ok(pb::ValidatePipelineSpecResponse {
            success: true,
            message: "spec is valid".into(),
            jobs_count: i32::try_from(spec.jobs.len()).unwrap_or(i32::MAX),
            warnings,
            error: None,
        })
    }

    async fn save(&self, who: String, asked: pb::SavePipelineSpecRequest) -> Result<pb::SavePipelineSpecResponse, Refused> {
        let format = match asked.format() {
            pb::SpecFormat::Unspecified => pb::SpecFormat::Yaml,
            other => other,
        };
        let (Some(spec), false) = (asked.spec, asked.pipeline_id.is_empty()) else {
            return Err(invalid("pipelineId and spec are required"));
        };
        checked(&spec)?;
        let pipeline = self.pipeline(&asked.pipeline_id).await?;
        let mut save = Save {
            pipeline_id: asked.pipeline_id,
            spec,
            format: i64::from(i32::from(format)),
            expected_head: asked.expected_head_commit_sha,
            message: asked.commit_message,
            request_id: asked.request_id,
            editor: named(asked.editor, who),
            commit: String::new(),
        };
        let repeated = match &*save.request_id {
            "" => None,
            request_id => self.pipelines.has_saved(&save.pipeline_id, request_id).await?,
        };
        // A request that comes again needs no repository.
        if !pipeline.repo_url.is_empty() && repeated.is_none() {
            let Pushed { commit, branch } = self.repositories.push(&pipeline, &save.spec, &save).await?;
            if let Some(pr_branch) = branch {
                return Ok(pb::SavePipelineSpecResponse {
                    success: true,
                    message: "spec saved on a branch of its own; open a pull request for it".into(),
                    commit_sha: commit,
                    branch: pr_branch.clone(),
                    save_mode: pb::PipelineSaveMode::Pr.into(),
                    pr_branch,
                    ..Default::default()
                });
            }
            save.commit = commit;
        }
        let Written::Saved { revision, branch, repeated } = self.write(Write::Save(Box::new(save))).await? else {
            return Err(refused::other_answer());
        };
        Ok(pb::SavePipelineSpecResponse {
            success: true,
            message: if repeated { "idempotent request" } else { "spec saved" }.into(),
            commit_sha: revision,
            branch,
            save_mode: pb::PipelineSaveMode::Direct.into(),
            ..Default::default()
        })
    }
}

/// What is wrong with a definition; else what only looks wrong.
fn checked(spec: &Spec) -> Result<Vec<String>, Refused> {
    let report = spec::validate(spec);
    if report.problems.is_empty() {
        return Ok(report.warnings.into_iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect());
    }
    Err(refused::invalid_spec(&report.problems))
}

/// A pipeline as anybody may see it: a password in its repository's address is left out.
fn shown(pipeline: pb::PipelineDetail) -> pb::PipelineDetail {
    pb::PipelineDetail { repo_url: crate::git::without_password(&pipeline.repo_url), ..pipeline }
}

/// Whom a request names, who may be somebody else for whom a script speaks; else the caller.
fn named(name: String, caller: String) -> String {
    if name.is_empty() { caller } else { name }
}

#[tonic::async_trait]
impl PipelineService for PipelineCalls {
    async fn create_pipeline(&self, asked: Request<pb::CreatePipelineRequest>) -> Answered<pb::CreatePipelineResponse> {
        let who = may(&asked, Role::Operator)?;
        answer!(self.create(who, asked.into_inner()).await, CreatePipelineResponse)
    }

    async fn update_pipeline(&self, asked: Request<pb::UpdatePipelineRequest>) -> Answered<pb::UpdatePipelineResponse> {
        may(&asked, Role::Operator)?;
        answer!(self.update(asked.into_inner()).await, UpdatePipelineResponse)
    }

    async fn get_pipeline(&self, asked: Request<pb::GetPipelineRequest>) -> Answered<pb::GetPipelineResponse> {
        may(&asked, Role::Viewer)?;
        let found = self.pipeline(&asked.into_inner().pipeline_id).await.map(shown);
        let answer =
            |pipeline| pb::GetPipelineResponse { success: true, message: "ok".into(), pipeline: Some(pipeline), error: None };
        answer!(found.map(answer), GetPipelineResponse)
    }

    async fn list_pipelines(&self, asked: Request<pb::ListPipelinesRequest>) -> Answered<pb::ListPipelinesResponse> {
        may(&asked, Role::Viewer)?;
        let asked = asked.into_inner();
        let paging = Paging::new(asked.page, asked.page_size);
        let found = self.pipelines.list(&asked.project_id, &asked.name, asked.status, paging).await;
        let (pipelines, total) = found.map_err(|error| refused::status(&error))?;
        let pipelines = pipelines.into_iter().map(shown).collect();
        Ok(Response::new(pb::ListPipelinesResponse {
            success: true,
            message: "ok".into(),
            pipelines,
            total: i32::try_from(total).unwrap_or(i32::MAX),
            page: paging.page,
            page_size: paging.size,
        }))
    }

    async fn delete_pipeline(&self, asked: Request<pb::DeletePipelineRequest>) -> Answered<pb::DeletePipelineResponse> {
        may(&asked, Role::Admin)?;
        let done = self.write(Write::Delete(asked.into_inner().pipeline_id)).await;
        let answer = |_| pb::DeletePipelineResponse { success: true, message: "pipeline deleted".into(), error: None };
        answer!(done.map(answer), DeletePipelineResponse)
    }

    async fn trigger_pipeline(&self, asked: Request<pb::TriggerPipelineRequest>) -> Answered<pb::TriggerPipelineResponse> {
        let who = may(&asked, Role::Operator)?;
        answer!(self.trigger(who, asked.into_inner()).await, TriggerPipelineResponse)
    }

    async fn stop_pipeline(&self, asked: Request<pb::StopPipelineRequest>) -> Answered<pb::StopPipelineResponse> {
        let who = may(&asked, Role::Operator)?;
        let asked = asked.into_inner();
        let done = self.of_run(&asked.pipeline_id, &asked.run_id, OfRun::Cancel(by(&who, &asked.reason))).await;
        let answer = |()| pb::StopPipelineResponse { success: true, message: "pipeline stopped".into(), error: None };
        answer!(done.map(answer), StopPipelineResponse)
    }

    async fn pause_pipeline(&self, asked: Request<pb::PausePipelineRequest>) -> Answered<pb::PausePipelineResponse> {
        let who = may(&asked, Role::Operator)?;
        let asked = asked.into_inner();
        let what = OfRun::Pause(by(&named(asked.operator, who), &asked.reason));
        let done = self.of_run(&asked.pipeline_id, &asked.run_id, what).await;
        let answer = |()| pb::PausePipelineResponse { success: true, message: "pipeline paused".into(), error: None };
        answer!(done.map(answer), PausePipelineResponse)
    }

    async fn resume_pipeline(&self, asked: Request<pb::ResumePipelineRequest>) -> Answered<pb::ResumePipelineResponse> {
        let who = may(&asked, Role::Operator)?;
        let asked = asked.into_inner();
        let what = OfRun::Resume(by(&named(asked.operator, who), &asked.reason));
        let done = self.of_run(&asked.pipeline_id, &asked.run_id, what).await;
        let answer = |()| pb::ResumePipelineResponse { success: true, message: "pipeline resumed".into(), error: None };
        answer!(done.map(answer), ResumePipelineResponse)
    }

    async fn get_pipeline_run(&self, asked: Request<pb::GetPipelineRunRequest>) -> Answered<pb::GetPipelineRunResponse> {
        may(&asked, Role::Viewer)?;
        let found = self.a_run(&asked.into_inner().run_id).await;
        let answer = |run| pb::GetPipelineRunResponse { success: true, message: "ok".into(), run: Some(run), error: None };
        answer!(found.map(answer), GetPipelineRunResponse)
    }

    async fn list_pipeline_runs(&self, asked: Request<pb::ListPipelineRunsRequest>) -> Answered<pb::ListPipelineRunsResponse> {
        may(&asked, Role::Viewer)?;
        let asked = asked.into_inner();
        let paging = Paging::new(asked.page, asked.page_size);
        let found = self.pipelines.list_runs(&asked.pipeline_id, asked.status, paging).await;
        let (runs, total) = found.map_err(|error| refused::status(&error))?;
        Ok(Response::new(pb::ListPipelineRunsResponse {
            success: true,
            message: "ok".into(),
            runs,
            total: i32::try_from(total).unwrap_or(i32::MAX),
            page: paging.page,
            page_size: paging.size,
        }))
    }

    async fn get_pipeline_spec(&self, asked: Request<pb::GetPipelineSpecRequest>) -> Answered<pb::GetPipelineSpecResponse> {
        may(&asked, Role::Viewer)?;
        answer!(self.spec_of(&asked.into_inner().pipeline_id).await, GetPipelineSpecResponse)
    }

    async fn validate_pipeline_spec(
        &self,
        asked: Request<pb::ValidatePipelineSpecRequest>,
    ) -> Answered<pb::ValidatePipelineSpecResponse> {
        may(&asked, Role::Viewer)?;
        answer!(self.validate(asked.into_inner()).await, ValidatePipelineSpecResponse)
    }

    async fn save_pipeline_spec(&self, asked: Request<pb::SavePipelineSpecRequest>) -> Answered<pb::SavePipelineSpecResponse> {
        let who = may(&asked, Role::Operator)?;
        answer!(self.save(who, asked.into_inner()).await, SavePipelineSpecResponse)
    }
}
