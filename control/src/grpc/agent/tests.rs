//! Each call over a real server: its good case, what it refuses, and whom.

use std::collections::HashSet;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus as S;
use tonic::Code;

use super::super::testing::{Place, map};
use super::*;
use crate::agents::{AgentSettings, NewApiToken, NewRegistrationToken};
use crate::engine::Clock as _;
use crate::engine::tests::{Bench, DIAMOND, ONE};

mod channels;

fn register(token: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        registration_token: token.into(),
        agent_name: "builder".into(),
        ip: "10.0.0.7".into(),
        os: "linux".into(),
        arch: "amd64".into(),
        max_concurrent_step_runs: 2,
        labels: map(&[("os", "linux")]),
        ..Default::default()
    }
}

/// The code of a refusal.
macro_rules! refused {
    ($place:expr, $who:expr, $call:ident, $request:expr) => {
        $place.calls($who).$call($request).await.unwrap_err().code()
    };
}

macro_rules! done {
    ($place:expr, $who:expr, $call:ident, $request:expr) => {
        $place.calls($who).$call($request).await.unwrap().into_inner()
    };
}

#[tokio::test]
async fn a_registration_token_lets_in_as_many_agents_as_it_says_and_only_its_hash_is_kept() {
    for place in Place::all().await {
        let token = place.registration_token(3).await;
        let tries: Vec<_> = (0..10)
            .map(|_| {
                let (mut calls, request) = (place.calls(""), register(&token));
                tokio::spawn(async move { calls.register(request).await })
            })
            .collect();
        let mut let_in = Vec::new();
        for one in tries {
            match one.await.unwrap() {
                Ok(answer) => let_in.push(answer.into_inner()),
                Err(why) => assert_eq!(why.code(), Code::Unauthenticated),
            }
        }
        assert_eq!(let_in.len(), 3);
        let ids: HashSet<_> = let_in.iter().map(|answer| answer.agent_id.clone()).collect();
        assert_eq!(ids.len(), 3);
        let first = &let_in[0];
        assert!(first.success && !first.pending_approval && first.heartbeat_interval == 60 && first.labels["os"] == "linux");
        assert!(first.auth_token.starts_with(&format!("{}:", first.agent_id)));
        assert_eq!(place.bench.number("SELECT use_count FROM t_registration_token").await, 3);
        let kept = place.bench.texts("SELECT token_hash FROM t_registration_token UNION SELECT token_hash FROM t_agent").await;
        assert!(kept.len() == 4 && kept.iter().all(|hash| hash.len() == 64 && !token.contains(hash)), "{kept:?}");
        let caller = place.agents.whose(&first.auth_token, 0).await.unwrap();
        assert_eq!(caller, Some(Caller::Agent(first.agent_id.clone())));
        assert_eq!(place.agents.whose(&format!("{}x", first.auth_token), 0).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_token_for_people_says_who_they_are_and_what_they_may_until_it_expires() {
    for place in Place::all().await {
        let (name, created_by) = ("ann".to_owned(), String::new());
        let wanted = NewApiToken { name, role: Role::Operator, created_by, expires_at: Some(1_000) };
        let token = place.bench.fresh.database.new_api_token(wanted, 0).await.unwrap();
        let ann = Caller::User { name: "ann".into(), role: Role::Operator };
        assert_eq!(place.agents.whose(&token, 999).await.unwrap(), Some(ann));
        assert_eq!(place.agents.whose(&token, 1_000).await.unwrap(), None);
        assert_eq!(place.agents.whose("arc_00", 0).await.unwrap(), None);
        let kept = place.bench.texts("SELECT token_hash FROM t_api_token").await.remove(0);
        assert_eq!(place.agents.whose(&kept, 0).await.unwrap(), None);
    }
}

#[tokio::test]
async fn agents_are_listed_with_what_they_execute() {
    for place in Place::all().await {
        let (x, y) = (place.agent(&[("os", "linux")], 1).await, place.agent(&[], 2).await);
        let run = place.bench.run(ONE).await;
        let id = place.fetch(&y, 1).await.remove(0).step_run_id;
        let one = async |of: &str| {
            let listed = place.bench.fresh.database.agents().await.unwrap();
            assert_eq!(listed.len(), 2);
            listed.into_iter().find(|one| one.agent.agent_id == of).unwrap()
        };
        let execution = one(&y).await.executes.remove(0);
        assert_eq!((&execution.step_run_id, &execution.run_id, execution.status), (&id, &run, S::Queued));
        place.report(&y, &id, S::Running).await.unwrap();
        assert_eq!(one(&y).await.executes[0].status, S::Running);
        place.report(&y, &id, S::Success).await.unwrap();
        assert!(one(&y).await.executes.is_empty());
        let idle = one(&x).await;
        assert_eq!((&*idle.agent.labels["os"], idle.executes.len(), idle.agent.last_heartbeat.is_some()), ("linux", 0, true));
    }
}

#[tokio::test]
async fn an_unknown_a_revoked_and_an_expired_registration_token_let_nobody_in() {
    let place = Place::one().await;
    assert_eq!(refused!(place, "", register, register("art_00")), Code::Unauthenticated);
    let token = place.registration_token(0).await;
    done!(place, "", register, register(&token));
    assert!(place.agents.revoke_registration_token(&token).await.unwrap());
    assert!(!place.agents.revoke_registration_token(&token).await.unwrap());
    assert_eq!(refused!(place, "", register, register(&token)), Code::Unauthenticated);
    let expires_at = Some(place.bench.clock.now() + 1_000);
    let token = place
        .bench
        .fresh
        .database
        .new_registration_token(NewRegistrationToken { expires_at, ..Default::default() }, 0)
        .await
        .unwrap();
    done!(place, "", register, register(&token));
    place.bench.clock.advance(1_000);
    assert_eq!(refused!(place, "", register, register(&token)), Code::Unauthenticated);
    assert_eq!(refused!(place, "", register, pb::RegisterRequest::default()), Code::InvalidArgument);
}

#[tokio::test]
async fn an_agent_begins_again_with_its_own_token_and_what_it_had_started_is_lost() {
    for place in Place::all().await {
        let token = place.registration_token(1).await;
        let first = done!(place, "", register, register(&token));
        let (id, own) = (first.agent_id, first.auth_token);
        let run = place.bench.run(ONE).await;
        let step = place.fetch(&id, 1).await.remove(0).step_run_id;
        assert!(place.report(&id, &step, S::Running).await.unwrap());
        let again = |agent_id: &str, token: &str| pb::RegisterRequest {
            agent_id: agent_id.into(),
            token: token.into(),
            version: "2".into(),
            max_concurrent_step_runs: 5,
            ..Default::default()
        };
        for bad in ["nonsense", ":x", "x:"] {
            assert_eq!(refused!(place, "", register, again("", bad)), Code::InvalidArgument, "{bad}");
        }
        assert_eq!(refused!(place, "", register, again("other", &own)), Code::InvalidArgument);
        assert_eq!(refused!(place, "", register, again("", &format!("{id}:00"))), Code::Unauthenticated);
        assert_eq!(refused!(place, "", register, again("", "nobody:00")), Code::Unauthenticated);
        assert_eq!(place.bench.status(&run).await, PipelineStatus::Running);
        let answer = done!(place, "", register, again(&id, &own));
        assert_eq!((&*answer.agent_id, &*answer.auth_token, &*answer.labels["os"]), (&*id, "", "linux"));
        assert_eq!(place.bench.status(&run).await, PipelineStatus::Failed);
        // By the token of the call itself.
        assert_eq!(done!(place, &format!("agent {id}"), register, again("", "")).agent_id, id);
        assert_eq!(refused!(place, &format!("agent {id}"), register, again("other", "")), Code::InvalidArgument);
        assert_eq!(place.bench.number("SELECT COUNT(*) FROM t_agent WHERE version = '2' AND max_step_runs = 5").await, 1);
    }
}

#[tokio::test]
async fn an_agent_speaks_for_itself_only_and_a_viewer_only_looks() {
    let place = Place::one().await;
    let (x, y) = (place.agent(&[], 9).await, place.agent(&[], 9).await);
    place.bench.run(ONE).await;
    let step = place.fetch(&x, 1).await.remove(0).step_run_id;
    let (as_x, as_y) = (format!("agent {x}"), format!("agent {y}"));
    let heartbeat = |id: &str| pb::HeartbeatRequest { agent_id: id.into(), ..Default::default() };
    let unregister = |id: &str| pb::UnregisterRequest { agent_id: id.into(), ..Default::default() };
    let fetch = |id: &str| pb::FetchStepRunRequest { agent_id: id.into(), max_step_runs: 1 };
    let labels = |id: &str| pb::UpdateLabelsRequest { agent_id: id.into(), ..Default::default() };
    let report = |id: &str| pb::ReportStepRunStatusRequest {
        agent_id: id.into(),
        step_run_id: step.clone(),
        status: S::Running.into(),
        ..Default::default()
    };
    let cancel =
        |reason: &str| pb::CancelStepRunRequest { agent_id: x.clone(), step_run_id: step.clone(), reason: reason.into() };
    for (who, code) in [(&*as_y, Code::PermissionDenied), ("user admin", Code::PermissionDenied), ("", Code::Unauthenticated)] {
        assert_eq!(refused!(place, who, heartbeat, heartbeat(&x)), code, "{who}");
        assert_eq!(refused!(place, who, unregister, unregister(&x)), code);
        assert_eq!(refused!(place, who, fetch_step_run, fetch(&x)), code);
        assert_eq!(refused!(place, who, report_step_run_status, report(&x)), code);
        let job = pb::ReportJobRunStatusRequest { agent_id: x.clone(), ..Default::default() };
        assert_eq!(refused!(place, who, report_job_run_status, job), code);
    }
    // Its own name, but another's step run.
    assert_eq!(refused!(place, &as_y, report_step_run_status, report(&y)), Code::PermissionDenied);
    assert_eq!(refused!(place, &as_y, cancel_step_run, cancel("")), Code::PermissionDenied);
    assert_eq!(refused!(place, &as_y, update_labels, labels(&x)), Code::PermissionDenied);
    assert_eq!(refused!(place, "user operator", update_labels, labels(&x)), Code::PermissionDenied);
    assert_eq!(refused!(place, "user viewer", cancel_step_run, cancel("")), Code::PermissionDenied);
    let cancel_job = || pb::CancelJobRunRequest { job_run_id: "j".into(), ..Default::default() };
    assert_eq!(refused!(place, "user viewer", cancel_job_run, cancel_job()), Code::PermissionDenied);
    assert_eq!(refused!(place, &as_x, cancel_job_run, cancel_job()), Code::PermissionDenied);
    for who in ["", "stock agent"] {
        assert_eq!(refused!(place, who, cancel_step_run, cancel("")), Code::Unauthenticated, "{who}");
        assert_eq!(refused!(place, who, cancel_job_run, cancel_job()), Code::Unauthenticated);
        assert_eq!(refused!(place, who, update_labels, labels(&x)), Code::Unauthenticated);
        assert_eq!(refused!(place, who, fetch_step_run, fetch(&x)), Code::Unauthenticated);
        assert_eq!(refused!(place, who, connect, futures_util::stream::empty()), Code::Unauthenticated);
    }
    // Where the operator lets them in, agents without a token say how they stand; but nobody does so for one that has shown its own.
    let z = place.agent(&[], 9).await;
    assert!(done!(place, "stock agent", heartbeat, heartbeat(&z)).success);
    assert_eq!(refused!(place, "stock agent", heartbeat, heartbeat("")), Code::InvalidArgument);
    assert!(done!(place, "stock agent", unregister, unregister(&z)).success);
    assert_eq!(refused!(place, "stock agent", heartbeat, heartbeat(&x)), Code::Unauthenticated);
    assert_eq!(refused!(place, "stock agent", report_step_run_status, report(&x)), Code::Unauthenticated);
    assert_eq!(refused!(place, "stock agent", unregister, unregister(&x)), Code::Unauthenticated);
    assert!(done!(place, &as_x, cancel_step_run, cancel("disk full")).success);
}

#[tokio::test]
async fn heartbeats_keep_an_agent_and_silence_loses_it_and_what_it_had_started() {
    for mut place in Place::all().await {
        let (x, y) = (place.agent(&[], 9).await, place.agent(&[], 9).await);
        let text = "jobs: [{name: j, retry: {max_attempts: 2}, steps: [{name: s, uses: shell}]}]";
        let run = place.bench.run(text).await;
        let step = place.fetch(&x, 1).await.remove(0).step_run_id;
        assert!(place.report(&x, &step, S::Running).await.unwrap());
        let heartbeat = |id: &str| pb::HeartbeatRequest { agent_id: id.into(), running_step_runs_count: 1, ..Default::default() };
        for _ in 0..3 {
            place.bench.pass(179_999).await;
            for agent in [&x, &y] {
                let answer = done!(place, &format!("agent {agent}"), heartbeat, heartbeat(agent));
                assert_eq!((&*answer.message, answer.timestamp), ("pong", place.bench.clock.now() / 1000));
            }
        }
        // The control plane was away for long: nobody could reach it, so that nobody is lost.
        place.bench.kill().await;
        place.bench.clock.advance(10_000_000);
        place = place.restart().await;
        place.bench.pass(179_999).await;
        assert_eq!(place.bench.number("SELECT COUNT(*) FROM t_agent WHERE status = 2").await, 0);
        done!(place, &format!("agent {y}"), heartbeat, heartbeat(&y));
        place.bench.pass(1).await;
        assert_eq!(place.bench.texts("SELECT agent_id FROM t_agent WHERE status = 2").await, std::slice::from_ref(&x));
        let again = place.fetch(&y, 1).await.remove(0).step_run_id;
        assert!(again != step && place.report(&y, &again, S::Running).await.unwrap());
        // The lost agent is back: it is told that its step run is over, and the other one's is not touched.
        done!(place, &format!("agent {x}"), heartbeat, heartbeat(&x));
        assert_eq!(place.bench.number("SELECT COUNT(*) FROM t_agent WHERE status = 2").await, 0);
        assert!(!place.report(&x, &step, S::Running).await.unwrap());
        assert!(place.report(&x, &step, S::Failed).await.unwrap());
        assert!(place.report(&y, &again, S::Success).await.unwrap());
        assert_eq!(place.bench.status(&run).await, PipelineStatus::Success);
        let unknown = refused!(place, "agent nobody", heartbeat, heartbeat("nobody"));
        assert_eq!(unknown, Code::NotFound);
        let types =
            place.bench.texts("SELECT event_type FROM t_outbox WHERE event_type LIKE 'arcentra.agent.%' ORDER BY seq").await;
        let types: Vec<_> = types.iter().map(|kind| &kind["arcentra.agent.".len()..]).collect();
        assert_eq!(types, ["registered", "registered", "offline", "online"]);
    }
}

#[tokio::test]
async fn who_goes_away_gives_back_what_it_has_and_going_twice_is_no_error() {
    let place = Place::one().await;
    let (x, y) = (place.agent(&[], 9).await, place.agent(&[], 9).await);
    place.bench.run(ONE).await;
    let step = place.fetch(&x, 1).await.remove(0).step_run_id;
    for _ in 0..2 {
        let request = pb::UnregisterRequest { agent_id: x.clone(), reason: "agent shutdown".into() };
        assert_eq!(done!(place, &format!("agent {x}"), unregister, request).message, "unregistered");
    }
    assert!(
        done!(place, "stock agent", unregister, pb::UnregisterRequest { agent_id: "none".into(), ..Default::default() }).success
    );
    place.bench.pass(0).await;
    assert_ne!(place.fetch(&y, 1).await.remove(0).step_run_id, step);
}

#[tokio::test]
async fn each_step_run_is_given_to_one_agent_however_many_ask_at_once() {
    for place in Place::all().await {
        let mut agents = Vec::new();
        for _ in 0..8 {
            agents.push(place.agent(&[], 7).await);
        }
        let jobs: Vec<_> = (0..40).map(|job| format!("{{name: j{job}, steps: [{{name: s, uses: shell}}]}}")).collect();
        place.bench.run(&format!("jobs: [{}]", jobs.join(", "))).await;
        let asks: Vec<_> = (0..40)
            .map(|at| {
                let agent = agents[at % 8].clone();
                let mut calls = place.calls(&format!("agent {agent}"));
                tokio::spawn(async move {
                    let request = pb::FetchStepRunRequest { agent_id: agent, max_step_runs: 3 };
                    calls.fetch_step_run(request).await.unwrap().into_inner().step_runs
                })
            })
            .collect();
        let mut given = Vec::new();
        for ask in asks {
            given.extend(ask.await.unwrap().into_iter().map(|step| step.step_run_id));
        }
        let different: HashSet<_> = given.iter().collect();
        assert_eq!((given.len(), different.len()), (40, 40));
        let most = "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM t_step_run GROUP BY agent_id) AS counts";
        assert!(place.bench.number(most).await <= 7);
    }
}

#[tokio::test]
async fn new_labels_count_for_what_waits_already() {
    for place in Place::all().await {
        let x = place.agent(&[("os", "linux")], 9).await;
        let selector =
            "agent_selector: {match_labels: {os: linux}, match_expressions: [{key: gpus, operator: Gt, values: ['1']}]}";
        place.bench.run(&format!("jobs: [{{name: j, steps: [{{name: s, uses: shell, {selector}}}]}}]")).await;
        assert!(place.fetch(&x, 1).await.is_empty());
        let update = |labels: &[(&str, &str)], merge| pb::UpdateLabelsRequest { agent_id: x.clone(), labels: map(labels), merge };
        let as_x = format!("agent {x}");
        let labels = done!(place, "user admin", update_labels, update(&[("gpus", "2")], false)).labels;
        assert_eq!(labels, map(&[("gpus", "2")]));
        assert!(place.fetch(&x, 1).await.is_empty());
        let labels = done!(place, &as_x, update_labels, update(&[("os", "linux")], true)).labels;
        assert_eq!(labels, map(&[("gpus", "2"), ("os", "linux")]));
        let place = place.restart().await;
        assert_eq!(place.fetch(&x, 1).await.len(), 1);
        let many: Vec<_> = (0..65).map(|at| format!("l{at}")).collect();
        let many: Vec<_> = many.iter().map(|name| (&**name, "")).collect();
        assert_eq!(refused!(place, &as_x, update_labels, update(&many, false)), Code::InvalidArgument);
        assert_eq!(refused!(place, &as_x, update_labels, update(&[("", "x")], true)), Code::InvalidArgument);
        let unknown = pb::UpdateLabelsRequest { agent_id: "none".into(), ..Default::default() };
        assert_eq!(refused!(place, "user admin", update_labels, unknown), Code::NotFound);
    }
}

#[tokio::test]
async fn an_agent_waits_for_approval_where_that_is_wanted() {
    let settings = AgentSettings { auto_approve: false, ..AgentSettings::default() };
    let place = Place::on(Bench::one().await, settings).await;
    let token = place.registration_token(0).await;
    let answer = done!(place, "", register, register(&token));
    assert!(answer.pending_approval);
    place.bench.run(ONE).await;
    let who = format!("agent {}", answer.agent_id);
    let fetch = || pb::FetchStepRunRequest { agent_id: String::new(), max_step_runs: 1 };
    let nothing = done!(place, &who, fetch_step_run, fetch());
    assert!(nothing.step_runs.is_empty() && nothing.message.contains("approval"), "{nothing:?}");
    place.agents.approve(&answer.agent_id, true).await.unwrap();
    assert_eq!(done!(place, &who, fetch_step_run, fetch()).step_runs.len(), 1);
}

#[tokio::test]
async fn a_report_is_checked_kept_and_answered_the_same_when_it_is_repeated() {
    for place in Place::all().await {
        let x = place.agent(&[], 9).await;
        let run = place.bench.run(ONE).await;
        let step = place.fetch(&x, 1).await.remove(0).step_run_id;
        let as_x = format!("agent {x}");
        let report = |step: &str, status: i32| pb::ReportStepRunStatusRequest {
            step_run_id: step.into(),
            status,
            exit_code: 3,
            error_message: "bad".into(),
            metrics: map(&[("outputBytes", "7")]),
            ..Default::default()
        };
        assert_eq!(refused!(place, &as_x, report_step_run_status, report("", 3)), Code::InvalidArgument);
        assert_eq!(refused!(place, &as_x, report_step_run_status, report("none", 3)), Code::NotFound);
        for status in [0, 9, -1] {
            assert_eq!(refused!(place, &as_x, report_step_run_status, report(&step, status)), Code::InvalidArgument);
        }
        for status in [S::Running, S::Running, S::Failed, S::Failed, S::Success] {
            assert!(done!(place, &as_x, report_step_run_status, report(&step, status.into())).success);
        }
        let late = done!(place, &as_x, report_step_run_status, report(&step, S::Running.into()));
        assert!(!late.success && late.message.contains("do not start it"), "{late:?}");
        assert_eq!(place.bench.status(&run).await, PipelineStatus::Failed);
        assert_eq!(place.bench.texts("SELECT metrics FROM t_step_run").await, [r#"{"outputBytes":"7"}"#]);
        assert_eq!(place.bench.number("SELECT exit_code FROM t_step_run").await, 3);
    }
}

#[tokio::test]
async fn a_job_that_failed_as_a_whole_ends_what_its_agent_has_of_it_and_nothing_else() {
    for place in Place::all().await {
        let (x, y) = (place.agent(&[], 9).await, place.agent(&[], 9).await);
        let runs = [place.bench.run(ONE).await, place.bench.run(ONE).await];
        let steps = place.fetch(&x, 9).await;
        let job = |step: &pb::StepRun| step.workspace.clone();
        let report = |job_run_id: &str, status: S| pb::ReportJobRunStatusRequest {
            job_run_id: job_run_id.into(),
            status: status.into(),
            error_message: "no source".into(),
            artifact_uris: map(&[("log", "file:///l")]),
            ..Default::default()
        };
        let (as_x, as_y) = (format!("agent {x}"), format!("agent {y}"));
        assert_eq!(refused!(place, &as_x, report_job_run_status, report("", S::Running)), Code::InvalidArgument);
        assert_eq!(refused!(place, &as_x, report_job_run_status, report("none", S::Running)), Code::NotFound);
        assert_eq!(refused!(place, &as_y, report_job_run_status, report(&job(&steps[0]), S::Failed)), Code::PermissionDenied);
        for status in [S::Running, S::Success, S::Running] {
            assert!(done!(place, &as_x, report_job_run_status, report(&job(&steps[0]), status)).success);
            assert_eq!(place.bench.status(&runs[0]).await, PipelineStatus::Running);
        }
        for _ in 0..2 {
            done!(place, &as_x, report_job_run_status, report(&job(&steps[0]), S::Failed));
        }
        let status = [place.bench.status(&runs[0]).await, place.bench.status(&runs[1]).await];
        let failed = usize::from(steps[0].pipeline_run_id == runs[1]);
        assert_eq!((status[failed], status[1 - failed]), (PipelineStatus::Failed, PipelineStatus::Running));
        let told = place.bench.texts("SELECT error_message FROM t_step_run WHERE status = 5").await;
        assert_eq!(told, ["no source"]);
        let artifacts = place.bench.texts("SELECT artifact_uris FROM t_job_run ORDER BY artifact_uris").await;
        assert_eq!(artifacts, ["[]", r#"{"log":"file:///l"}"#]);
    }
}

#[tokio::test]
async fn whoever_may_cancels_steps_and_jobs_by_their_ids() {
    for place in Place::all().await {
        let x = place.agent(&[], 9).await;
        let run = place.bench.run(DIAMOND).await;
        let step = place.fetch(&x, 1).await.remove(0);
        let cancel = |id: &str, agent: &str| pb::CancelStepRunRequest {
            agent_id: agent.into(),
            step_run_id: id.into(),
            reason: "wrong branch".into(),
        };
        let who = "user operator";
        assert_eq!(refused!(place, who, cancel_step_run, cancel("", "")), Code::InvalidArgument);
        assert_eq!(refused!(place, who, cancel_step_run, cancel("none", "")), Code::NotFound);
        assert_eq!(refused!(place, who, cancel_step_run, cancel(&step.step_run_id, "y")), Code::InvalidArgument);
        assert_eq!(done!(place, who, cancel_step_run, cancel(&step.step_run_id, &x)).message, "cancelled");
        assert!(!done!(place, who, cancel_step_run, cancel(&step.step_run_id, "")).success);
        assert!(!place.report(&x, &step.step_run_id, S::Running).await.unwrap());
        let told = place.bench.texts("SELECT error_message FROM t_step_run WHERE status = 6 AND agent_id <> ''").await;
        assert_eq!(told, ["by ann: wrong branch"]);

        let other = place.bench.run(ONE).await;
        let job = place.bench.texts(&format!("SELECT job_run_id FROM t_job_run WHERE pipeline_run_id = '{other}'")).await;
        let cancel = |id: &str| pb::CancelJobRunRequest { job_run_id: id.into(), reason: String::new() };
        assert_eq!(refused!(place, who, cancel_job_run, cancel("")), Code::InvalidArgument);
        assert_eq!(refused!(place, who, cancel_job_run, cancel("none")), Code::NotFound);
        assert!(done!(place, who, cancel_job_run, cancel(&job[0])).success);
        assert!(!done!(place, who, cancel_job_run, cancel(&job[0])).success);
        assert_eq!(place.bench.status(&other).await, PipelineStatus::Cancelled);
        assert_ne!(place.bench.status(&run).await, PipelineStatus::Running);
    }
}

#[tokio::test]
async fn a_step_run_tells_its_pipeline_its_job_and_who_may_write_about_it() {
    for place in Place::all().await {
        let x = place.agent(&[], 9).await;
        place.bench.run(ONE).await;
        let id = place.bench.texts("SELECT step_run_id FROM t_step_run").await.remove(0);
        assert_eq!(place.agents.step_run("none").await.unwrap(), None);
        assert_eq!(place.agents.step_run(&id).await.unwrap().unwrap().agent_id, "");
        let step = place.fetch(&x, 1).await.remove(0);
        let found = place.agents.step_run(&id).await.unwrap().unwrap();
        assert_eq!((&found.pipeline_id, &found.run_id, &found.job_id), (&step.pipeline_id, &step.pipeline_run_id, &step.job_id));
        assert_eq!((&*found.agent_id, &*found.job_name, &*found.step_name, found.status), (&*x, "j", "s", S::Queued));
    }
}
