//! What lies in Kafka: exactly what the README says, for consumers that were there before.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::consumer::{Target, assert_ordered, cloud_event, create_topic};
use crate::harness::services::Kafka;
use crate::harness::{Outcome, SOON, events, eventually, logs, output, run, text};

#[test]
fn events_are_cloudevents_in_the_topics_of_their_types_with_headers_to_tell_repeats() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "types");
        let rig = target.gateway().await?;
        let batch = vec![
            cloud_event(
                "a",
                1,
                "arcentra.task.started",
                "pipeline/p/step/build",
                &json!({ "status": "running", "durationMs": 1500 }),
            ),
            cloud_event("a", 2, "arcentra.agent.online", "agent/a", &Value::Null),
            cloud_event("a", 3, "arcentra.artifact.made", "", &json!({})),
            events::event("a", "own-4", 4, "deploy.done", &json!({ "ok": true })),
        ];
        let ack = events::push(rig.gateway.channel()?, "a", 0, batch).await?;
        assert_eq!(ack.last_accepted_seq, 4);

        let task = &target.events("pipeline", 1).await?[0];
        assert_eq!((task.key.as_str(), task.header("arcgate-seq")), ("pipeline/p/step/build", "1"));
        assert_eq!((task.header("arcgate-agent-id"), task.header("arcgate-event-id")), ("a", "evt-1"));
        assert_eq!(task.header("arcgate-digest").len(), 16);
        let expected = concat!(
            r#"{"specversion":"1.0","id":"a-1","source":"urn:arcentra:executor:shell","type":"arcentra.task.started","#,
            r#""time":"2026-03-04T05:06:07.123456789+02:00","datacontenttype":"application/json","#,
            r#""subject":"pipeline/p/step/build","data":{"durationMs":1500,"status":"running"},"#,
            r#""pipelineId":"p","pluginName":"shell","stepId":"build","stepName":"build"}"#
        );
        assert_eq!(task.text, expected);
        assert_eq!(target.events("agent", 1).await?[0].key, "agent/a");
        assert_eq!(target.events("artifact", 1).await?[0].key, "a-3", "without a subject it is the id");
        let own = &target.events("platform", 1).await?[0].json();
        assert_eq!((&own["type"], &own["id"], &own["data"]), (&json!("deploy.done"), &json!("own-4"), &json!({ "ok": true })));
        assert_eq!(own["source"], "urn:arcgate:agent:a");
        Ok(())
    })
}

#[test]
fn lines_are_buildlogmessages_one_a_message_in_their_order() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "lines");
        let rig = target.gateway().await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let mut batch = logs::batch("a", "run-1", 1, "one\n\ntwo \"2\"\n");
        batch.meta.as_mut().unwrap().pipeline_id = "p-1".into();
        session.ask(batch).await?;
        let found = eventually(SOON, "the lines", async || {
            Ok(Some(target.consume("log").unwrap_or_default()).filter(|found| found.len() == 3))
        })
        .await?;
        assert!(found.iter().all(|line| line.key == "p-1::run-1"), "{found:?}");
        let lines: Vec<Value> = found.iter().map(|line| line.json()).collect();
        let numbers: Vec<_> = lines.iter().map(|line| line["lineNumber"].as_u64()).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
        assert_eq!((&lines[0]["content"], &lines[2]["content"]), (&json!("one"), &json!("two \"2\"")));
        assert_eq!(lines[1].get("content"), None, "what is empty is left out");
        assert_eq!((&lines[0]["stepRunId"], &lines[0]["agentId"]), (&json!("run-1"), &json!("a")));
        assert_eq!(lines[0]["timestamp"].as_i64(), lines[0]["timestampMs"].as_i64().map(|millis| millis / 1000));
        Ok(())
    })
}

#[test]
fn a_message_can_be_a_block_of_lines_within_what_the_topic_takes() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "blocks").with("ARCGATE_KAFKA__LOGS", "blocks");
        create_topic(&target.client, &target.topic("log"), &[("max.message.bytes", "20000")]).await?;
        let rig = target.gateway().await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let lines: String = (1..=1000).map(|n| format!("line {n}\n")).collect();
        session.ask(logs::batch("a", "run-1", 1, lines)).await?;
        let numbers_of = |text: &str| -> Vec<u64> {
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["lineNumber"].as_u64().unwrap()).collect()
        };
        let found = eventually(SOON, "the lines", async || {
            let found = target.consume("log").unwrap_or_default();
            Ok((found.iter().map(|block| block.text.lines().count()).sum::<usize>() == 1000).then_some(found))
        })
        .await?;
        assert!(found.len() > 3 && found.len() < 100, "{} messages", found.len());
        for block in &found {
            assert!(block.text.len() <= 20_000);
            assert_eq!(block.header("arcgate-lines"), block.text.lines().count().to_string());
        }
        let numbers: Vec<u64> = found.iter().flat_map(|block| numbers_of(&block.text)).collect();
        assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
        Ok(())
    })
}

