//! Each call doing its work over the real binary, and what it answers to what cannot be done: pipelines and runs, step runs, agents over
//! unary calls and over both channels, and the streams of what happens.

use arcgate_api::agent::v1 as agent;
use arcgate_api::pipeline::v1 as pb;
use arcgate_api::steprun::v1 as step;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::stream::v1 as stream;
use arcgate_load::control::job;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Place;
use crate::harness::{Outcome, SOON, eventually, run, within};

/// The answer to a call that is done.
macro_rules! done {
    ($client:expr, $call:ident, $request:expr) => {{
        let answer = $client.$call($request).await?.into_inner();
        assert!(answer.success, "{}: {answer:?}", stringify!($call));
        answer
    }};
}

/// The code of a call that cannot be done.
macro_rules! refused {
    ($client:expr, $call:ident, $request:expr) => {{
        let answer = $client.$call($request).await?.into_inner();
        assert!(!answer.success, "{}: {answer:?}", stringify!($call));
        answer.error.map(|error| error.code)
    }};
}

fn spec(jobs: &[&str]) -> Option<pb::Spec> {
    let jobs = jobs.iter().map(|name| job(name)).collect();
    Some(pb::Spec { namespace: "work".into(), jobs, ..Default::default() })
}

/// A pipeline of these jobs.
async fn pipeline(place: &Place, jobs: &[&str]) -> Outcome<String> {
    let mut client = place.pipelines(&place.operator)?;
    let draft = pb::CreatePipelineRequest {
        project_id: "p".into(),
        name: "work".into(),
        pipeline_file_path: "ci.yaml".into(),
        ..Default::default()
    };
    let id = done!(client, create_pipeline, draft).pipeline_id;
    done!(
        client,
        save_pipeline_spec,
        pb::SavePipelineSpecRequest { pipeline_id: id.clone(), spec: spec(jobs), ..Default::default() }
    );
    Ok(id)
}

async fn trigger(place: &Place, pipeline_id: &str) -> Outcome<String> {
    let asked = pb::TriggerPipelineRequest { pipeline_id: pipeline_id.into(), ..Default::default() };
    Ok(done!(place.pipelines(&place.operator)?, trigger_pipeline, asked).run_id)
}

async fn run_of(place: &Place, run_id: &str) -> Outcome<pb::PipelineRunDetail> {
    let asked = pb::GetPipelineRunRequest { run_id: run_id.into() };
    let found = done!(place.pipelines(&place.viewer)?, get_pipeline_run, asked).run;
    Ok(found.ok_or("no run")?)
}

#[test]
fn a_pipelines_life() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let (mut viewer, mut operator, mut admin) =
            (place.pipelines(&place.viewer)?, place.pipelines(&place.operator)?, place.pipelines(&place.admin)?);
        let id = pipeline(&place, &["a", "b"]).await?;
        let get = || pb::GetPipelineRequest { pipeline_id: id.clone() };
        assert_eq!(done!(viewer, get_pipeline, get()).pipeline.ok_or("no pipeline")?.created_by, "the operator");
        assert_eq!(refused!(viewer, get_pipeline, pb::GetPipelineRequest { pipeline_id: "none".into() }), Some(404));
        assert_eq!(done!(viewer, list_pipelines, pb::ListPipelinesRequest::default()).total, 1);
        let change = pb::UpdatePipelineRequest { pipeline_id: id.clone(), name: "other".into(), ..Default::default() };
        done!(operator, update_pipeline, change);
        assert_eq!(done!(viewer, get_pipeline, get()).pipeline.ok_or("no pipeline")?.name, "other");

        let of = || pb::GetPipelineSpecRequest { pipeline_id: id.clone() };
        let head = done!(viewer, get_pipeline_spec, of()).head_commit_sha;
        let save = |expected: &str| pb::SavePipelineSpecRequest {
            pipeline_id: id.clone(),
            spec: spec(&["a"]),
            expected_head_commit_sha: expected.into(),
            ..Default::default()
        };
        assert_ne!(done!(operator, save_pipeline_spec, save(&head)).commit_sha, head);
        assert_eq!(refused!(operator, save_pipeline_spec, save(&head)), Some(409));
        let check = |jobs: &[&str]| pb::ValidatePipelineSpecRequest { spec: spec(jobs), ..Default::default() };
        assert_eq!(done!(viewer, validate_pipeline_spec, check(&["a", "b", "c"])).jobs_count, 3);
        assert_eq!(refused!(viewer, validate_pipeline_spec, check(&["a", "a"])), Some(400));

        let run_id = trigger(&place, &id).await?;
        let listed = pb::ListPipelineRunsRequest { pipeline_id: id.clone(), ..Default::default() };
        assert_eq!(done!(viewer, list_pipeline_runs, listed).runs[0].run_id, run_id);
        let (pipeline_id, reason, operator_name) = (id.clone(), "why".to_owned(), String::new());
        let pause = || pb::PausePipelineRequest {
            pipeline_id: pipeline_id.clone(),
            run_id: run_id.clone(),
            reason: reason.clone(),
            operator: operator_name.clone(),
        };
        done!(operator, pause_pipeline, pause());
        assert_eq!(run_of(&place, &run_id).await?.status(), pb::PipelineStatus::Paused);
        assert_eq!(refused!(operator, pause_pipeline, pause()), Some(409));
        let resume = pb::ResumePipelineRequest { pipeline_id: id.clone(), run_id: run_id.clone(), ..Default::default() };
        done!(operator, resume_pipeline, resume);
        let stop = || pb::StopPipelineRequest { pipeline_id: id.clone(), run_id: run_id.clone(), reason: "enough".into() };
        done!(operator, stop_pipeline, stop());
        assert_eq!(run_of(&place, &run_id).await?.status(), pb::PipelineStatus::Cancelled);
        assert_eq!(refused!(operator, stop_pipeline, stop()), Some(409));

        done!(admin, delete_pipeline, pb::DeletePipelineRequest { pipeline_id: id.clone() });
        assert_eq!(refused!(viewer, get_pipeline, get()), Some(404));
        Ok(())
    })
}

