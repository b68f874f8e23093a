//! A run from its trigger to its end.

use super::*;

#[tokio::test]
async fn a_run_goes_from_its_trigger_to_its_end() {
    for bench in Bench::all().await {
        let run = bench.run(DIAMOND).await;
        assert_eq!(bench.status(&run).await, PipelineStatus::Running);
        bench.clock.advance(1_000);
        let names = bench.work("x", succeed).await;
        assert_eq!(names, ["a.s", "a.t", "b.s", "c.s", "d.s"]);
        let row = "SELECT total_jobs * 1000000 + completed_jobs * 10000 + failed_jobs * 100 + running_jobs FROM t_pipeline_run";
        assert_eq!((bench.status(&run).await, bench.number(row).await), (PipelineStatus::Success, 4_040_000));
        assert_eq!(bench.number("SELECT duration FROM t_pipeline_run").await, 1_000);
        let pipeline = "SELECT total_runs * 100 + success_runs * 10 + failed_runs FROM t_pipeline";
        assert_eq!(bench.number(pipeline).await, 110);
        let jobs = "SELECT SUM(completed_steps * 100 + status) FROM t_job_run";
        assert_eq!(bench.number(&format!("SELECT CAST(({jobs}) AS BIGINT)")).await, 516);
    }
}

#[tokio::test]
async fn the_engine_may_be_killed_after_each_step() {
    for mut bench in Bench::all().await {
        let run = bench.run(DIAMOND).await;
        let mut names = Vec::new();
        while bench.status(&run).await != PipelineStatus::Success {
            bench.restart().await;
            for (name, id) in bench.take("x", 1).await {
                bench.restart().await;
                assert!(bench.report("x", &id, StepRunStatus::Running).await.unwrap());
                bench.restart().await;
                assert!(bench.report("x", &id, StepRunStatus::Success).await.unwrap());
                names.push(name);
            }
        }
        names.sort();
        assert_eq!(names, ["a.s", "a.t", "b.s", "c.s", "d.s"]);
    }
}

#[tokio::test]
async fn a_failed_step_is_tried_again_after_its_delay_under_another_id() {
    for mut bench in Bench::all().await {
        let run = bench.run("jobs: [{name: j, retry: {max_attempts: 2, delay: 30s}, steps: [{name: s, uses: shell}]}]").await;
        let first = bench.take("x", 9).await.remove(0).1;
        let report = Report {
            step_run_id: first.clone(),
            agent_id: "x".into(),
            status: StepRunStatus::Failed,
            exit_code: Some(3),
            message: "no".into(),
            ..Report::default()
        };
        assert!(bench.engine.report(report).await.unwrap());
        bench.pass(29_999).await;
        assert!(bench.take("x", 9).await.is_empty());
        bench.restart().await;
        bench.pass(1).await;
        let second = bench.take("x", 9).await.remove(0).1;
        assert_ne!(first, second);
        bench.report("x", &second, StepRunStatus::Success).await.unwrap();
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
        let old = format!("SELECT exit_code * 100 + attempt * 10 + is_current FROM t_step_run WHERE step_run_id = '{first}'");
        assert_eq!(bench.number(&old).await, 310);
        assert_eq!(bench.texts("SELECT error_message FROM t_step_run ORDER BY attempt").await, ["no", ""]);
    }
}

#[tokio::test]
async fn a_paused_run_hands_out_nothing_that_was_not_handed_out() {
    for mut bench in Bench::all().await {
        let run =
            bench.run("jobs: [{name: a, steps: [{name: s, uses: shell}]}, {name: b, steps: [{name: s, uses: shell}]}]").await;
        let a = bench.take("x", 1).await.remove(0).1;
        bench.engine.run(&run, OfRun::Pause("lunch".into())).await.unwrap();
        assert!(bench.take("y", 9).await.is_empty());
        bench.restart().await;
        assert!(bench.take("y", 9).await.is_empty());
        bench.report("x", &a, StepRunStatus::Success).await.unwrap();
        let refused = bench.engine.run(&run, OfRun::Pause(String::new())).await.unwrap_err();
        assert_eq!(refused.to_string(), "the run is paused, so that it can not be paused");
        bench.engine.run(&run, OfRun::Resume(String::new())).await.unwrap();
        assert_eq!(bench.work("y", succeed).await, ["b.s"]);
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
    }
}

