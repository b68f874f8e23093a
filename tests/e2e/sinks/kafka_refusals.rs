//! Kafka refuses records for what is not their fault: why is found out, although librdkafka tells only of one bad record in a request
//! what is wrong with it, and nothing is given up.

use serde_json::json;

use super::consumer::{Target, alter_topic, cloud_event, create_topic};
use super::kafka_rights::says;
use super::letters;
use crate::harness::services::Kafka;
use crate::harness::{Outcome, Rig, events, run};

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
