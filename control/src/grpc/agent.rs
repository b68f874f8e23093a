//! AgentService. What it refuses is told by gRPC statuses, as existing agents expect; two refusals are answers with `success = false`,
//! since they are no mistake of the caller: a step run that is over and must not be started, and one that is over and cannot be ended.
//!
//! **Before an agent starts a step run it reports that it runs, and starts it only after the yes.** Over unary calls the yes is
//! `success = true`; over a channel see `channel`.

use arcgate_api::agent::v1 as pb;
use arcgate_api::agent::v1::agent_service_server::AgentService;
use arcgate_api::steprun::v1::StepRunStatus;
use tonic::{Request, Response, Status, Streaming};

use super::refused::status;
use crate::agents::{Agents, Caller, JobReport, Role, Sign};
use crate::engine::{EngineError, OfJob, Refusal, Report};

mod channel;
mod connect;
#[cfg(test)]
mod tests;

pub(super) use self::channel::{Answers, Kind, Said, open};

/// The calls of AgentService.
#[derive(Debug, Clone)]
pub struct AgentCalls {
    agents: Agents,
}

type Answered<T> = Result<Response<T>, Status>;

impl AgentCalls {
    /// Of these agents.
    #[must_use]
    pub fn new(agents: Agents) -> Self {
        Self { agents }
    }

    /// The agent that a request is about. Who does not show a token does not speak for an agent that has shown its own.
    fn speaker(&self, extensions: &tonic::Extensions, named: &str) -> Result<String, Status> {
        let caller = Caller::of(extensions)?;
        let agent_id = caller.as_agent(named)?;
        match caller {
            Caller::Agent(_) => self.agents.note_token_shown(&agent_id),
            Caller::StockAgent if self.agents.has_shown_token(&agent_id) => {
                return Err(Status::unauthenticated(format!("agent {agent_id} has a token: send it as `authorization`")));
            }
            _ => {}
        }
        Ok(agent_id)
    }

    /// Ends a step run for whoever may: a person who may run things, or the agent that has it.
    async fn cancel_step(&self, caller: &Caller, step_run_id: &str, agent_id: &str, reason: &str) -> Result<(), Status> {
        if step_run_id.is_empty() {
            return Err(Status::invalid_argument("step_run_id is required"));
        }
        // Whoever may not is told nothing of what there is.
        let reason = by(caller, reason)?;
        let place = self.agents.step_run(step_run_id).await.map_err(|error| super::refused::of_database(&error))?;
        let place = place.ok_or_else(|| Status::not_found(format!("there is no step run {step_run_id}")))?;
        if let Caller::Agent(own) = caller
            && place.agent_id != *own
        {
            return Err(Status::permission_denied(format!("step run {step_run_id} was not handed to agent {own}")));
        }
        if !agent_id.is_empty() && !place.agent_id.is_empty() && agent_id != place.agent_id {
            let why = format!("step run {step_run_id} is agent {}'s, not agent {agent_id}'s", place.agent_id);
            return Err(Status::invalid_argument(why));
        }
        self.agents.engine().cancel_step(step_run_id, reason).await.map_err(status)
    }
}

/// Who wants something and why.
fn by(caller: &Caller, reason: &str) -> Result<String, Status> {
    let who = match caller {
        Caller::Agent(id) => format!("agent {id}"),
        other => other.as_user(Role::Operator)?.to_owned(),
    };
    Ok(if reason.is_empty() { format!("by {who}") } else { format!("by {who}: {reason}") })
}

/// A status as agents send it.
pub(super) fn step_status(number: i32) -> Result<StepRunStatus, Status> {
    let known = StepRunStatus::try_from(number).ok().filter(|status| *status != StepRunStatus::Unspecified);
    known.ok_or_else(|| Status::invalid_argument(format!("status is {number}; it must be one of StepRunStatus, from 1 to 8")))
}

