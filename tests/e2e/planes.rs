//! Both planes in one binary: what the control plane does is seen by readers, in the event log and by sinks; a stop ends what has no end.

use arcgate_api::agent::v1::StepRun;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_load::control::{ScriptedAgent, job, pipeline, trigger};
use serde_json::{Value, json};

use crate::clickhouse;
use crate::harness::services::ClickHouse;
use crate::harness::{Outcome, Reader, Rig, SOON, events, logs, run, within};

/// A run whose one step an agent was given.
async fn given(rig: &Rig) -> Outcome<(ScriptedAgent, StepRun)> {
    let channel = rig.gateway.channel()?;
    let pipeline = pipeline(&channel, "planes", vec![job("job")]).await?;
    trigger(&channel, &pipeline, "").await?;
    let mut agent = ScriptedAgent::open(&channel).await?;
    let step_run = within(SOON, "work", agent.given()).await?;
    Ok((agent, step_run))
}

/// Reports, and waits for the yes.
async fn report(agent: &mut ScriptedAgent, step_run: &StepRun, status: StepRunStatus) -> Outcome<()> {
    let name = agent.report(&step_run.step_run_id, status).await?;
    within(SOON, "an answer", async {
        while agent.hear().await?.response_id != name {}
        Ok(())
    })
    .await
}

/// Lines of a step run, of an agent that counts them.
async fn push(rig: &Rig, agent: &ScriptedAgent, step_run: &StepRun, lines: u64) -> Outcome<()> {
    let text: String = (1..=lines).map(|number| format!("line {number}\n")).collect();
    let mut batch = logs::batch(&agent.id, &step_run.step_run_id, 1, text);
    batch.first_line = 1;
    assert_eq!(logs::push(rig.gateway.channel()?, &agent.id, [batch]).await?.taken, lines);
    Ok(())
}

async fn next_of(reader: &mut Reader, kind: &str) -> Outcome<Value> {
    let message = reader.soon().await?;
    if message.kind == kind { Ok(message.data) } else { Err(format!("{kind} was expected, {message:?} came").into()) }
}

#[test]
fn whoever_watches_a_step_run_in_a_browser_is_told_each_change_by_either_name() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start().await?;
        let (mut agent, step_run) = given(&rig).await?;
        let job = format!("{}-job", step_run.pipeline_id);
        let mut watchers = Vec::new();
        for name in [step_run.step_run_id.clone(), format!("{job}-step")] {
            let params = json!({ "pipelineId": step_run.pipeline_id, "jobId": job, "stepRunId": name });
            let mut watcher = Reader::connect(rig.http(), None).await?;
            watcher.send(&json!({ "channel": "channel_status", "params": params }).to_string()).await?;
            let row = next_of(&mut watcher, "status_snapshot").await?;
            assert_eq!((&row["stepRunId"], &row["status"]), (&json!(step_run.step_run_id), &json!(2)));
            watchers.push((watcher, name));
        }
        for (status, word) in [(StepRunStatus::Running, "started"), (StepRunStatus::Success, "completed")] {
            report(&mut agent, &step_run, status).await?;
            for (watcher, name) in &mut watchers {
                let told = next_of(watcher, "status").await?;
                assert_eq!((&told["status"], &told["stepRunId"]), (&json!(word), &json!(name)));
                assert_eq!(told["eventType"], format!("arcentra.step.{word}"));
                assert_eq!(told["raw"]["stepRunId"], json!(step_run.step_run_id));
            }
        }
        let unknown = json!({ "pipelineId": "p", "jobId": "j", "stepRunId": step_run.step_run_id });
        let (watcher, _) = &mut watchers[0];
        watcher.send(&json!({ "channel": "channel_status", "params": unknown }).to_string()).await?;
        assert_eq!(watcher.soon().await?.error.as_deref(), Some("step run not found"));
        Ok(())
    })
}

#[test]
fn a_log_ends_with_its_step_run_though_its_agent_never_says_so() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start().await?;
        let (mut agent, step_run) = given(&rig).await?;
        report(&mut agent, &step_run, StepRunStatus::Running).await?;
        push(&rig, &agent, &step_run, 3).await?;
        let place = json!({ "pipelineId": step_run.pipeline_id, "jobId": "-" });
        let mut reader = Reader::follow_with(rig.http(), &step_run.step_run_id, place).await?;
        let mut lines = 0;
        while lines < 3 {
            lines += reader.soon().await?.entries()?.len();
        }
        report(&mut agent, &step_run, StepRunStatus::Success).await?;
        within(SOON, "eof", async {
            while reader.next().await?.kind != "eof" {}
            Ok(())
        })
        .await
    })
}

