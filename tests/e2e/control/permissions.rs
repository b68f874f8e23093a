//! Each call of the four services, by nobody, by an agent, by a person with too small a role, and by one who may.

use arcgate_api::{agent::v1 as agent, pipeline::v1 as pipeline, steprun::v1 as steprun, stream::v1 as stream};
use tonic::Code;

use super::Place;
use crate::harness::{Outcome, run};

/// What calls with empty requests come to, by name; nothing: an answer.
macro_rules! come_to {
    ($client:expr, $expected:expr, $($call:ident: $request:expr),+ $(,)?) => {{
        let mut client = $client;
        let expected: Option<Code> = $expected;
        $(
            let code = client.$call($request).await.err().map(|status| status.code());
            assert_eq!(code, expected, "{}", stringify!($call));
        )+
    }};
}

macro_rules! pipeline_reads {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            get_pipeline: pipeline::GetPipelineRequest::default(),
            list_pipelines: pipeline::ListPipelinesRequest::default(),
            get_pipeline_run: pipeline::GetPipelineRunRequest::default(),
            list_pipeline_runs: pipeline::ListPipelineRunsRequest::default(),
            get_pipeline_spec: pipeline::GetPipelineSpecRequest::default(),
            validate_pipeline_spec: pipeline::ValidatePipelineSpecRequest::default())
    };
}

macro_rules! pipeline_writes {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            create_pipeline: pipeline::CreatePipelineRequest::default(),
            update_pipeline: pipeline::UpdatePipelineRequest::default(),
            trigger_pipeline: pipeline::TriggerPipelineRequest::default(),
            stop_pipeline: pipeline::StopPipelineRequest::default(),
            pause_pipeline: pipeline::PausePipelineRequest::default(),
            resume_pipeline: pipeline::ResumePipelineRequest::default(),
            save_pipeline_spec: pipeline::SavePipelineSpecRequest::default())
    };
}

macro_rules! delete_pipeline {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected, delete_pipeline: pipeline::DeletePipelineRequest::default())
    };
}

macro_rules! step_run_reads {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            get_step_run: steprun::GetStepRunRequest::default(),
            list_step_runs: steprun::ListStepRunsRequest::default(),
            list_step_run_artifacts: steprun::ListStepRunArtifactsRequest::default())
    };
}

macro_rules! step_run_writes {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            create_step_run: steprun::CreateStepRunRequest::default(),
            update_step_run: steprun::UpdateStepRunRequest::default(),
            delete_step_run: steprun::DeleteStepRunRequest::default(),
            cancel_step_run: steprun::CancelStepRunRequest::default(),
            retry_step_run: steprun::RetryStepRunRequest::default())
    };
}

macro_rules! streams {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            stream_step_run_status: stream::StreamStepRunStatusRequest::default(),
            stream_job_status: stream::StreamJobStatusRequest::default(),
            stream_pipeline_status: stream::StreamPipelineStatusRequest::default(),
            stream_agent_status: stream::StreamAgentStatusRequest::default(),
            stream_events: stream::StreamEventsRequest::default())
    };
}

macro_rules! agents_own {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            heartbeat: agent::HeartbeatRequest::default(),
            unregister: agent::UnregisterRequest::default(),
            fetch_step_run: agent::FetchStepRunRequest::default(),
            report_step_run_status: agent::ReportStepRunStatusRequest::default(),
            report_job_run_status: agent::ReportJobRunStatusRequest::default(),
            connect: tokio_stream::iter([agent::ConnectRequest::default()]))
    };
}

macro_rules! of_agents {
    ($client:expr, $expected:expr) => {
        come_to!($client, $expected,
            cancel_step_run: agent::CancelStepRunRequest { step_run_id: "s".into(), ..Default::default() },
            cancel_job_run: agent::CancelJobRunRequest { job_run_id: "j".into(), ..Default::default() },
            update_labels: agent::UpdateLabelsRequest { agent_id: "a".into(), ..Default::default() })
    };
}

#[test]
fn every_call_refuses_whom_it_is_not_for() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let (_, own) = place.agent().await?;
        let denied = Some(Code::PermissionDenied);
        for (token, code) in [("", Some(Code::Unauthenticated)), ("arc_00", Some(Code::Unauthenticated)), (&own, denied)] {
            pipeline_reads!(place.pipelines(token)?, code);
            pipeline_writes!(place.pipelines(token)?, code);
            delete_pipeline!(place.pipelines(token)?, code);
            step_run_reads!(place.step_runs(token)?, code);
            step_run_writes!(place.step_runs(token)?, code);
            streams!(place.streams(token)?, code);
        }
        let unknown = Some(Code::Unauthenticated);
        agents_own!(place.agents("")?, unknown);
        of_agents!(place.agents("")?, unknown);
        come_to!(place.streams("")?, unknown, agent_channel: tokio_stream::iter([stream::AgentChannelRequest::default()]));

        let channel = || tokio_stream::iter([stream::AgentChannelRequest::default()]);
        for token in [&place.viewer, &place.operator, &place.admin] {
            agents_own!(place.agents(token)?, denied);
            come_to!(place.streams(token)?, denied, agent_channel: channel());
            pipeline_reads!(place.pipelines(token)?, None);
            step_run_reads!(place.step_runs(token)?, None);
            streams!(place.streams(token)?, None);
        }
        pipeline_writes!(place.pipelines(&place.viewer)?, denied);
        step_run_writes!(place.step_runs(&place.viewer)?, denied);
        of_agents!(place.agents(&place.viewer)?, denied);
        delete_pipeline!(place.pipelines(&place.operator)?, denied);
        // Bad input is told in the answer, to those who may.
        pipeline_writes!(place.pipelines(&place.operator)?, None);
        step_run_writes!(place.step_runs(&place.operator)?, None);
        delete_pipeline!(place.pipelines(&place.admin)?, None);

        // Whoever registers has no token yet but the one for that.
        let wrong = agent::RegisterRequest { registration_token: "art_00".into(), ..Default::default() };
        come_to!(place.agents("")?, unknown, register: wrong);
        come_to!(place.agents("")?, Some(Code::InvalidArgument), register: agent::RegisterRequest::default());
        // An agent speaks for itself alone.
        let other = agent::HeartbeatRequest { agent_id: "another".into(), ..Default::default() };
        come_to!(place.agents(&own)?, denied, heartbeat: other);
        come_to!(place.agents(&own)?, None, heartbeat: agent::HeartbeatRequest::default());
        Ok(())
    })
}
