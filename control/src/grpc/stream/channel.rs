//! `StreamService.AgentChannel`, in its own words.

use arcgate_api::agent::v1::AgentStatus;
use arcgate_api::stream::v1 as pb;
use pb::agent_channel_request::Payload as Up;
use pb::agent_channel_response::Payload;
use tonic::Status;

use super::super::agent::{Kind, Said, known_exit_code, step_status};
use crate::agents::Down;
use crate::engine::Report;

pub(super) struct AgentChannel;

impl Kind for AgentChannel {
    type Up = pb::AgentChannelRequest;
    type Down = pb::AgentChannelResponse;

    fn read(up: pb::AgentChannelRequest) -> Result<(String, String, Said), Status> {
        let said = match up.payload {
            Some(Up::Heartbeat(heartbeat)) => Said::Alive {
                status: AgentStatus::try_from(heartbeat.status).unwrap_or_default(),
                running: heartbeat.running_step_runs_count,
                most: heartbeat.max_concurrent_step_runs,
            },
            Some(Up::StepRunStatus(update)) => {
                let status = step_status(update.status)?;
                Said::Step(Report {
                    step_run_id: update.step_run_id,
                    status,
                    exit_code: known_exit_code(status, update.exit_code),
                    message: update.error_message,
                    ..Report::default()
                })
            }
            Some(Up::StepRunFetch(fetch)) => Said::Fetch { most: fetch.max_step_runs },
            Some(Up::Metrics(_)) | None => Said::Nothing,
        };
        Ok((up.agent_id, up.request_id, said))
    }

    fn write(agent_id: &str, down: Down, heartbeat_interval: i64) -> Option<pb::AgentChannelResponse> {
        let (response_id, payload) = match down {
            Down::Work { step, answers } => {
                let step_runs = step.map(|step| *step).into_iter().collect();
                (answers, Some(Payload::StepRunAssignment(pb::StepRunAssignment { step_runs })))
            }
            Down::Stop { step_run_id, reason, answers } => {
                (answers, Some(Payload::StepRunCancelCommand(pb::StepRunCancelCommand { step_run_id, reason })))
            }
            Down::Config { most } => {
                let max_concurrent_step_runs = most.map_or(0, |most| i32::try_from(most).unwrap_or(i32::MAX));
                let config = pb::ConfigUpdate { heartbeat_interval, max_concurrent_step_runs, ..Default::default() };
                (String::new(), Some(Payload::ConfigUpdate(config)))
            }
            Down::Heard { answers, now } => {
                (answers, Some(Payload::HeartbeatAck(pb::HeartbeatAck { server_time: now / 1000, success: true })))
            }
            Down::Yes { answers } if answers.is_empty() => return None,
            Down::Yes { answers } => (answers, None),
        };
        Some(pb::AgentChannelResponse { agent_id: agent_id.to_owned(), response_id, payload })
    }
}