#[test]
fn an_event_over_the_topics_limit_is_cut_and_its_lines_are_all_in_the_log_topic() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "large");
        create_topic(&target.client, &target.topic("pipeline"), &[("max.message.bytes", "65536")]).await?;
        let rig = target.gateway().await?;
        let content: String = (1..=20_000).map(|n| format!("this is line number {n} of a long output\n")).collect();
        let data = json!({ "stream": "stdout", "content": content });
        let batch = vec![cloud_event("a", 1, "arcentra.task.log", "pipeline/p/step/build", &data)];
        assert_eq!(events::push(rig.gateway.channel()?, "a", 0, batch).await?.last_accepted_seq, 1);

        let cut = &target.events("pipeline", 1).await?[0];
        assert!(cut.text.len() > 60_000 && cut.text.len() <= 65_536, "{} bytes", cut.text.len());
        let data = &cut.json()["data"];
        assert!(content.starts_with(data["content"].as_str().unwrap()));
        assert_eq!((&data["contentTruncated"], &data["contentBytes"]), (&json!(true), &json!(content.len())));
        let step_run = data["contentStepRunId"].as_str().unwrap().to_owned();
        let lines = eventually(SOON, "the lines", async || {
            Ok(Some(target.consume("log").unwrap_or_default()).filter(|found| found.len() == 20_000))
        })
        .await?;
        assert!(lines.iter().all(|line| line.json()["stepRunId"] == step_run.as_str()));
        assert!(rig.gateway.metric("arcgate_sink_deadletters").await? < 0.5);
        Ok(())
    })
}

#[test]
fn events_of_a_key_stay_in_order_by_subject_or_by_pipeline() -> Outcome<()> {
    run(240, async {
        for key in ["subject", "pipeline"] {
            let target = Target::new(Kafka::shared()?.bootstrap(), &format!("order-{key}"))
                .with("ARCGATE_KAFKA__EVENT_KEY", key)
                .with("ARCGATE_KAFKA__PARTITIONS", "3");
            let rig = target.gateway().await?;
            let channel = rig.gateway.channel()?;
            for round in 0..20_u64 {
                let event = |n: u64| cloud_event("a", n, "arcentra.task.progress", &format!("s/{}", n % 7), &json!({ "n": n }));
                let batch = (round * 100 + 1..=round * 100 + 100).map(event).collect();
                events::push(channel.clone(), "a", round * 100, batch).await?;
            }
            let found = target.events("pipeline", 2000).await?;
            assert_eq!(found.len(), 2000, "nothing went wrong, so nothing comes twice");
            assert_ordered(&found);
            let keys: BTreeSet<_> = found.iter().map(|event| event.key.as_str()).collect();
            assert_eq!(keys.len(), if key == "subject" { 7 } else { 1 });
        }
        Ok(())
    })
}

#[test]
fn kcat_consumes_what_the_gateway_delivers() -> Outcome<()> {
    run(240, async {
        let kafka = Kafka::shared()?;
        let target = Target::new(kafka.bootstrap(), "kcat");
        let rig = target.gateway().await?;
        let batch = (1..=50).map(|n| cloud_event("a", n, "arcentra.task.started", "s", &json!({ "n": n }))).collect();
        events::push(rig.gateway.channel()?, "a", 0, batch).await?;
        target.events("pipeline", 50).await?;
        let mut kcat = Command::new("kcat");
        kcat.args(["-C", "-e", "-q", "-o", "beginning", "-b", kafka.bootstrap(), "-t", &target.topic("pipeline")]);
        kcat.args(["-f", "%k %h %s\n"]);
        let said = text(&output(kcat, Duration::from_secs(30)).await?, 0)?;
        assert_eq!(said.lines().count(), 50, "{said}");
        let first = said.lines().find(|line| line.contains("arcgate-event-id=evt-1,")).ok_or("no first event")?;
        assert!(first.starts_with("s arcgate-agent-id=a,") && first.contains(r#""id":"a-1""#), "{first}");
        Ok(())
    })
}
