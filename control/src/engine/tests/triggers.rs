//! What begins runs.

use super::*;

#[tokio::test]
async fn one_request_id_a_hundred_times_at_once_gives_one_run() {
    for bench in Bench::all().await {
        let pipeline = bench.pipeline(ONE).await;
        let trigger = Trigger { pipeline_id: pipeline.clone(), request_id: "r".into(), ..Trigger::default() };
        let asked = (0..100).map(|_| {
            let (engine, trigger) = (bench.engine.clone(), trigger.clone());
            tokio::spawn(async move { engine.trigger(trigger).await.unwrap() })
        });
        let answers = futures_util::future::join_all(asked.collect::<Vec<_>>()).await;
        let answers: Vec<Triggered> = answers.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| answer.run_id == answers[0].run_id));
        assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
        assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 1);
        assert_eq!(bench.number("SELECT total_runs FROM t_pipeline").await, 1);
        // Another pipeline's requests are others; those without an id are all different.
        let other = bench.pipeline(ONE).await;
        let of_other = bench.engine.trigger(Trigger { pipeline_id: other.clone(), ..trigger }).await.unwrap();
        assert!(!of_other.repeated && bench.trigger(&other).await != bench.trigger(&other).await);
    }
}

/// The constraint decides, not what the engine has looked for before.
#[tokio::test]
async fn a_request_that_another_writer_has_served_is_a_repeat() {
    for bench in Bench::all().await {
        let pipeline = bench.pipeline(ONE).await;
        let run = bench.trigger(&pipeline).await;
        // As if a row had come in between: the insert meets it.
        let loaded = {
            let mut read = bench.fresh.database.read().await.unwrap();
            rows::Loaded::load(&mut read, &run, &mut specs::Specs::default()).await.unwrap().unwrap()
        };
        bench.task.abort();
        let mut writer = loop {
            if let Ok(writer) = bench.fresh.database.writer().await {
                break writer;
            }
        };
        let mut transaction = writer.begin().await.unwrap();
        let variables = HashMap::new();
        let mut about = rows::NewRun {
            request_id: Some("r"),
            pipeline_name: "",
            branch: "",
            commit: "",
            definition_id: "",
            definition_commit: "",
            definition_path: "",
            trigger_type: 1,
            triggered_by: "",
            event: "",
            variables: &variables,
        };
        let mut inserted = Vec::new();
        for id in ["first", "second", "third"] {
            let mut other =
                rows::Loaded::new(loaded.run.clone(), loaded.spec.clone(), loaded.head.clone(), &mut || format!("{id}j"));
            other.head.run_id = id.into();
            other.steps[0][0].step_run_id = id.into();
            inserted.push(other.insert(&mut transaction, &about, 0).await.unwrap());
            if id == "second" {
                about.request_id = None;
            }
        }
        assert_eq!(inserted, [true, false, true]);
    }
}

#[tokio::test]
async fn what_cannot_run_is_refused() {
    let bench = Bench::one().await;
    let unknown = bench.engine.trigger(Trigger { pipeline_id: "none".into(), ..Trigger::default() }).await.unwrap_err();
    assert!(matches!(unknown, EngineError::Refused(Refusal::Unknown(_))));
    let pipeline = bench.pipeline(ONE).await;
    let changes = crate::pipelines::Changes { pipeline_id: pipeline.clone(), enabled: Some(false), ..Default::default() };
    bench.engine.ask(Command::Pipeline(Write::Update(Box::new(changes)))).await.unwrap();
    let disabled = bench.engine.trigger(Trigger { pipeline_id: pipeline, ..Trigger::default() }).await.unwrap_err();
    assert!(disabled.to_string().ends_with("is disabled; enable it first"), "{disabled}");
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 0);
}

#[tokio::test]
async fn trigger_variables_reach_the_run_also_after_a_restart() {
    let mut bench = Bench::one().await;
    let pipeline =
        bench.pipeline("variables: {A: '1'}\njobs: [{name: j, steps: [{name: s, uses: shell, args: {x: '${A}'}}]}]").await;
    let variables = [("A".to_owned(), "2".to_owned())].into();
    bench.engine.trigger(Trigger { pipeline_id: pipeline, variables, ..Trigger::default() }).await.unwrap();
    bench.restart().await;
    let given = bench.fetch("x", 1).await.remove(0);
    assert_eq!(given.args.unwrap().fields["x"].kind, Some(prost_types::value::Kind::StringValue("2".into())));
}

const EVERY_MINUTE: &str =
    "triggers: [{type: cron, options: {expression: '* * * * *'}}]\njobs: [{name: j, steps: [{name: s, uses: shell}]}]";

#[tokio::test]
async fn a_schedule_fires_in_time_and_catches_up_once_after_a_stop() {
    for mut bench in Bench::all().await {
        let runs = "SELECT COUNT(*) FROM t_pipeline_run";
        let pipeline = bench.pipeline(EVERY_MINUTE).await;
        // BEGIN is 40 s before a full minute.
        bench.pass(19_999 + 20_000).await;
        assert_eq!(bench.number(runs).await, 0);
        bench.pass(1).await;
        assert_eq!(bench.number(runs).await, 1);
        assert_eq!(bench.number("SELECT since FROM t_cron_mark").await, BEGIN + 40_000);
        bench.restart().await;
        bench.pass(59_999).await;
        assert_eq!(bench.number(runs).await, 1, "fired already");
        bench.task.abort();
        bench.clock.advance(3 * 3_600_000);
        bench.restart().await;
        bench.pass(0).await;
        assert_eq!(bench.number(runs).await, 2, "three hours are caught up by one run");
        bench.pass(60_000).await;
        assert_eq!(bench.number(runs).await, 3);
        let ids = bench.texts("SELECT request_id FROM t_pipeline_run ORDER BY created_at").await;
        assert_eq!(ids.iter().filter(|id| id.starts_with(&format!("cron:{pipeline}:2026"))).count(), 3, "{ids:?}");
    }
}

#[tokio::test]
async fn disabling_a_pipeline_stops_its_schedule_and_what_it_missed_is_not_caught_up() {
    let mut bench = Bench::one().await;
    let pipeline = bench.pipeline(EVERY_MINUTE).await;
    let enable = |enabled| {
        let changes = crate::pipelines::Changes { pipeline_id: pipeline.clone(), enabled: Some(enabled), ..Default::default() };
        Command::Pipeline(Write::Update(Box::new(changes)))
    };
    bench.engine.ask(enable(false)).await.unwrap();
    bench.pass(600_000).await;
    bench.restart().await;
    bench.engine.ask(enable(true)).await.unwrap();
    bench.pass(0).await;
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 0);
    bench.pass(60_000).await;
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 1);
    bench.save(&pipeline, ONE).await;
    bench.pass(600_000).await;
    assert_eq!(bench.number("SELECT COUNT(*) FROM t_pipeline_run").await, 1, "the new definition has no schedule");
}
