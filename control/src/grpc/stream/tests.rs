//! Streams over a real server: how things are, then each change, then the end.

use std::time::Duration;

use arcgate_api::agent::v1 as agent;
use arcgate_api::pipeline::v1::PipelineStatus as P;
use arcgate_api::steprun::v1::StepRunStatus as S;
use futures_util::StreamExt as _;
use tonic::Code;

use super::super::testing::Place;
use super::*;
use crate::engine::tests::{DIAMOND, ONE};

/// All of a stream, to its end, within a minute.
async fn all<T>(mut stream: Streaming<T>) -> Vec<T> {
    let read = async {
        let mut all = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            all.push(message);
        }
        all
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the stream does not end")
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), stream.message()).await;
    next.expect("nothing comes").unwrap().expect("the stream ended")
}

impl Place {
    /// Executes all that is ready, until nothing is.
    async fn work(&self) {
        let x = self.agent(&[], 9).await;
        loop {
            let steps = self.fetch(&x, 9).await;
            if steps.is_empty() {
                return;
            }
            for step in steps {
                assert!(self.report(&x, &step.step_run_id, S::Running).await.unwrap());
                assert!(self.report(&x, &step.step_run_id, S::Success).await.unwrap());
            }
        }
    }

    async fn steps_of(&self, run: &str) -> Streaming<pb::StreamStepRunStatusResponse> {
        let request = pb::StreamStepRunStatusRequest { pipeline_run_id: run.into(), ..Default::default() };
        self.streams("user viewer").stream_step_run_status(request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn every_client_sees_every_change_of_a_run_from_its_snapshot_to_its_end() {
    for place in Place::all().await {
        let run = place.bench.run(DIAMOND).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut stream = place.steps_of(&run).await;
            // It has its place once the snapshot begins.
            let first = next(&mut stream).await;
            assert_eq!((first.previous_status, first.status()), (0, S::Queued));
            clients.push((first, stream));
        }
        let jobs = pb::StreamJobStatusRequest { pipeline_run_id: run.clone(), ..Default::default() };
        let jobs = place.streams("user viewer").stream_job_status(jobs).await.unwrap().into_inner();
        let runs = pb::StreamPipelineStatusRequest { pipeline_run_ids: vec![run.clone()], ..Default::default() };
        let runs = place.streams("user viewer").stream_pipeline_status(runs).await.unwrap().into_inner();
        place.work().await;
        for (first, stream) in clients {
            let mut last = std::collections::HashMap::from([(first.step_run_id, first.status)]);
            let messages = all(stream).await;
            for message in &messages {
                let before = last.insert(message.step_run_id.clone(), message.status);
                assert_eq!(before.unwrap_or(0), message.previous_status, "{message:?}");
            }
            assert!(last.len() == 5 && last.values().all(|status| *status == i32::from(S::Success)), "{last:?}");
            // Four more of the snapshot; four that were pending are queued; five start, five end.
            assert_eq!(messages.len(), 4 + 4 + 5 + 5);
            assert!(messages.iter().rev().take(1).all(|end| !end.agent_id.is_empty() && end.job_name == "d"));
        }
        let jobs = all(jobs).await;
        let d: Vec<_> = jobs.iter().filter(|job| job.job_name == "d").map(|job| (job.previous_status(), job.status())).collect();
        assert_eq!(d.last(), Some(&(P::Running, P::Success)), "{d:?}");
        let end = jobs.iter().rev().find(|job| job.job_name == "a").unwrap();
        assert_eq!((end.total_steps, end.completed_steps, end.failed_steps, end.running_steps), (2, 2, 0, 0));
        let runs = all(runs).await;
        let statuses: Vec<_> = runs.iter().map(|run| (run.previous_status(), run.status())).collect();
        assert_eq!(statuses, [(P::Unspecified, P::Running), (P::Running, P::Success)]);
        assert_eq!((&*runs[1].namespace, runs[1].completed_jobs, runs[1].total_jobs), ("ns", 4, 4));
    }
}

#[tokio::test]
async fn what_is_over_or_does_not_exist_is_told_and_the_stream_ends() {
    for place in Place::all().await {
        let run = place.bench.run(ONE).await;
        let step = place.bench.texts("SELECT step_run_id FROM t_step_run").await.remove(0);
        let request = |ids: &[&str]| pb::StreamStepRunStatusRequest {
            step_run_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        let stream = place.streams("user viewer").stream_step_run_status(request(&[&step, "none"])).await.unwrap();
        place.work().await;
        assert_eq!(all(stream.into_inner()).await.last().unwrap().status(), S::Success);
        let again = place.streams("user viewer").stream_step_run_status(request(&[&step])).await.unwrap();
        let again = all(again.into_inner()).await;
        assert_eq!((again.len(), again[0].status(), again[0].previous_status()), (1, S::Success, S::Unspecified));
        let none = place.streams("user viewer").stream_step_run_status(request(&["none"])).await.unwrap();
        assert!(all(none.into_inner()).await.is_empty());
        assert_eq!(all(place.steps_of(&run).await).await.len(), 1);
        assert!(all(place.steps_of("none").await).await.is_empty());
        let runs = pb::StreamPipelineStatusRequest { pipeline_run_ids: vec![run], ..Default::default() };
        let runs = place.streams("user viewer").stream_pipeline_status(runs).await.unwrap();
        assert_eq!(all(runs.into_inner()).await[0].status(), P::Success);
    }
}

#[tokio::test]
async fn a_stream_of_all_that_happens_goes_on_with_runs_that_begin_later() {
    let place = Place::one().await;
    let pipeline = place.bench.pipeline(ONE).await;
    let other = place.bench.pipeline(ONE).await;
    let request = pb::StreamPipelineStatusRequest { pipeline_ids: vec![pipeline.clone()], ..Default::default() };
    let mut stream = place.streams("user viewer").stream_pipeline_status(request).await.unwrap().into_inner();
    // Nothing comes first that could be waited for; a run that began before is in the snapshot all the same.
    for _ in 0..3 {
        place.bench.trigger(&other).await;
        let run = place.bench.trigger(&pipeline).await;
        loop {
            let seen = next(&mut stream).await;
            assert_eq!(seen.pipeline_id, pipeline);
            if seen.run_id == run && seen.status() == P::Running {
                break;
            }
        }
    }
}

#[tokio::test]
async fn whoever_reads_too_slowly_hears_what_is_different_and_misses_no_end() {
    let place = Place::one().await;
    let jobs: Vec<_> = (0..60).map(|job| format!("{{name: j{job}, steps: [{{name: s, uses: shell}}]}}")).collect();
    let run = place.bench.run(&format!("jobs: [{}]", jobs.join(", "))).await;
    let x = place.agent(&[], 100).await;
    let request = pb::StreamStepRunStatusRequest { pipeline_run_id: run.clone(), ..Default::default() };
    let subject = Steps(request);
    let mut stream = follow(place.agents.engine(), subject, Until::RunOver(run));
    let mut last = std::collections::HashMap::new();
    for _ in 0..60 {
        let message = stream.next().await.unwrap().unwrap();
        last.insert(message.step_run_id, message.status);
    }
    for step in place.fetch(&x, 100).await {
        place.report(&x, &step.step_run_id, S::Running).await.unwrap();
        place.report(&x, &step.step_run_id, S::Success).await.unwrap();
    }
    let other = place.bench.pipeline(ONE).await;
    for _ in 0..1_500 {
        place.bench.trigger(&other).await;
    }
    while let Some(message) = stream.next().await {
        let message = message.unwrap();
        let before = last.insert(message.step_run_id, message.status);
        assert_eq!(before, Some(message.previous_status));
    }
    assert!(last.len() == 60 && last.values().all(|status| *status == i32::from(S::Success)));
}

#[tokio::test]
async fn agents_are_seen_to_come_to_change_and_to_go() {
    for place in Place::all().await {
        let x = place.agent(&[("os", "linux")], 3).await;
        let request = || pb::StreamAgentStatusRequest { agent_ids: vec![x.clone()] };
        let mut stream = place.streams("user viewer").stream_agent_status(request()).await.unwrap().into_inner();
        let first = next(&mut stream).await;
        assert_eq!((first.status(), first.previous_status()), (pb::AgentStatus::Online, pb::AgentStatus::Unspecified));
        assert_eq!((first.max_concurrent_step_runs, &*first.labels["os"]), (3, "linux"));
        place.agent(&[], 1).await;
        let heartbeat = agent::HeartbeatRequest { status: agent::AgentStatus::Busy.into(), ..Default::default() };
        place.calls(&format!("agent {x}")).heartbeat(heartbeat).await.unwrap();
        let busy = next(&mut stream).await;
        assert_eq!((busy.previous_status(), busy.status()), (pb::AgentStatus::Online, pb::AgentStatus::Busy));
        place.bench.pass(180_000).await;
        let gone = next(&mut stream).await;
        assert_eq!((gone.previous_status(), gone.status()), (pb::AgentStatus::Busy, pb::AgentStatus::Offline));
    }
}

#[tokio::test]
async fn events_come_with_the_ids_of_the_event_log_to_every_client_and_by_filter() {
    let place = Place::one().await;
    let request = |types: &[pb::EventType], resource: &str| pb::StreamEventsRequest {
        event_types: types.iter().map(|kind| i32::from(*kind)).collect(),
        resource_type: resource.into(),
        ..Default::default()
    };
    let open = async |request| place.streams("user viewer").stream_events(request).await.unwrap().into_inner();
    let mut everything = [open(request(&[], "")).await, open(request(&[], "")).await];
    let mut starts = open(request(&[pb::EventType::StepRunStarted, pb::EventType::PipelineStarted], "")).await;
    let mut agents = open(request(&[], "agent")).await;
    place.bench.run(ONE).await;
    place.work().await;
    let expected = place.bench.texts("SELECT event_id FROM t_outbox ORDER BY seq").await;
    for stream in &mut everything {
        for id in &expected {
            assert_eq!(next(stream).await.event_id, *id);
        }
    }
    assert_eq!(next(&mut starts).await.event_type(), pb::EventType::PipelineStarted);
    let started = next(&mut starts).await;
    assert_eq!((started.event_type(), &*started.title), (pb::EventType::StepRunStarted, "step run started: s"));
    let came = next(&mut agents).await;
    assert_eq!((came.event_type(), &*came.resource_type), (pb::EventType::AgentRegistered, "agent"));
    let odd = place.streams("user viewer").stream_events(request(&[], "task")).await.unwrap_err();
    assert_eq!(odd.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn streams_are_for_people_and_name_a_bounded_number_of_things() {
    let place = Place::one().await;
    let x = place.agent(&[], 1).await;
    for (who, code) in
        [("", Code::Unauthenticated), ("stock agent", Code::Unauthenticated), (&*format!("agent {x}"), Code::PermissionDenied)]
    {
        let mut streams = place.streams(who);
        assert_eq!(streams.stream_step_run_status(pb::StreamStepRunStatusRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(streams.stream_job_status(pb::StreamJobStatusRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(streams.stream_pipeline_status(pb::StreamPipelineStatusRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(streams.stream_agent_status(pb::StreamAgentStatusRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(streams.stream_events(pb::StreamEventsRequest::default()).await.unwrap_err().code(), code);
    }
    let many = pb::StreamStepRunStatusRequest { step_run_ids: vec!["x".into(); 501], ..Default::default() };
    let refused = place.streams("user viewer").stream_step_run_status(many).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