/// An exit code, if there is one to know.
pub(super) fn known_exit_code(status: StepRunStatus, code: i32) -> Option<i32> {
    Some(code).filter(|code| *code != -1 && crate::engine::is_over(status))
}

/// `success = false` for what is over; everything else is a status.
fn over(done: Result<(), Status>) -> Result<Option<String>, Status> {
    match done {
        Ok(()) => Ok(None),
        Err(why) if why.code() == tonic::Code::FailedPrecondition => Ok(Some(why.message().to_owned())),
        Err(why) => Err(why),
    }
}

#[tonic::async_trait]
impl AgentService for AgentCalls {
    async fn heartbeat(&self, asked: Request<pb::HeartbeatRequest>) -> Answered<pb::HeartbeatResponse> {
        let agent_id = self.speaker(asked.extensions(), &asked.get_ref().agent_id)?;
        let asked = asked.into_inner();
        let status_now = asked.status();
        let running = Some(i64::from(asked.running_step_runs_count.max(0)));
        let sign = Sign { agent_id, name: asked.agent_name, status: status_now, running, ..Sign::default() };
        let (_, now) = self.agents.alive(sign).await.map_err(status)?;
        Ok(Response::new(pb::HeartbeatResponse { success: true, message: "pong".into(), timestamp: now / 1000 }))
    }

    async fn register(&self, asked: Request<pb::RegisterRequest>) -> Answered<pb::RegisterResponse> {
        let caller = asked.extensions().get::<Caller>().cloned();
        let done = self.agents.register(caller.as_ref(), asked.into_inner()).await.map_err(status)?;
        Ok(Response::new(pb::RegisterResponse {
            success: true,
            message: "registration successful".into(),
            agent_id: done.row.agent_id,
            heartbeat_interval: self.agents.settings().heartbeat_interval,
            labels: done.row.labels,
            storage: None,
            auth_token: done.token.unwrap_or_default(),
            pending_approval: !done.row.enabled,
        }))
    }

    async fn unregister(&self, asked: Request<pb::UnregisterRequest>) -> Answered<pb::UnregisterResponse> {
        let agent_id = self.speaker(asked.extensions(), &asked.get_ref().agent_id)?;
        // Who is not here is gone: existing agents break if they are told otherwise.
        self.agents.unregister(&agent_id, &asked.get_ref().reason).await.map_err(status)?;
        Ok(Response::new(pb::UnregisterResponse { success: true, message: "unregistered".into() }))
    }

    async fn fetch_step_run(&self, asked: Request<pb::FetchStepRunRequest>) -> Answered<pb::FetchStepRunResponse> {
        let agent_id = Caller::of(asked.extensions())?.as_proven_agent(&asked.get_ref().agent_id)?;
        self.agents.note_token_shown(&agent_id);
        let most = usize::try_from(asked.get_ref().max_step_runs.max(1)).unwrap_or(1);
        let (step_runs, row) = self.agents.fetch(&agent_id, most).await.map_err(status)?;
        let message = if row.enabled { "ok" } else { "the agent waits for somebody's approval" };
        Ok(Response::new(pb::FetchStepRunResponse { success: true, message: message.into(), step_runs }))
    }

    async fn report_step_run_status(
        &self,
        asked: Request<pb::ReportStepRunStatusRequest>,
    ) -> Answered<pb::ReportStepRunStatusResponse> {
        let agent_id = self.speaker(asked.extensions(), &asked.get_ref().agent_id)?;
        let asked = asked.into_inner();
        if asked.step_run_id.is_empty() {
            return Err(Status::invalid_argument("step_run_id is required"));
        }
        let status_now = step_status(asked.status)?;
        let report = Report {
            step_run_id: asked.step_run_id,
            agent_id,
            status: status_now,
            exit_code: known_exit_code(status_now, asked.exit_code),
            message: asked.error_message,
            metrics: asked.metrics,
        };
        let (success, message) = match self.agents.report(report).await {
            Ok(_) => (true, "ok".into()),
            Err(EngineError::Refused(Refusal::Conflict(why))) => (false, why),
            Err(why) => return Err(status(why)),
        };
        Ok(Response::new(pb::ReportStepRunStatusResponse { success, message }))
    }

