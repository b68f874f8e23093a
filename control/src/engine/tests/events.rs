//! The relay of the outbox, and the cursor over accepted events.

use super::*;

/// An event log in memory that fails now and then after it has appended.
#[derive(Default)]
struct Log {
    events: std::sync::Arc<tokio::sync::watch::Sender<Vec<Event>>>,
    fails: std::sync::atomic::AtomicU32,
}

impl Log {
    fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }
}

impl EventLog for Log {
    async fn append(&self, events: Vec<Event>) -> Result<(), LogError> {
        self.events.send_modify(|all| {
            for event in events {
                if !all.iter().any(|one| one.event_id == event.event_id) {
                    all.push(event);
                }
            }
        });
        let fail = |left: u32| left.checked_sub(1);
        let (now, then) = (std::sync::atomic::Ordering::Relaxed, std::sync::atomic::Ordering::Relaxed);
        if self.fails.fetch_update(now, then, fail).is_ok() { Err(LogError("no answer".into())) } else { Ok(()) }
    }
}

#[tokio::test]
async fn each_event_reaches_the_log_once_in_order_and_leaves_the_outbox_after_the_ack() {
    for mut bench in Bench::all().await {
        bench.run(DIAMOND).await;
        bench.work("x", succeed).await;
        let waiting = "SELECT COUNT(*) FROM t_outbox";
        assert!(bench.number(waiting).await > 10);
        bench.restart().await;
        let log = Arc::new(Log { fails: 1.into(), ..Log::default() });
        let relay = tokio::spawn(bench.engine.clone().relay(log.clone()));
        eventually(async || bench.number(waiting).await == 0).await;
        bench.run(ONE).await;
        eventually(async || bench.number(waiting).await == 0).await;
        let events = log.events();
        let types: Vec<&str> = events.iter().map(|event| event.event_type.strip_prefix("arcentra.").unwrap()).collect();
        assert_eq!(
            types[..6],
            ["pipeline.started", "step.queued", "job.started", "step.started", "step.completed", "step.queued"]
        );
        assert_eq!(types.iter().filter(|kind| **kind == "pipeline.completed").count(), 1);
        assert!(events.is_sorted_by_key(|event| event.seq));
        drop(bench.engine);
        relay.abort();
    }
}

#[tokio::test]
async fn an_event_says_what_happened_to_what_and_shows_no_variables() {
    let bench = Bench::one().await;
    let text = "version: 1.2.3\nvariables: {PASSWORD: hunter2}\njobs: [{name: j, steps: [{name: s, uses: shell}]}]";
    let run = bench.run(text).await;
    let id = bench.take("x", 1).await.remove(0).1;
    let report = Report {
        step_run_id: id.clone(),
        agent_id: "x".into(),
        status: StepRunStatus::Failed,
        exit_code: Some(2),
        message: "bad".into(),
        ..Report::default()
    };
    bench.engine.report(report).await.unwrap();
    let payloads = bench.texts("SELECT payload FROM t_outbox ORDER BY seq").await;
    assert!(payloads.iter().all(|payload| !payload.contains("hunter2")));
    let find = |kind: &str| -> serde_json::Value {
        let all = payloads.iter().map(|payload| serde_json::from_str::<serde_json::Value>(payload).unwrap());
        all.into_iter().find(|event| event["type"] == kind).unwrap()
    };
    let step = find("arcentra.step.failed");
    assert_eq!(step["subject"], "pipeline:ns:job:j:step:s");
    assert_eq!(step["data"], serde_json::json!({"status": "failed", "runId": run, "error": "bad", "exitCode": 2, "attempt": 1}));
    assert_eq!((&step["stepRunId"], &step["agentId"], &step["specversion"]), (&id.into(), &"x".into(), &"1.0".into()));
    assert_eq!(step["time"], "2026-09-21T14:13:20Z");
    let pipeline = find("arcentra.pipeline.failed");
    assert_eq!((&pipeline["subject"], &pipeline["data"]["jobCount"]), (&"pipeline:ns".into(), &1.into()));
    assert_eq!((&pipeline["pipelineVersion"], &pipeline["projectId"]), (&"1.2.3".into(), &"p".into()));
}

/// A feed of events in memory; the cursor is how many were read.
struct Feed(tokio::sync::watch::Sender<Vec<Accepted>>);

impl EventFeed for Feed {
    async fn read(&self, after: Option<String>) -> Result<Portion, LogError> {
        let at: usize = after.map_or(0, |after| after.parse().unwrap());
        let mut events = self.0.subscribe();
        let events = events.wait_for(|events| events.len() > at).await.map_err(|_| LogError("gone".into()))?;
        let some: Vec<Accepted> = events[at..].iter().take(2).cloned().collect();
        Ok(Portion { next: (at + some.len()).to_string(), passed: some.len(), events: some })
    }
}