#[tokio::test]
async fn a_cancel_reaches_the_agents_and_ends_what_waits() {
    for bench in Bench::all().await {
        let text = "jobs: [{name: a, steps: [{name: s, uses: shell}]}, {name: b, steps: [{name: s, uses: shell}]}, \
                    {name: c, steps: [{name: s, uses: shell}]}]";
        let run = bench.run(text).await;
        let (running, handed) = (bench.take("x", 1).await.remove(0).1, bench.take("y", 1).await.remove(0).1);
        bench.report("x", &running, StepRunStatus::Running).await.unwrap();
        let mut changes = bench.engine.changes();
        bench.engine.run(&run, OfRun::Cancel("enough".into())).await.unwrap();
        let mut stops = Vec::new();
        while let Ok(update) = changes.try_recv() {
            if let Moved::Stop { agent_id, step_run_id, reason } = &update.what {
                assert_eq!(reason, "enough");
                stops.push((agent_id.clone(), step_run_id.clone()));
            }
        }
        assert_eq!(stops, [("x".to_owned(), running.clone()), ("y".to_owned(), handed.clone())]);
        assert!(bench.take("z", 9).await.is_empty());
        let refused = bench.report("y", &handed, StepRunStatus::Running).await.unwrap_err();
        assert!(refused.to_string().ends_with("is over; do not start it"), "{refused}");
        assert_eq!(bench.status(&run).await, PipelineStatus::Running);
        bench.report("x", &running, StepRunStatus::Cancelled).await.unwrap();
        assert_eq!(bench.status(&run).await, PipelineStatus::Cancelled);
        let refused = bench.engine.run(&run, OfRun::Cancel(String::new())).await.unwrap_err();
        assert_eq!(refused.to_string(), "the run is over, so that it can not be cancelled");
    }
}

#[tokio::test]
async fn jobs_with_one_key_run_one_at_a_time_over_all_runs_and_restarts() {
    for mut bench in Bench::all().await {
        let pipeline = bench
            .pipeline(
                "jobs: [{name: j, concurrency: 'deploy-${branch}', steps: [{name: s, uses: shell}, {name: t, uses: shell}]}]",
            )
            .await;
        let runs = [bench.trigger(&pipeline).await, bench.trigger(&pipeline).await, bench.trigger(&pipeline).await];
        bench.engine.run(&runs[1], OfRun::Cancel(String::new())).await.unwrap();
        for run in [&runs[0], &runs[2]] {
            for _ in 0..2 {
                bench.restart().await;
                let given = bench.fetch("x", 9).await;
                assert_eq!(given.iter().map(|step| &step.pipeline_run_id).collect::<Vec<_>>(), [run]);
                bench.report("x", &given[0].step_run_id, StepRunStatus::Success).await.unwrap();
            }
            assert_eq!(bench.status(run).await, PipelineStatus::Success);
        }
        assert_eq!(bench.number("SELECT COUNT(*) FROM t_job_run WHERE lock_key IS NOT NULL").await, 0);
    }
}