#[test]
fn an_agents_output_in_events_reaches_no_step_run_of_another_agent() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start().await?;
        let (mut agent, step_run) = given(&rig).await?;
        report(&mut agent, &step_run, StepRunStatus::Running).await?;
        let output = |sender: &str, seq: u64, content: &str| {
            let payload = json!({ "type": "arcentra.task.log", "data": { "content": content, "stream": "stdout" } });
            let mut event = events::event(sender, format!("log-{seq}"), seq, "arcentra.task.log", &payload);
            event.meta.get_or_insert_default().step_id.clone_from(&step_run.step_run_id);
            event
        };
        for (sender, content) in [("somebody-else", "planted\n"), (agent.id.as_str(), "own\n")] {
            let ack = events::push(rig.gateway.channel()?, sender, 0, vec![output(sender, 1, content)]).await?;
            assert_eq!(ack.last_accepted_seq, 1);
        }
        // Events become lines in the order in which they came.
        let place = json!({ "pipelineId": "-", "jobId": "-" });
        let mut reader = Reader::follow_with(rig.http(), &step_run.step_run_id, place).await?;
        let first = loop {
            if let Some(first) = reader.soon().await?.entries()?.into_iter().next() {
                break first;
            }
        };
        assert_eq!((first.line_number, first.content.as_str()), (1, "own"));
        Ok(())
    })
}

#[test]
fn a_stop_tells_agents_to_come_back_and_a_start_goes_on_with_their_runs() -> Outcome<()> {
    run(120, async {
        let mut rig = Rig::start().await?;
        let (mut agent, step_run) = given(&rig).await?;
        let watched = json!({ "pipelineId": "-", "jobId": "-", "stepRunId": step_run.step_run_id });
        rig.gateway.signal("TERM")?;
        let told = within(SOON, "the channel's end", async {
            loop {
                if let Err(why) = agent.hear().await {
                    return Ok(why.to_string());
                }
            }
        });
        let told = told.await?;
        assert!(told.contains("the gateway is stopping; connect again"), "{told}");
        assert!(rig.gateway.wait().await?.success());
        let log = rig.gateway.stderr();
        assert!(!log.contains("did not end in time"), "{log}");

        rig.gateway.restart().await?;
        let mut watcher = Reader::connect(rig.http(), None).await?;
        watcher.send(&json!({ "channel": "channel_status", "params": watched }).to_string()).await?;
        assert_eq!(next_of(&mut watcher, "status_snapshot").await?["status"], 2, "it is still its agent's");
        Ok(())
    })
}

#[test]
fn the_lines_in_clickhouse_name_their_job_and_the_events_of_the_run_are_there_once() -> Outcome<()> {
    run(240, async {
        let server = ClickHouse::shared()?;
        let rig = clickhouse::rig(server.url(), "planes", &[]).await?;
        let (mut agent, step_run) = given(&rig).await?;
        report(&mut agent, &step_run, StepRunStatus::Running).await?;
        push(&rig, &agent, &step_run, 5).await?;
        report(&mut agent, &step_run, StepRunStatus::Success).await?;
        let (id, pipeline) = (&step_run.step_run_id, &step_run.pipeline_id);
        let lines = format!("SELECT count(), any(pipeline_id), any(job_id) FROM planes.logs WHERE step_run_id = '{id}'");
        clickhouse::answers(server, &lines, &format!("5\t{pipeline}\t{pipeline}-job")).await?;
        let kinds = "SELECT arrayStringConcat(arraySort(groupArray(concat(type, ' ', agent_id))), ',') FROM planes.events \
                     WHERE type LIKE 'arcentra.step.%' OR type LIKE 'arcentra.pipeline.%'";
        let expected = ["pipeline.completed", "pipeline.started", "step.completed", "step.queued", "step.started"];
        let expected: Vec<String> = expected.iter().map(|kind| format!("arcentra.{kind} arcgate")).collect();
        clickhouse::answers(server, kinds, &expected.join(",")).await
    })
}