#[test]
fn a_step_runs_life() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let (mut viewer, mut operator) = (place.step_runs(&place.viewer)?, place.step_runs(&place.operator)?);
        let id = pipeline(&place, &["a"]).await?;
        let create = |job_id: String| step::CreateStepRunRequest {
            pipeline_id: id.clone(),
            job_id,
            step_name: "alone".into(),
            uses: "shell".into(),
            ..Default::default()
        };
        let made = done!(operator, create_step_run, create(format!("{id}-own"))).step_run_id;
        assert_eq!(refused!(operator, create_step_run, create("elsewhere".into())), Some(400));
        let get = |id: &str| step::GetStepRunRequest { step_run_id: id.into() };
        assert_eq!(done!(viewer, get_step_run, get(&made)).step_run.ok_or("no step run")?.step_name, "alone");
        assert_eq!(refused!(viewer, get_step_run, get("none")), Some(404));
        let listed = step::ListStepRunsRequest { pipeline_id: id.clone(), ..Default::default() };
        assert_eq!(done!(viewer, list_step_runs, listed).total, 1);
        let update = step::UpdateStepRunRequest {
            step_run_id: made.clone(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            timeout: "5m".into(),
        };
        done!(operator, update_step_run, update);
        let found = done!(viewer, get_step_run, get(&made)).step_run.ok_or("no step run")?;
        assert_eq!((&*found.env["A"], &*found.timeout), ("1", "5m"));

        let executor = place.agent().await?;
        let given = place.given(&executor).await?;
        assert_eq!((&given.step_run_id, &*given.env["A"]), (&made, "1"));
        place.report(&executor, &made, StepRunStatus::Running).await?;
        place.report(&executor, &made, StepRunStatus::Failed).await?;
        let again = step::RetryStepRunRequest { step_run_id: made.clone() };
        let new = done!(operator, retry_step_run, again).new_step_run_id;
        assert_ne!(new, made);
        let cancel = || step::CancelStepRunRequest { step_run_id: new.clone(), reason: "enough".into() };
        done!(operator, cancel_step_run, cancel());
        assert_eq!(done!(viewer, get_step_run, get(&new)).step_run.ok_or("no step run")?.status(), StepRunStatus::Cancelled);
        assert_eq!(refused!(operator, cancel_step_run, cancel()), Some(409));
        let artifacts = |id: &str| step::ListStepRunArtifactsRequest { step_run_id: id.into() };
        assert!(done!(viewer, list_step_run_artifacts, artifacts(&made)).artifacts.is_empty());
        assert_eq!(refused!(viewer, list_step_run_artifacts, artifacts("none")), Some(404));
        // An attempt that another one followed can be removed, the last one is what its run is made of.
        let delete = |id: &str| step::DeleteStepRunRequest { step_run_id: id.into() };
        assert_eq!(refused!(operator, delete_step_run, delete(&new)), Some(409));
        done!(operator, delete_step_run, delete(&made));
        assert_eq!(refused!(operator, delete_step_run, delete(&made)), Some(404));
        Ok(())
    })
}