    async fn report_job_run_status(
        &self,
        asked: Request<pb::ReportJobRunStatusRequest>,
    ) -> Answered<pb::ReportJobRunStatusResponse> {
        // Existing agents never send a token with this call.
        let agent_id = Caller::of(asked.extensions())?.as_agent(&asked.get_ref().agent_id)?;
        let asked = asked.into_inner();
        if asked.job_run_id.is_empty() {
            return Err(Status::invalid_argument("job_run_id is required"));
        }
        let report = JobReport {
            status: step_status(asked.status)?,
            job_run_id: asked.job_run_id,
            agent_id,
            message: asked.error_message,
            artifacts: asked.artifact_uris.into_iter().collect(),
        };
        self.agents.report_job(report).await.map_err(status)?;
        Ok(Response::new(pb::ReportJobRunStatusResponse { success: true, message: "ok".into() }))
    }

    async fn cancel_step_run(&self, asked: Request<pb::CancelStepRunRequest>) -> Answered<pb::CancelStepRunResponse> {
        let caller = Caller::of(asked.extensions())?;
        let pb::CancelStepRunRequest { agent_id, step_run_id, reason } = asked.get_ref();
        // An agent names itself, which says nothing of whose step run it is.
        let named = if matches!(caller, Caller::Agent(_)) { "" } else { agent_id };
        let refused = over(self.cancel_step(caller, step_run_id, named, reason).await)?;
        let success = refused.is_none();
        Ok(Response::new(pb::CancelStepRunResponse { success, message: refused.unwrap_or_else(|| "cancelled".into()) }))
    }

    async fn cancel_job_run(&self, asked: Request<pb::CancelJobRunRequest>) -> Answered<pb::CancelJobRunResponse> {
        let caller = Caller::of(asked.extensions())?;
        caller.as_user(Role::Operator)?;
        let pb::CancelJobRunRequest { job_run_id, reason } = asked.get_ref();
        if job_run_id.is_empty() {
            return Err(Status::invalid_argument("job_run_id is required"));
        }
        let place = self.agents.job_run(job_run_id).await.map_err(|error| super::refused::of_database(&error))?;
        let (run_id, job) = place.ok_or_else(|| Status::not_found(format!("there is no job run {job_run_id}")))?;
        let cancel = OfJob::Cancel(by(caller, reason)?);
        let refused = over(self.agents.engine().job(&run_id, &job, cancel).await.map_err(status))?;
        let success = refused.is_none();
        Ok(Response::new(pb::CancelJobRunResponse { success, message: refused.unwrap_or_else(|| "cancelled".into()) }))
    }

    async fn update_labels(&self, asked: Request<pb::UpdateLabelsRequest>) -> Answered<pb::UpdateLabelsResponse> {
        let caller = Caller::of(asked.extensions())?;
        let pb::UpdateLabelsRequest { agent_id, labels, merge } = asked.get_ref().clone();
        // Whoever runs the system may sort agents too.
        let agent_id = match caller {
            Caller::User { .. } | Caller::Anyone => {
                caller.as_user(Role::Admin)?;
                if agent_id.is_empty() {
                    return Err(Status::invalid_argument("agent_id is required"));
                }
                agent_id
            }
            agent => agent.as_proven_agent(&agent_id)?,
        };
        let row = self.agents.update_labels(&agent_id, labels, merge).await.map_err(status)?;
        Ok(Response::new(pb::UpdateLabelsResponse { success: true, message: "updated".into(), labels: row.labels }))
    }

    type ConnectStream = Answers<pb::ConnectResponse>;

    async fn connect(&self, asked: Request<Streaming<pb::ConnectRequest>>) -> Answered<Self::ConnectStream> {
        channel::open::<connect::Connect>(&self.agents, asked).await
    }
}
