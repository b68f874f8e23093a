//! `AgentService.Connect`, in its own words. A command's id is made of what it commands and of the step run's id, so that an
//! acknowledgement says what it is about.

use arcgate_api::agent::v1 as pb;
use pb::connect_request::Payload as Up;
use pb::connect_response::Payload;
use tonic::Status;

use super::channel::{Kind, Said};
use super::{known_exit_code, step_status};
use crate::agents::Down;
use crate::engine::Report;

const DISPATCH: &str = "dispatch-";
const CANCEL: &str = "cancel-";

pub(super) struct Connect;

impl Kind for Connect {
    type Up = pb::ConnectRequest;
    type Down = pb::ConnectResponse;

    fn read(up: pb::ConnectRequest) -> Result<(String, String, Said), Status> {
        let said = match up.payload {
            Some(Up::Heartbeat(heartbeat)) => Said::Alive {
                status: heartbeat.status(),
                running: heartbeat.running_step_runs_count,
                most: heartbeat.max_concurrent_step_runs,
            },
            Some(Up::TaskStatus(task)) => {
                let status = step_status(task.status)?;
                Said::Step(Report {
                    step_run_id: task.step_run_id,
                    status,
                    exit_code: known_exit_code(status, task.exit_code),
                    message: task.error_message,
                    metrics: task.metrics,
                    ..Report::default()
                })
            }
            Some(Up::TaskAck(ack)) if ack.status() == pb::AckStatus::Failed => match ack.command_id.strip_prefix(DISPATCH) {
                Some(id) => Said::Refused { step_run_id: id.to_owned(), message: ack.message },
                // What it is to end goes on until its time is over.
                None => {
                    tracing::warn!(
                        agent = up.agent_id,
                        command = ack.command_id,
                        why = ack.message,
                        "an agent did not do a command"
                    );
                    Said::Nothing
                }
            },
            Some(Up::TaskAck(_)) | None => Said::Nothing,
        };
        Ok((up.agent_id, up.request_id, said))
    }

    fn write(agent_id: &str, down: Down, _: i64) -> Option<pb::ConnectResponse> {
        let (command_id, payload) = match down {
            Down::Work { step: Some(step), .. } => (
                format!("{DISPATCH}{}", step.step_run_id),
                Some(Payload::TaskDispatch(pb::TaskDispatch { step_runs: vec![*step] })),
            ),
            Down::Stop { step_run_id, reason, answers } => {
                let id = if answers.is_empty() { format!("{CANCEL}{step_run_id}") } else { answers };
                (id, Some(Payload::TaskCancel(pb::TaskCancel { step_run_id, reason })))
            }
            Down::Heard { answers, .. } | Down::Yes { answers } if !answers.is_empty() => (answers, None),
            _ => return None,
        };
        Some(pb::ConnectResponse { agent_id: agent_id.to_owned(), command_id, payload })
    }
}