#[test]
fn agents_report_and_are_told_to_stop_over_unary_calls() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let id = pipeline(&place, &["a", "b"]).await?;
        let run_id = trigger(&place, &id).await?;
        let executor = place.agent().await?;
        let (own, token) = executor.clone();
        let mut agents = place.agents(&token)?;
        done!(agents, heartbeat, agent::HeartbeatRequest { agent_id: own.clone(), ..Default::default() });
        let labels = agent::UpdateLabelsRequest {
            agent_id: own.clone(),
            labels: [("zone".to_owned(), "z".to_owned())].into(),
            merge: true,
        };
        assert_eq!(done!(agents, update_labels, labels).labels.len(), 2);

        let first = place.given(&executor).await?;
        place.report(&executor, &first.step_run_id, StepRunStatus::Running).await?;
        let cancel =
            agent::CancelStepRunRequest { agent_id: own.clone(), step_run_id: first.step_run_id.clone(), reason: "mine".into() };
        done!(agents, cancel_step_run, cancel);
        // What it had started it ends itself.
        place.report(&executor, &first.step_run_id, StepRunStatus::Cancelled).await?;
        let second = place.given(&executor).await?;
        let report = agent::ReportJobRunStatusRequest {
            agent_id: own.clone(),
            job_run_id: second.workspace.clone(),
            status: 3,
            artifact_uris: [("out".to_owned(), "file:///out".to_owned())].into(),
            ..Default::default()
        };
        done!(agents, report_job_run_status, report);
        let whole = agent::CancelJobRunRequest { job_run_id: second.workspace, reason: "enough".into() };
        done!(place.agents(&place.operator)?, cancel_job_run, whole);
        let ended = async || {
            let run = run_of(&place, &run_id).await?;
            Ok(matches!(run.status(), pb::PipelineStatus::Cancelled | pb::PipelineStatus::Failed).then_some(()))
        };
        eventually(SOON, "the run's end", ended).await?;
        done!(agents, unregister, agent::UnregisterRequest { agent_id: own, ..Default::default() });
        Ok(())
    })
}

/// What an agent hears on a channel, whichever of the two.
#[derive(Debug, PartialEq)]
enum Heard {
    Given(String),
    Stop(String),
    Yes(String),
    Else,
}

#[test]
fn agents_are_given_work_and_told_to_stop_it_over_connect() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let (_, token) = place.agent().await?;
        let (say, said) = mpsc::channel(16);
        let mut heard = place.agents(&token)?.connect(ReceiverStream::new(said)).await?.into_inner();
        let message = |request_id: &str, payload| agent::ConnectRequest {
            agent_id: String::new(),
            request_id: request_id.into(),
            payload: Some(payload),
        };
        let beat = agent::ConnectHeartbeat { max_concurrent_step_runs: 2, ..Default::default() };
        say.send(message("", agent::connect_request::Payload::Heartbeat(beat))).await?;
        let id = pipeline(&place, &["a"]).await?;
        trigger(&place, &id).await?;
        let mut next = async || -> Outcome<Heard> {
            let told =
                within(SOON, "a command", async { heard.message().await?.ok_or_else(|| "the channel ended".into()) }).await?;
            Ok(match told.payload {
                Some(agent::connect_response::Payload::TaskDispatch(work)) => Heard::Given(work.step_runs[0].step_run_id.clone()),
                Some(agent::connect_response::Payload::TaskCancel(stop)) => Heard::Stop(stop.step_run_id),
                None => Heard::Yes(told.command_id),
            })
        };
        let Heard::Given(step_run) = next().await? else { return Err("work comes first".into()) };
        let status = |status: StepRunStatus| {
            agent::connect_request::Payload::TaskStatus(agent::TaskStatus {
                step_run_id: step_run.clone(),
                status: status.into(),
                ..Default::default()
            })
        };
        say.send(message("r1", status(StepRunStatus::Running))).await?;
        assert_eq!(next().await?, Heard::Yes("r1".into()));
        let cancel = step::CancelStepRunRequest { step_run_id: step_run.clone(), reason: "enough".into() };
        done!(place.step_runs(&place.operator)?, cancel_step_run, cancel);
        assert_eq!(next().await?, Heard::Stop(step_run.clone()));
        say.send(message("r2", status(StepRunStatus::Cancelled))).await?;
        assert_eq!(next().await?, Heard::Yes("r2".into()));
        Ok(())
    })
}

