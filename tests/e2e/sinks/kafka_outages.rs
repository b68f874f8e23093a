//! Whatever dies on the way, every acked event comes to Kafka, each key in its order.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::consumer::{Consumed, Target, assert_ordered, cloud_event};
use crate::harness::services::Kafka;
use crate::harness::{Outcome, Rig, SOON, events, eventually, run, scaled};

/// Pushes events `first` to `last`, in batches, each until it is acked; gives their names.
async fn push(rig: &Rig, first: u64, last: u64, padding: &str) -> Outcome<BTreeSet<String>> {
    let channel = rig.gateway.channel()?;
    let mut acked = BTreeSet::new();
    let mut next = first;
    while next <= last {
        let upto = (next + 49).min(last);
        let event = |n: u64| {
            let data = json!({ "n": n, "padding": padding });
            cloud_event("a", n, "arcentra.task.progress", &format!("s/{}", n % 5), &data)
        };
        let ack = events::push(channel.clone(), "a", next - 1, (next..=upto).map(event).collect()).await?;
        acked.extend((next..=ack.last_accepted_seq).map(|n| format!("evt-{n}")));
        next = ack.last_accepted_seq + 1;
    }
    Ok(acked)
}

/// Fails unless exactly these events are there, each with one digest, and those of a key in order.
fn assert_all(found: &[Consumed], acked: &BTreeSet<String>) {
    let identities: BTreeSet<_> = found.iter().map(Consumed::identity).collect();
    let names: BTreeSet<String> = identities.iter().map(|(_, name, _)| name.clone()).collect();
    assert_eq!((identities.len(), &names), (acked.len(), acked));
    assert_ordered(found);
    let bytes: BTreeSet<_> = found.iter().map(|event| (event.identity(), &event.text)).collect();
    assert_eq!(bytes.len(), acked.len(), "what comes again is the same bytes");
}

#[test]
fn i9_every_acked_event_is_in_kafka_though_its_broker_is_killed_again_and_again() -> Outcome<()> {
    run(400, async {
        let mut kafka = Kafka::start()?;
        let target = Target::new(kafka.bootstrap(), "killed");
        let rig = target.gateway().await?;
        let mut acked = BTreeSet::new();
        let mut next = 1;
        for _ in 0..scaled(3, 1) {
            acked.extend(push(&rig, next, next + 999, "").await?);
            kafka.kill()?;
            // Input does not wait for a sink.
            acked.extend(push(&rig, next + 1000, next + 1499, "").await?);
            kafka.restart()?;
            next += 1500;
        }
        let found = target.events("pipeline", acked.len()).await?;
        assert_all(&found, &acked);
        assert_eq!(found.len(), acked.len(), "an outage of the broker doubles nothing");
        Ok(())
    })
}

#[test]
fn i9_every_acked_event_is_in_kafka_though_the_gateway_is_killed_in_each_phase_of_a_delivery() -> Outcome<()> {
    run(500, async {
        let mut kafka = Kafka::start()?;
        let target = Target::new(kafka.bootstrap(), "phases");
        let mut rig = target.gateway().await?;
        let mut acked = push(&rig, 1, 500, "").await?;
        // Before they are sent: there is nobody to send them to.
        kafka.stop()?;
        acked.extend(push(&rig, 501, 1000, "").await?);
        rig.crash().await?;
        acked.extend(push(&rig, 1001, 1100, "").await?);
        kafka.restart()?;
        target.events("pipeline", acked.len()).await?;
        // After they are sent, before or after they are confirmed, before or after the cursor is saved: whatever the moment meets.
        let mut next = 1101;
        for round in 0..scaled(10, 3) as u64 {
            acked.extend(push(&rig, next, next + 199, "").await?);
            next += 200;
            tokio::time::sleep(Duration::from_millis(round * 3)).await;
            rig.crash().await?;
        }
        // Confirmed, and the cursor perhaps saved.
        target.events("pipeline", acked.len()).await?;
        rig.crash().await?;
        acked.extend(push(&rig, next, next + 99, "").await?);
        assert_all(&target.events("pipeline", acked.len()).await?, &acked);
        Ok(())
    })
}

#[test]
fn a_broker_that_is_down_for_longer_than_buffers_last_costs_disk_and_not_memory() -> Outcome<()> {
    run(400, async {
        let mut kafka = Kafka::start()?;
        let target = Target::new(kafka.bootstrap(), "backlog")
            .with("ARCGATE_LIMITS__MEMORY", "64MiB")
            .with("ARCGATE_GRPC__MAX_MESSAGE", "16MiB")
            .with("ARCGATE_EVENTS__MAX_EVENT", "16MiB");
        let rig = target.gateway().await?;
        let mut acked = push(&rig, 1, 100, "").await?;
        target.events("pipeline", acked.len()).await?;
        kafka.stop()?;
        // 100 MB: the sinks' whole share of the memory is 8.
        acked.extend(push(&rig, 101, 5100, &"x".repeat(20_000)).await?);
        eventually(SOON, "the backlog to be seen", async || {
            let metrics = rig.gateway.metrics().await?;
            Ok((metrics.with("arcgate_sink_lag_records", "kafka-events") >= 5000.0).then_some(()))
        })
        .await?;
        let log = std::fs::read_to_string(rig.gateway.launch().log())?;
        kafka.restart()?;
        assert_all(&target.events("pipeline", acked.len()).await?, &acked);
        eventually(SOON, "nothing to be left", async || {
            let metrics = rig.gateway.metrics().await?;
            Ok((metrics.with("arcgate_sink_lag_records", "kafka-events") < 0.5).then_some(()))
        })
        .await?;
        let peak = rig.gateway.peak_memory()?;
        assert!(peak < 128 << 20, "{} MiB", peak >> 20);
        assert!(log.matches("no Kafka broker answers").count() <= 4, "said once a sink, and not at each try:\n{log}");
        Ok(())
    })
}

#[test]
fn with_ack_kafka_an_event_is_acked_once_kafka_has_it_and_not_before() -> Outcome<()> {
    run(300, async {
        let mut kafka = Kafka::start()?;
        let target =
            Target::new(kafka.bootstrap(), "ack").with("ARCGATE_EVENTS__ACK", "kafka").with("ARCGATE_EVENTS__ACK_TIMEOUT", "2s");
        let rig = target.gateway().await?;
        let channel = rig.gateway.channel()?;
        let event = |n: u64| cloud_event("a", n, "arcentra.task.started", "s", &json!({ "n": n }));
        eventually(SOON, "the first ack", async || {
            let ack = events::push(channel.clone(), "a", 0, vec![event(1)]).await?;
            Ok((ack.last_accepted_seq == 1).then_some(()))
        })
        .await?;
        assert_eq!(target.consume("pipeline")?.len(), 1);
        kafka.kill()?;
        let ack = events::push(channel.clone(), "a", 1, vec![event(2)]).await?;
        assert!(ack.last_accepted_seq < 2, "Kafka does not have it: {ack:?}");
        kafka.restart()?;
        // A repeat is acked by the same rule.
        eventually(SOON, "the ack of the repeat", async || {
            let ack = events::push(channel.clone(), "a", 1, vec![event(2)]).await?;
            Ok((ack.last_accepted_seq == 2).then_some(()))
        })
        .await?;
        assert_eq!(target.consume("pipeline")?.len(), 2);
        Ok(())
    })
}
