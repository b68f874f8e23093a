//! Handing out, reports, and agents that are lost.

use super::*;

#[tokio::test]
async fn a_step_is_handed_out_once_with_its_values_filled_in() {
    for mut bench in Bench::all().await {
        let text = "variables: {A: '1'}\njobs: [{name: j, env: {J: 'j${A}'}, steps: [{name: s, uses: shell, args: {script: 'echo ${{ A }} ${{ branch }}'}}]}]";
        bench.run(text).await;
        let given = bench.fetch("x", 9).await.remove(0);
        assert_eq!((&*given.env["J"], &*given.env["A"], &*given.job_name), ("j1", "1", "j"));
        let script = given.args.unwrap().fields["script"].clone();
        assert_eq!(script.kind, Some(prost_types::value::Kind::StringValue("echo 1 main".into())));
        assert!(bench.fetch("y", 9).await.is_empty());
        bench.restart().await;
        assert!(bench.fetch("y", 9).await.is_empty());
    }
}

#[tokio::test]
async fn an_agent_is_given_no_more_than_it_has_room_for() {
    let mut bench = Bench::one().await;
    let jobs: Vec<String> = (0..5).map(|job| format!("{{name: j{job}, steps: [{{name: s, uses: shell}}]}}")).collect();
    bench.run(&format!("jobs: [{}]", jobs.join(", "))).await;
    let fetch = |most| Fetch { agent_id: "x".into(), labels: HashMap::new(), most, capacity: 3 };
    let first = bench.engine.fetch(fetch(2)).await.unwrap();
    assert_eq!(first.len(), 2);
    bench.restart().await;
    assert_eq!(bench.engine.fetch(fetch(9)).await.unwrap().len(), 1);
    assert_eq!(bench.engine.fetch(fetch(9)).await.unwrap().len(), 0);
    bench.report("x", &first[0].step_run_id, StepRunStatus::Success).await.unwrap();
    assert_eq!(bench.engine.fetch(fetch(9)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn steps_go_only_to_agents_whose_labels_match() {
    let bench = Bench::one().await;
    let text = "jobs: [{name: j, steps: [{name: s, uses: shell, agent_selector: {match_labels: {os: linux}, \
                match_expressions: [{key: cpus, operator: Gt, values: ['4']}]}}]}]";
    bench.run(text).await;
    let fetch = |labels: &[(&str, &str)]| Fetch {
        agent_id: "x".into(),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        most: 9,
        capacity: 9,
    };
    assert!(bench.engine.fetch(fetch(&[])).await.unwrap().is_empty());
    assert!(bench.engine.fetch(fetch(&[("os", "linux"), ("cpus", "4")])).await.unwrap().is_empty());
    assert_eq!(bench.engine.fetch(fetch(&[("os", "linux"), ("cpus", "16")])).await.unwrap().len(), 1);
}

#[tokio::test]
async fn reports_count_by_the_rule() {
    use StepRunStatus as S;
    for bench in Bench::all().await {
        let run = bench.run(ONE).await;
        let id = bench.take("x", 1).await.remove(0).1;
        assert!(matches!(bench.report("y", &id, S::Running).await, Err(EngineError::Refused(Refusal::Forbidden(_)))));
        assert!(matches!(bench.report("x", "none", S::Running).await, Err(EngineError::Refused(Refusal::Unknown(_)))));
        for (status, changes) in [(S::Queued, false), (S::Running, true), (S::Running, false), (S::Success, true)] {
            assert_eq!(bench.report("x", &id, status).await, Ok(changes), "{status:?}");
        }
        for late in [S::Success, S::Failed, S::Cancelled, S::Pending] {
            assert_eq!(bench.report("x", &id, late).await, Ok(false));
        }
        assert!(matches!(bench.report("x", &id, S::Running).await, Err(EngineError::Refused(Refusal::Conflict(_)))));
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
        let unclaimed = bench.run(ONE).await;
        let id =
            bench.texts(&format!("SELECT step_run_id FROM t_step_run WHERE pipeline_run_id = '{unclaimed}'")).await.remove(0);
        assert!(matches!(bench.report("", &id, S::Success).await, Err(EngineError::Refused(Refusal::Forbidden(_)))));
    }
}

#[tokio::test]
async fn an_end_without_a_start_counts_as_both() {
    let bench = Bench::one().await;
    let run = bench.run(ONE).await;
    let id = bench.take("x", 1).await.remove(0).1;
    assert!(bench.report("x", &id, StepRunStatus::Failed).await.unwrap());
    assert_eq!(bench.status(&run).await, PipelineStatus::Failed);
    assert_eq!(bench.texts("SELECT error_message FROM t_job_run").await, ["step 's' failed"]);
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_step_run WHERE start_time IS NOT NULL").await, 1);
}

#[tokio::test]
async fn what_an_agent_does_not_start_in_time_goes_to_another_under_another_id() {
    for mut bench in Bench::all().await {
        let run = bench.run(ONE).await;
        let first = bench.take("x", 1).await.remove(0).1;
        bench.pass(LEASE - 1).await;
        assert!(bench.take("y", 1).await.is_empty());
        bench.restart().await;
        bench.pass(1).await;
        let second = bench.take("y", 1).await.remove(0).1;
        assert_ne!(first, second);
        // The first agent comes back: it must not start, and what it did all the same does not count.
        assert!(bench.report("x", &first, StepRunStatus::Running).await.is_err());
        assert!(!bench.report("x", &first, StepRunStatus::Failed).await.unwrap());
        assert!(bench.report("y", &second, StepRunStatus::Running).await.unwrap());
        bench.pass(10 * LEASE).await;
        assert!(bench.report("y", &second, StepRunStatus::Success).await.unwrap());
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
    }
}

#[tokio::test]
async fn what_an_agent_had_started_is_lost_with_it_and_tried_again_if_the_policy_says_so() {
    for mut bench in Bench::all().await {
        let text = |attempts: u32| {
            format!("jobs: [{{name: j, retry: {{max_attempts: {attempts}}}, steps: [{{name: s, uses: shell}}]}}]")
        };
        let runs = [bench.run(&text(1)).await, bench.run(&text(2)).await];
        for (_, id) in bench.take("x", 9).await {
            bench.report("x", &id, StepRunStatus::Running).await.unwrap();
        }
        bench.restart().await;
        bench.engine.agent_lost("x", "no heartbeat").await.unwrap();
        bench.engine.agent_lost("x", "no heartbeat").await.unwrap();
        assert_eq!(bench.status(&runs[0]).await, PipelineStatus::Failed);
        assert_eq!(bench.status(&runs[1]).await, PipelineStatus::Running);
        let errors = bench.texts("SELECT error_message FROM t_step_run WHERE status = 5").await;
        assert_eq!(errors, ["agent x is lost: no heartbeat", "agent x is lost: no heartbeat"]);
        bench.work("y", succeed).await;
        assert_eq!(bench.status(&runs[1]).await, PipelineStatus::Success);
    }
}

#[tokio::test]
async fn a_running_step_whose_time_is_over_is_stopped_and_ends_even_if_nobody_answers() {
    let mut bench = Bench::one().await;
    let run = bench.run("jobs: [{name: j, steps: [{name: s, uses: shell, timeout: 10s}]}]").await;
    let id = bench.take("x", 1).await.remove(0).1;
    bench.report("x", &id, StepRunStatus::Running).await.unwrap();
    let mut changes = bench.engine.changes();
    bench.pass(10_000).await;
    let stopped = changes.try_recv().unwrap();
    assert!(matches!(&stopped.what, Moved::Stop { agent_id, .. } if agent_id == "x"), "{stopped:?}");
    bench.restart().await;
    bench.pass(crate::plan::STOP_GRACE).await;
    assert_eq!(bench.status(&run).await, PipelineStatus::Failed);
    assert_eq!(bench.number("SELECT status FROM t_step_run").await, i64::from(i32::from(StepRunStatus::Timeout)));
}
