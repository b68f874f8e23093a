//! Each call over a real server: its good case, what it refuses, and whom.

use arcgate_api::steprun::v1::StepRunStatus as S;
use tonic::Code;

use super::super::testing::{Place, map};
use super::*;
use crate::engine::tests::{DIAMOND, ONE};

macro_rules! call {
    ($place:expr, $call:ident, $request:expr) => {
        $place.step_runs("user operator").$call($request).await.unwrap().into_inner()
    };
}

/// The code of a refusal in the answer.
macro_rules! refused {
    ($place:expr, $call:ident, $request:expr) => {{
        let answer = call!($place, $call, $request);
        let error = answer.error.unwrap();
        assert!(!answer.success && answer.message == error.message && !error.message.is_empty());
        error.code
    }};
}

fn get(id: &str) -> pb::GetStepRunRequest {
    pb::GetStepRunRequest { step_run_id: id.into() }
}

#[tokio::test]
async fn a_step_run_is_shown_with_its_times_in_seconds_and_without_secrets() {
    for place in Place::all().await {
        let x = place.agent(&[("os", "linux")], 1).await;
        let text = "variables: {PASSWORD: hunter2}\njobs: [{name: j, steps: [{name: s, uses: shell, timeout: 5m, env: {A: '${PASSWORD}'}, \
                    args: {script: 'echo ${{ PASSWORD }}'}, agent_selector: {match_labels: {os: linux}}}]}]";
        let run = place.bench.run(text).await;
        let id = place.fetch(&x, 1).await.remove(0).step_run_id;
        place.report(&x, &id, S::Running).await.unwrap();
        place.bench.clock.advance(2_500);
        place.report(&x, &id, S::Failed).await.unwrap();
        let answer = call!(place, get_step_run, get(&id));
        let found = answer.step_run.unwrap();
        assert_eq!((&*found.pipeline_run_id, &*found.job_name, &*found.step_name, found.status()), (&*run, "j", "s", S::Failed));
        assert_eq!((found.created_at, found.started_at, found.finished_at), (1_790_000_000, 1_790_000_000, 1_790_000_002));
        assert_eq!((found.duration, found.exit_code, &*found.timeout, &*found.agent_id), (2_500, 0, "5m", &*x));
        assert_eq!((&*found.agent_labels["os"], &*found.agent_selector.as_ref().unwrap().match_labels["os"]), ("linux", "linux"));
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!(refused!(place, get_step_run, get("none")), 404);
        assert_eq!(refused!(place, get_step_run, get("")), 400);
    }
}