#[tokio::test]
async fn an_approval_is_asked_for_given_and_expires() {
    for mut bench in Bench::all().await {
        let pipeline = bench.pipeline("jobs: [{name: j, approval: {required: true}, steps: [{name: s, uses: shell}]}]").await;
        let runs = [bench.trigger(&pipeline).await, bench.trigger(&pipeline).await, bench.trigger(&pipeline).await];
        assert!(bench.take("x", 9).await.is_empty());
        bench.restart().await;
        bench.engine.job(&runs[0], "j", OfJob::Approve("ann".into())).await.unwrap();
        bench.engine.job(&runs[1], "j", OfJob::Reject("bob: no".into())).await.unwrap();
        assert!(bench.engine.job(&runs[1], "j", OfJob::Approve("ann".into())).await.is_err());
        assert!(bench.engine.job(&runs[1], "k", OfJob::Approve("ann".into())).await.is_err());
        bench.pass(crate::plan::APPROVAL_EXPIRY).await;
        assert_eq!(bench.work("x", succeed).await, ["j.s"]);
        for (run, status) in runs.iter().zip([PipelineStatus::Success, PipelineStatus::Failed, PipelineStatus::Failed]) {
            assert_eq!(bench.status(run).await, status);
        }
        let rows = "SELECT CAST(status AS TEXT) || approved_by || reason FROM t_approval_request ORDER BY status";
        assert_eq!(bench.texts(rows).await, ["1ann", "2bob: no", "3"]);
    }
}

#[tokio::test]
async fn a_step_runs_again_after_the_end_under_another_id() {
    for mut bench in Bench::all().await {
        let run = bench.run(DIAMOND).await;
        bench.work("x", |name| if name == "b.s" { StepRunStatus::Failed } else { StepRunStatus::Success }).await;
        assert_eq!(bench.status(&run).await, PipelineStatus::Failed);
        bench.restart().await;
        let old = bench.texts("SELECT step_run_id FROM t_step_run WHERE job_name = 'b'").await.remove(0);
        let new = bench.engine.retry_step(&old, "flaky".into()).await.unwrap();
        assert_ne!(old, new);
        assert!(bench.engine.retry_step(&old, String::new()).await.unwrap_err().to_string().contains(&new));
        assert_eq!(bench.work("x", succeed).await, ["b.s", "d.s"]);
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
        let pipeline = "SELECT total_runs * 100 + success_runs * 10 + failed_runs FROM t_pipeline";
        assert_eq!(bench.number(pipeline).await, 110);
        let head = "SELECT completed_jobs * 10 + failed_jobs FROM t_pipeline_run";
        assert_eq!(bench.number(head).await, 40);
    }
}

#[tokio::test]
async fn the_engine_goes_on_when_the_database_threw_it_out() {
    for bench in Bench::all().await {
        if matches!(bench.fresh.location, crate::db::Location::File(_)) {
            continue;
        }
        let run = bench.run(DIAMOND).await;
        for _ in 0..5 {
            let others = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
                          WHERE datname = current_database() AND pid <> pg_backend_pid()";
            assert!(bench.number(others).await > 0);
            let fetch = || Fetch { agent_id: "x".into(), most: 1, capacity: 9, ..Fetch::default() };
            let mut given = Err(EngineError::Ended);
            eventually(async || {
                given = bench.engine.fetch(fetch()).await;
                assert!(matches!(given, Ok(_) | Err(EngineError::Unavailable(_))), "{given:?}");
                given.is_ok()
            })
            .await;
            for step in given.unwrap() {
                bench.report("x", &step.step_run_id, StepRunStatus::Success).await.unwrap();
            }
        }
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
    }
}

#[tokio::test]
async fn a_damaged_run_fails_its_own_requests_and_nobody_elses() {
    let mut bench = Bench::one().await;
    let (damaged, pipeline) = (bench.run(ONE).await, bench.pipeline(ONE).await);
    bench.task.abort();
    let mut writer = bench.fresh.database.writer().await.unwrap();
    let mut transaction = writer.begin().await.unwrap();
    let damage = "UPDATE t_pipeline_run SET state = '{' WHERE run_id = $1";
    sqlx::query(damage).bind(&*damaged).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    bench.restart().await;
    let cancels = (0..3).map(|_| bench.engine.run(&damaged, OfRun::Cancel(String::new())));
    let triggers = (0..20).map(|_| bench.trigger(&pipeline));
    let (cancelled, triggered) =
        futures_util::future::join(futures_util::future::join_all(cancels), futures_util::future::join_all(triggers)).await;
    assert!(cancelled.iter().all(|answer| matches!(answer, Err(EngineError::Broken(_)))), "{cancelled:?}");
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 1 + i64::try_from(triggered.len()).unwrap());
}
