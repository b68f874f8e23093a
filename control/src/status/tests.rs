use std::time::Duration;

use arcgate_api::steprun::v1::StepRunStatus;
use futures_util::StreamExt as _;

use super::*;
use crate::engine::tests::Bench;

const TWO: &str =
    "jobs: [{name: j, env: {K: v}, steps: [{name: a, uses: shell, args: {run: 'x', n: 1.5}}, {name: b, uses: shell}]}]";

fn named(pipeline_id: &str, job_id: &str, step_run_id: &str) -> Named {
    Named { pipeline_id: pipeline_id.into(), job_id: job_id.into(), step_run_id: step_run_id.into() }
}

async fn next(feed: &mut BoxStream<'static, Told>) -> Option<Told> {
    tokio::time::timeout(Duration::from_secs(60), feed.next()).await.expect("something is told")
}

fn change(told: Option<Told>) -> Value {
    match told {
        Some(Told::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_status_begins_with_the_row_goes_on_with_each_change_and_ends_with_the_step_run() {
    for bench in Bench::all().await {
        let pipeline = bench.pipeline(TWO).await;
        bench.trigger(&pipeline).await;
        let taken = bench.take("x", 1).await;
        let id = &taken[0].1;
        let job = format!("{pipeline}-j");
        let by_id = named(&pipeline, &job, id);
        let by_name = named("-", &job, &format!("{job}-a"));
        for named in [by_id, by_name] {
            assert!(follow(&bench.engine, named).await.unwrap().is_some());
        }
        let wanted = format!("{job}-a");
        let mut feed = follow(&bench.engine, named(&pipeline, &job, &wanted)).await.unwrap().unwrap();
        let Some(Told::Snapshot(row)) = next(&mut feed).await else { panic!("the row comes first") };
        assert_eq!(row["stepRunId"], **id);
        assert_eq!((&row["status"], &row["exitCode"], &row["startTime"]), (&json!(2), &Value::Null, &Value::Null));
        assert_eq!((&row["args"], &row["jobId"]), (&json!("{\"n\":1.5,\"run\":\"x\"}"), &json!(job)));
        assert_eq!(row.get("secrets"), None);

        bench.report("x", id, StepRunStatus::Running).await.unwrap();
        let started = change(next(&mut feed).await);
        assert_eq!((&started["eventType"], &started["status"]), (&json!("arcentra.step.started"), &json!("started")));
        assert_eq!((&started["stepRunId"], &started["jobId"]), (&json!(wanted), &json!(job)), "as the client named it");
        assert_eq!((&started["subject"], &started["raw"]["stepRunId"]), (&json!("pipeline:ns:job:j:step:a"), &json!(**id)));
        bench.report("x", id, StepRunStatus::Success).await.unwrap();
        assert_eq!(change(next(&mut feed).await)["status"], "completed");
        assert_eq!(next(&mut feed).await, None, "nothing changes any more");

        let mut over = follow(&bench.engine, named("-", "-", id)).await.unwrap().unwrap();
        let Some(Told::Snapshot(row)) = next(&mut over).await else { panic!("the row comes first") };
        assert_eq!(row["status"], 4);
        assert!(row["endTime"].as_str().unwrap().ends_with('Z'), "{row}");
        assert_eq!(next(&mut over).await, None);
    }
}

#[tokio::test]
async fn what_is_not_there_or_elsewhere_is_not_found() {
    let bench = Bench::one().await;
    let pipeline = bench.pipeline(TWO).await;
    bench.trigger(&pipeline).await;
    let id = bench.take("x", 1).await[0].1.clone();
    let job = format!("{pipeline}-j");
    for (pipeline, job, step_run) in [
        ("other", &*job, &*id),
        (&*pipeline, "other", &*id),
        (&*pipeline, &*job, "other"),
        (&*pipeline, &*job, &*format!("{job}-other")),
        ("-", "-", "-"),
    ] {
        assert!(follow(&bench.engine, named(pipeline, job, step_run)).await.unwrap().is_none(), "{pipeline} {job} {step_run}");
    }
}

#[tokio::test]
async fn who_is_too_slow_is_shown_how_it_is_instead_of_what_was_missed() {
    let bench = Bench::one().await;
    let pipeline = bench.pipeline(TWO).await;
    bench.trigger(&pipeline).await;
    let id = bench.take("x", 1).await[0].1.clone();
    let mut feed = follow(&bench.engine, named("-", "-", &id)).await.unwrap().unwrap();
    assert!(matches!(next(&mut feed).await, Some(Told::Snapshot(row)) if row["status"] == 2));
    bench.report("x", &id, StepRunStatus::Running).await.unwrap();
    bench.report("x", &id, StepRunStatus::Failed).await.unwrap();
    // More changes than the channel holds.
    for _ in 0..2_000 {
        bench.run(TWO).await;
    }
    assert!(matches!(next(&mut feed).await, Some(Told::Snapshot(row)) if row["status"] == 5));
    assert_eq!(next(&mut feed).await, None);
}