#[tokio::test]
async fn step_runs_are_listed_by_filters_order_and_pages() {
    for place in Place::all().await {
        let x = place.agent(&[], 9).await;
        let run = place.bench.run(DIAMOND).await;
        place.bench.run(ONE).await;
        let all = call!(place, list_step_runs, pb::ListStepRunsRequest::default());
        assert_eq!((all.total, all.step_runs.len(), all.page, all.page_size), (6, 6, 1, 20));
        let of_run = pb::ListStepRunsRequest {
            pipeline_run_id: run.clone(),
            sort_by: "job_name".into(),
            sort_desc: true,
            page: 2,
            page_size: 2,
            ..Default::default()
        };
        let page = call!(place, list_step_runs, of_run);
        let names: Vec<_> = page.step_runs.iter().map(|step| &*step.job_name).collect();
        assert_eq!((page.total, names), (5, vec!["b", "a"]));
        let named = pb::ListStepRunsRequest { job_name: "a".into(), step_name: "t".into(), ..Default::default() };
        assert_eq!(call!(place, list_step_runs, named).total, 1);
        place.fetch(&x, 1).await;
        let queued = pb::ListStepRunsRequest { agent_id: x.clone(), status: S::Queued.into(), ..Default::default() };
        assert_eq!(call!(place, list_step_runs, queued).total, 1);
        let big = pb::ListStepRunsRequest { page_size: 1_000, sort_by: "started_at".into(), ..Default::default() };
        assert_eq!(call!(place, list_step_runs, big).page_size, 200);
        let odd = pb::ListStepRunsRequest { sort_by: "secrets; DROP TABLE t_step_run".into(), ..Default::default() };
        let status = place.step_runs("user viewer").list_step_runs(odd).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_step_run_is_changed_until_it_is_handed_out_and_its_limit_counts() {
    for mut place in Place::all().await {
        let x = place.agent(&[], 9).await;
        let run =
            place.bench.run("jobs: [{name: j, retry: {max_attempts: 2}, steps: [{name: s, uses: shell, timeout: 5m}]}]").await;
        let id = place.bench.texts("SELECT step_run_id FROM t_step_run").await.remove(0);
        let update = |env: &[(&str, &str)], timeout: &str| pb::UpdateStepRunRequest {
            step_run_id: id.clone(),
            env: map(env),
            timeout: timeout.into(),
        };
        assert_eq!(refused!(place, update_step_run, update(&[], "soon")), 400);
        assert_eq!(refused!(place, update_step_run, pb::UpdateStepRunRequest::default()), 400);
        assert_eq!(
            refused!(place, update_step_run, pb::UpdateStepRunRequest { step_run_id: "none".into(), ..Default::default() }),
            404
        );
        assert_eq!(call!(place, update_step_run, update(&[], "")).message, "no changes");
        assert_eq!(call!(place, update_step_run, update(&[("A", "1")], "10s")).message, "updated");
        place = place.restart().await;
        let step = place.fetch(&x, 1).await.remove(0);
        assert_eq!((&*step.env["A"], &*step.timeout), ("1", "10s"));
        assert_eq!(refused!(place, update_step_run, update(&[], "1h")), 409);
        // The next attempt has the same.
        place.report(&x, &id, S::Failed).await.unwrap();
        place.bench.pass(0).await;
        place = place.restart().await;
        let step = place.fetch(&x, 1).await.remove(0);
        assert_eq!((&*step.env["A"], &*step.timeout), ("1", "10s"));
        place.report(&x, &step.step_run_id, S::Running).await.unwrap();
        place.bench.pass(10_000).await;
        place.bench.pass(crate::plan::STOP_GRACE).await;
        assert_eq!(call!(place, get_step_run, get(&step.step_run_id)).step_run.unwrap().status(), S::Timeout);
        assert_ne!(place.bench.status(&run).await, spec_pb::PipelineStatus::Running);
    }
}

#[tokio::test]
async fn a_step_run_is_cancelled_run_again_under_a_new_id_and_the_old_one_can_be_removed() {
    for place in Place::all().await {
        let x = place.agent(&[], 9).await;
        let run = place.bench.run(ONE).await;
        let id = place.fetch(&x, 1).await.remove(0).step_run_id;
        let cancel = |id: &str| pb::CancelStepRunRequest { step_run_id: id.into(), reason: "enough".into() };
        let retry = |id: &str| pb::RetryStepRunRequest { step_run_id: id.into() };
        let delete = |id: &str| pb::DeleteStepRunRequest { step_run_id: id.into() };
        assert_eq!(refused!(place, retry_step_run, retry(&id)), 409);
        assert_eq!(refused!(place, delete_step_run, delete(&id)), 409);
        assert_eq!(call!(place, cancel_step_run, cancel(&id)).message, "cancelled");
        assert_eq!(refused!(place, cancel_step_run, cancel(&id)), 409);
        let new = call!(place, retry_step_run, retry(&id)).new_step_run_id;
        assert_ne!(new, id);
        assert_eq!(refused!(place, retry_step_run, retry(&id)), 409);
        let old = call!(place, get_step_run, get(&id)).step_run.unwrap();
        assert_eq!((old.status(), &*old.error_message), (S::Cancelled, "by ann: enough"));
        assert_eq!(refused!(place, delete_step_run, delete(&new)), 409);
        assert_eq!(call!(place, delete_step_run, delete(&id)).message, "deleted");
        assert_eq!(refused!(place, delete_step_run, delete(&id)), 404);
        let again = place.fetch(&x, 1).await.remove(0).step_run_id;
        assert_eq!(again, new);
        place.report(&x, &new, S::Success).await.unwrap();
        assert_eq!(place.bench.status(&run).await, spec_pb::PipelineStatus::Success);
        for id in ["", "none"] {
            let code = if id.is_empty() { 400 } else { 404 };
            assert_eq!(refused!(place, cancel_step_run, cancel(id)), code);
            assert_eq!(refused!(place, retry_step_run, retry(id)), code);
            assert_eq!(refused!(place, delete_step_run, delete(id)), code);
        }
    }
}

#[tokio::test]
async fn a_step_run_of_its_own_is_a_run_with_this_one_step() {
    for place in Place::all().await {
        let x = place.agent(&[], 9).await;
        let pipeline_id = place.bench.pipeline(ONE).await;
        let request = || pb::CreateStepRunRequest {
            pipeline_id: pipeline_id.clone(),
            job_id: format!("{pipeline_id}-probe"),
            step_name: "df".into(),
            uses: "shell".into(),
            env: map(&[("A", "1")]),
            timeout: "1m".into(),
            ..Default::default()
        };
        let id = call!(place, create_step_run, request()).step_run_id;
        let step = place.fetch(&x, 9).await.remove(0);
        assert_eq!((&step.step_run_id, &*step.job_name, &*step.step_name, &*step.env["A"]), (&id, "probe", "df", "1"));
        place.report(&x, &id, S::Success).await.unwrap();
        assert_eq!(place.bench.status(&step.pipeline_run_id).await, spec_pb::PipelineStatus::Success);
        for bad in [
            pb::CreateStepRunRequest::default(),
            pb::CreateStepRunRequest { job_id: "probe".into(), ..request() },
            pb::CreateStepRunRequest { job_name: "other".into(), ..request() },
            pb::CreateStepRunRequest { uses: String::new(), ..request() },
            pb::CreateStepRunRequest { when: "(".into(), ..request() },
            pb::CreateStepRunRequest { secrets: map(&[("S", "x")]), ..request() },
            pb::CreateStepRunRequest { pipeline_run_id: step.pipeline_run_id.clone(), ..request() },
        ] {
            assert_eq!(refused!(place, create_step_run, bad), 400);
        }
        let unknown = pb::CreateStepRunRequest { pipeline_id: "none".into(), job_id: "none-j".into(), ..request() };
        assert_eq!(refused!(place, create_step_run, unknown), 404);
    }
}

#[tokio::test]
async fn artifacts_are_listed_and_calls_are_for_people_who_may() {
    for place in Place::all().await {
        place.bench.run(ONE).await;
        let id = place.bench.texts("SELECT step_run_id FROM t_step_run").await.remove(0);
        let list = |id: &str| pb::ListStepRunArtifactsRequest { step_run_id: id.into() };
        assert!(call!(place, list_step_run_artifacts, list(&id)).artifacts.is_empty());
        assert_eq!(refused!(place, list_step_run_artifacts, list("none")), 404);
        for (who, code) in [("", Code::Unauthenticated), ("agent x", Code::PermissionDenied)] {
            let mut calls = place.step_runs(who);
            assert_eq!(calls.get_step_run(get(&id)).await.unwrap_err().code(), code);
            assert_eq!(calls.list_step_runs(pb::ListStepRunsRequest::default()).await.unwrap_err().code(), code);
            assert_eq!(calls.list_step_run_artifacts(list(&id)).await.unwrap_err().code(), code);
        }
        let mut calls = place.step_runs("user viewer");
        let code = Code::PermissionDenied;
        assert_eq!(calls.create_step_run(pb::CreateStepRunRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(calls.update_step_run(pb::UpdateStepRunRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(calls.delete_step_run(pb::DeleteStepRunRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(calls.cancel_step_run(pb::CancelStepRunRequest::default()).await.unwrap_err().code(), code);
        assert_eq!(calls.retry_step_run(pb::RetryStepRunRequest::default()).await.unwrap_err().code(), code);
        assert!(calls.get_step_run(get(&id)).await.unwrap().into_inner().success);
    }
}