#[test]
fn agents_are_given_work_and_told_to_stop_it_over_agent_channel() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let (_, token) = place.agent().await?;
        let (say, said) = mpsc::channel(16);
        let mut heard = place.streams(&token)?.agent_channel(ReceiverStream::new(said)).await?.into_inner();
        let message = |request_id: &str, payload| stream::AgentChannelRequest {
            agent_id: String::new(),
            request_id: request_id.into(),
            payload: Some(payload),
        };
        let beat = stream::HeartbeatData { max_concurrent_step_runs: 2, ..Default::default() };
        say.send(message("", stream::agent_channel_request::Payload::Heartbeat(beat))).await?;
        let id = pipeline(&place, &["a"]).await?;
        trigger(&place, &id).await?;
        let mut next = async || -> Outcome<Heard> {
            loop {
                let told =
                    within(SOON, "a command", async { heard.message().await?.ok_or_else(|| "the channel ended".into()) }).await?;
                let heard = match told.payload {
                    Some(stream::agent_channel_response::Payload::StepRunAssignment(work)) => {
                        Heard::Given(work.step_runs[0].step_run_id.clone())
                    }
                    Some(stream::agent_channel_response::Payload::StepRunCancelCommand(stop)) => Heard::Stop(stop.step_run_id),
                    Some(_) => Heard::Else,
                    None => Heard::Yes(told.response_id),
                };
                if heard != Heard::Else {
                    return Ok(heard);
                }
            }
        };
        let Heard::Given(step_run) = next().await? else { return Err("work comes first".into()) };
        let status = |status: StepRunStatus| {
            stream::agent_channel_request::Payload::StepRunStatus(stream::StepRunStatusUpdate {
                step_run_id: step_run.clone(),
                status: status.into(),
                ..Default::default()
            })
        };
        say.send(message("r1", status(StepRunStatus::Running))).await?;
        assert_eq!(next().await?, Heard::Yes("r1".into()));
        let cancel = step::CancelStepRunRequest { step_run_id: step_run.clone(), reason: "enough".into() };
        done!(place.step_runs(&place.operator)?, cancel_step_run, cancel);
        assert_eq!(next().await?, Heard::Stop(step_run.clone()));
        say.send(message("r2", status(StepRunStatus::Cancelled))).await?;
        assert_eq!(next().await?, Heard::Yes("r2".into()));
        Ok(())
    })
}

#[test]
fn streams_begin_with_how_it_is_show_each_change_and_end_with_what_they_watch() -> Outcome<()> {
    run(120, async {
        let place = Place::start().await?;
        let id = pipeline(&place, &["a"]).await?;
        let run_id = trigger(&place, &id).await?;
        let mut client = place.streams(&place.viewer)?;
        let of_run = stream::StreamPipelineStatusRequest { pipeline_run_ids: vec![run_id.clone()], ..Default::default() };
        let mut runs = client.stream_pipeline_status(of_run).await?.into_inner();
        let of_jobs = stream::StreamJobStatusRequest { pipeline_run_id: run_id.clone(), ..Default::default() };
        let mut jobs = client.stream_job_status(of_jobs).await?.into_inner();
        let of_steps = stream::StreamStepRunStatusRequest { pipeline_run_id: run_id.clone(), ..Default::default() };
        let mut steps = client.stream_step_run_status(of_steps).await?.into_inner();
        let mut events = client.stream_events(stream::StreamEventsRequest::default()).await?.into_inner();
        let mut agents = client.stream_agent_status(stream::StreamAgentStatusRequest::default()).await?.into_inner();

        let executor = place.agent().await?;
        let given = place.given(&executor).await?;
        place.report(&executor, &given.step_run_id, StepRunStatus::Running).await?;
        place.report(&executor, &given.step_run_id, StepRunStatus::Success).await?;

        within(SOON, "the streams' ends", async {
            let (mut of_run, mut of_steps, mut of_jobs) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(told) = runs.message().await? {
                of_run.push((told.previous_status(), told.status()));
            }
            while let Some(told) = steps.message().await? {
                of_steps.push((told.previous_status(), told.status()));
            }
            while let Some(told) = jobs.message().await? {
                of_jobs.push(told.status());
            }
            use StepRunStatus as S;
            use pb::PipelineStatus as P;
            assert_eq!(of_run.last(), Some(&(P::Running, P::Success)), "{of_run:?}");
            assert_eq!(of_steps[of_steps.len() - 2..], [(S::Queued, S::Running), (S::Running, S::Success)], "{of_steps:?}");
            assert_eq!(of_jobs.last(), Some(&P::Success), "{of_jobs:?}");
            while events.message().await?.ok_or("the events ended")?.event_type() != stream::EventType::PipelineCompleted {}
            while agents.message().await?.ok_or("the agents ended")?.agent_id != executor.0 {}
            Ok(())
        })
        .await
    })
}