fn push(feed: &Feed, kind: &str, content: &str) {
    push_by(feed, "scm", kind, content);
}

fn push_by(feed: &Feed, agent_id: &str, kind: &str, content: &str) {
    feed.0.send_modify(|events| {
        let event_id = format!("e{}", events.len());
        let agent_id = agent_id.to_owned();
        events.push(Accepted {
            agent_id,
            event_id,
            step_run_id: String::new(),
            event_type: format!("arcentra.{kind}"),
            payload: content.into(),
        });
    });
}

const ON_PUSH: &str = "triggers: [{type: event, options: {event_type: push, branch: 'release/*'}}]\n\
                       jobs: [{name: j, when: \"branch == 'release/1' && event == 'push'\", steps: [{name: s, uses: shell}]}]";

#[tokio::test]
async fn an_accepted_event_fires_what_matches_once_through_restarts() {
    for mut bench in Bench::all().await {
        bench.pipeline(ON_PUSH).await;
        let feed = Arc::new(Feed(tokio::sync::watch::Sender::new(Vec::new())));
        let push_of = |project: &str, reference: &str| {
            format!("{{\"data\": {{\"projectId\": \"{project}\", \"ref\": \"{reference}\", \"commit\": \"c0ffee\"}}}}")
        };
        for (kind, project, reference) in [
            ("scm.push", "p", "refs/heads/main"),
            ("scm.tag", "p", "refs/heads/release/1"),
            ("task.log", "p", "refs/heads/release/1"),
            ("scm.push", "q", "refs/heads/release/1"),
            ("scm.push", "p", "refs/heads/release/1"),
        ] {
            push(&feed, kind, &push_of(project, reference));
        }
        push(&feed, "scm.push", "no JSON");
        let mut follower = tokio::spawn(bench.engine.clone().follow(feed.clone()));
        let runs = "SELECT COUNT(*) FROM t_pipeline_run";
        eventually(async || bench.number(runs).await == 1).await;
        for restarts in 0..3 {
            follower.abort();
            bench.restart().await;
            // What was read before, as if its ack had been lost; and what is new.
            let cursor = "SELECT position FROM t_cursor";
            let before = bench.texts(cursor).await;
            bench.engine.accept(vec![], Some("0".into()), "1".into()).await.unwrap();
            assert_eq!(bench.texts(cursor).await, before, "the cursor went back");
            follower = tokio::spawn(bench.engine.clone().follow(feed.clone()));
            push(&feed, "scm.push", &push_of("p", "release/1"));
            eventually(async || bench.number(runs).await == 2 + restarts).await;
        }
        let row = bench.texts("SELECT branch || ' ' || commit_sha || ' ' || event FROM t_pipeline_run").await;
        assert!(row.iter().all(|row| row == "release/1 c0ffee push"), "{row:?}");
        assert_eq!(bench.number("SELECT COUNT(*) FROM t_job_run WHERE status = 2").await, 4);
        follower.abort();
    }
}

#[tokio::test]
async fn artifacts_are_kept_once_of_the_agent_that_has_the_step_run() {
    for bench in Bench::all().await {
        bench.run(ONE).await;
        let id = bench.take("x", 1).await[0].1.clone();
        let feed = Arc::new(Feed(tokio::sync::watch::Sender::new(Vec::new())));
        let artifact = |step_run: &str, name: &str| {
            format!(
                "{{\"specversion\": \"1.0\", \"stepRunId\": \"{step_run}\", \"data\": {{\"name\": \"{name}\", \"path\": \"out/a\", \
                 \"size\": 7.0, \"uri\": \"file:///a\", \"expireDays\": 2}}}}"
            )
        };
        push_by(&feed, "x", "task.artifact", &artifact(&id, "a"));
        push_by(&feed, "y", "task.artifact", &artifact(&id, "planted"));
        push_by(&feed, "x", "artifact.uploaded", &artifact("no such step run", "b"));
        push_by(&feed, "x", "task.artifact", &artifact(&id, ""));
        push_by(&feed, "x", "task.artifact", "no JSON");
        push_by(&feed, "x", "artifact.uploaded", &artifact(&id, "c"));
        let follower = tokio::spawn(bench.engine.clone().follow(feed));
        let kept = "SELECT name || ' ' || path || ' ' || storage_path || ' ' || size || ' ' || (expired_at - created_at) \
                    FROM t_step_run_artifact ORDER BY name";
        eventually(async || bench.texts(kept).await.len() == 2).await;
        assert_eq!(bench.texts(kept).await, ["a out/a file:///a 7 172800000", "c out/a file:///a 7 172800000"]);
        follower.abort();
    }
}
