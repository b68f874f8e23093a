//! A topic that takes less than the gateway knows: large events go out cut and marked, none is a dead letter, nothing waits for ever.

use serde_json::json;

use super::consumer::{Consumed, Target, alter_topic, assert_ordered, client, cloud_event, create_topic, noise};
use super::kafka_rights::{says, secret};
use crate::harness::services::Kafka;
use crate::harness::{Outcome, Rig, SOON, events, eventually, run};

const MIB: usize = 1 << 20;

/// Pushes events `first` to `last` of one subject, every third with this much content.
async fn push(rig: &Rig, first: u64, last: u64, content: usize) -> Outcome<()> {
    let event = |n: u64| {
        let content = noise(n, if n.is_multiple_of(3) { content } else { 20 });
        cloud_event("a", n, "arcentra.task.log", "s", &json!({ "n": n, "stream": "stdout", "content": content }))
    };
    let ack = events::push(rig.gateway.channel()?, "a", first - 1, (first..=last).map(event).collect()).await?;
    assert_eq!((ack.last_accepted_seq, ack.rejected_seqs), (last, Vec::new()));
    Ok(())
}

/// Fails unless the events with this much content, and no others, are cut and marked, and fit into messages of `limit` bytes.
fn assert_cut(found: &[Consumed], content: usize, limit: usize) {
    for event in found {
        let json = event.json();
        let data = &json["data"];
        assert!(event.text.len() <= limit, "{} bytes", event.text.len());
        if data["n"].as_u64().is_some_and(|n| n.is_multiple_of(3)) {
            assert_eq!((&data["contentTruncated"], &data["contentBytes"]), (&json!(true), &json!(content)), "{}", data["n"]);
            assert!(event.text.len() > limit / 3, "{} bytes of {limit}", event.text.len());
        } else {
            assert_eq!((data["content"].as_str().map(str::len), data.get("contentTruncated")), (Some(20), None));
        }
    }
}

/// Nothing was given up, and nothing waits.
async fn assert_calm(rig: &Rig) -> Outcome<()> {
    eventually(SOON, "no lag", async || {
        let metrics = rig.gateway.metrics().await?;
        assert_eq!(metrics.with("arcgate_sink_deadletters_total", "kafka-events") as u64, 0);
        Ok((metrics.with("arcgate_sink_lag_records", "kafka-events") < 0.5).then_some(()))
    })
    .await
}

#[test]
fn a_topics_limit_that_is_lowered_meanwhile_has_events_cut_and_makes_no_dead_letter() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "lowered").with("ARCGATE_KAFKA__LOGS", "off");
        create_topic(&target.client, &target.topic("pipeline"), &[]).await?;
        let rig = target.gateway().await?;
        push(&rig, 1, 30, 200_000).await?;
        let whole = target.events("pipeline", 30).await?;
        assert!(whole.iter().all(|event| event.json()["data"].get("contentTruncated").is_none()));

        alter_topic(&target.client, &target.topic("pipeline"), &[("max.message.bytes", "65536")]).await?;
        push(&rig, 31, 60, 200_000).await?;
        push(&rig, 61, 90, 200_000).await?;
        let found = target.events("pipeline", 90).await?;
        assert_ordered(&found);
        let late: Vec<_> = found.into_iter().filter(|event| event.json()["data"]["n"].as_u64() > Some(30)).collect();
        assert_cut(&late, 200_000, 65_536);
        assert_calm(&rig).await
    })
}

#[test]
fn a_topic_that_takes_less_than_a_gateway_may_learn_has_events_cut_and_makes_no_dead_letter() -> Outcome<()> {
    run(300, async {
        let kafka = Kafka::start_with_users("admin=admin-secret gateway=gateway-secret")?;
        let admin = client(kafka.internal(), None);
        let password = secret("gateway-secret")?;
        let mut target = Target::new(kafka.bootstrap(), "unasked")
            .with("ARCGATE_KAFKA__LOGS", "off")
            .with("ARCGATE_KAFKA__USERNAME", "gateway")
            .with("ARCGATE_KAFKA__PASSWORD_FILE", &password.path().to_string_lossy());
        let topics = ["pipeline", "agent", "artifact", "platform"].map(|kind| target.topic(kind));
        for topic in &topics {
            create_topic(&admin, topic, &[("max.message.bytes", "100000")]).await?;
            // Not DescribeConfigs: it is told nothing of the limit.
            kafka.allow("gateway", "Describe", &[topic])?;
            kafka.allow("gateway", "Write", &[topic])?;
        }
        target.client = admin;
        let rig = target.gateway().await?;
        push(&rig, 1, 30, MIB).await?;
        says(&rig, "the topic takes only smaller messages than it says").await?;
        let found = target.events("pipeline", 30).await?;
        assert_ordered(&found);
        // The limit is that of a compressed message.
        assert_cut(&found, MIB, 140_000);
        push(&rig, 31, 33, MIB).await?;
        target.events("pipeline", 33).await?;
        assert_calm(&rig).await
    })
}
