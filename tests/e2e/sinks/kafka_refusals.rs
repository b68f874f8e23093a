//! Kafka refuses single records of a request: what is wrong with them is found out, and nothing else is held up or given up for it.

use std::collections::BTreeSet;

use serde_json::json;

use super::consumer::{Consumed, Target, alter_topic, cloud_event, create_topic};
use super::kafka_rights::says;
use super::letters;
use crate::harness::services::Kafka;
use crate::harness::{Outcome, Rig, SOON, events, eventually, logs, run};

/// Pushes events `first` to `last`.
async fn push(rig: &Rig, first: u64, last: u64) -> Outcome<()> {
    let event = |n: u64| cloud_event("a", n, "arcentra.task.progress", "s", &json!({ "n": n }));
    let ack = events::push(rig.gateway.channel()?, "a", first - 1, (first..=last).map(event).collect()).await?;
    assert_eq!((ack.last_accepted_seq, ack.rejected_seqs), (last, Vec::new()));
    Ok(())
}

#[test]
fn clocks_that_differ_make_no_dead_letters_and_all_is_delivered_once_they_agree() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "clocks").with("ARCGATE_KAFKA__LOGS", "off");
        let topic = target.topic("pipeline");
        // To this topic all that comes is too old: like a broker whose clock is ahead.
        create_topic(&target.client, &topic, &[("message.timestamp.before.max.ms", "0")]).await?;
        let rig = target.gateway().await?;
        for first in [1, 101, 201] {
            push(&rig, first, first + 99).await?;
        }
        says(&rig, "set the clocks of this machine and of the brokers right").await?;
        alter_topic(&target.client, &topic, &[]).await?;
        assert!(target.events("pipeline", 300).await?.len() >= 300);
        assert!(letters::list(&rig).await?.is_empty());
        Ok(())
    })
}

#[test]
fn a_line_without_a_key_that_a_compacted_topic_refuses_is_a_dead_letter_and_those_around_it_are_delivered() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "compacted");
        create_topic(&target.client, &target.topic("log"), &[("cleanup.policy", "compact")]).await?;
        let rig = target.gateway().await?;
        let text = |lines: u64| (1..=lines).map(|number| format!("line {number}\n")).collect::<String>();
        // A line of no pipeline and no step run has no key.
        let steps = [("step-1", 20), ("", 3), ("step-2", 20), ("step-3", 20)];
        let batches = steps.into_iter().zip(1..).map(|((step, lines), seq)| logs::batch("agent", step, seq, text(lines)));
        let ack = logs::push(rig.gateway.channel()?, "agent", batches).await?;
        assert_eq!((ack.taken, ack.dropped), (63, 0));
        let found =
            eventually(SOON, "three letters", async || Ok(Some(letters::list(&rig).await?).filter(|found| found.len() == 3)));
        for letter in found.await? {
            assert!(letter.reason.contains("Kafka refuses the record for topic compacted.log"), "{}", letter.reason);
        }
        eventually(SOON, "all lines of the others", async || {
            let found = target.consume("log")?.into_iter().map(|line| line.json());
            let lines: BTreeSet<_> = found.map(|line| format!("{} {}", line["stepRunId"], line["lineNumber"])).collect();
            Ok((lines.len() == 60).then_some(()))
        })
        .await?;
        let label = "sink=\"kafka-logs\"";
        eventually(SOON, "no lag", async || {
            Ok((rig.gateway.metrics().await?.with("arcgate_sink_lag_records", label) < 0.5).then_some(()))
        })
        .await
    })
}
