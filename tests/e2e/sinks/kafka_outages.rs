//! Whatever dies on the way, every acked event comes to Kafka, each key in its order.

use std::collections::BTreeSet;
use std::net::TcpStream;

use serde_json::json;

use super::clickhouse_backlog::{SMALL, assert_small};
use super::consumer::{Consumed, Target, assert_ordered, cloud_event, noise};
use crate::harness::services::Kafka;
use crate::harness::{ARRIVES, Outcome, Rig, SOON, events, eventually, logs, run, scaled};

/// Pushes events `first` to `last` with so many bytes of padding, in batches, each until it is acked; gives their names.
pub(super) async fn push(rig: &Rig, first: u64, last: u64, padding: usize) -> Outcome<BTreeSet<String>> {
    let channel = rig.gateway.channel()?;
    let mut acked = BTreeSet::new();
    let mut next = first;
    while next <= last {
        let upto = (next + 49).min(last);
        let event = |n: u64| {
            let data = json!({ "n": n, "padding": noise(n, padding) });
            cloud_event("a", n, "arcentra.task.progress", &format!("s/{}", n % 5), &data)
        };
        let ack = events::push(channel.clone(), "a", next - 1, (next..=upto).map(event).collect()).await?;
        acked.extend((next..=ack.last_accepted_seq).map(|n| format!("evt-{n}")));
        next = ack.last_accepted_seq + 1;
    }
    Ok(acked)
}

/// Fails unless exactly these events are there, each with one digest, and those of a key in order.
pub(super) fn assert_all(found: &[Consumed], acked: &BTreeSet<String>) {
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
            acked.extend(push(&rig, next, next + 999, 0).await?);
            kafka.kill()?;
            // Input does not wait for a sink.
            acked.extend(push(&rig, next + 1000, next + 1499, 0).await?);
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
fn i9_a_broker_out_of_disk_gets_every_event_and_line_once_when_it_has_room() -> Outcome<()> {
    run(300, async {
        let mut kafka = Kafka::start_with_disk("32m")?;
        let target = Target::new(kafka.bootstrap(), "full");
        let rig = target.gateway().await?;
        let mut acked = push(&rig, 1, 100, 0).await?;
        rig.has_delivered("kafka-events", 100).await?;
        // More than there is room for; a broker whose only disk is full ends itself.
        acked.extend(push(&rig, 101, 3100, 20_000).await?);
        eventually(ARRIVES, "the broker's end", async || Ok(TcpStream::connect(kafka.bootstrap()).is_err().then_some(())))
            .await?;
        // Input goes on.
        acked.extend(push(&rig, 3101, 3200, 0).await?);
        let lines: String = (1..=5000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "run-1", 1, lines)]).await?.taken, 5000);
        kafka.make_room("256m")?;
        kafka.kill()?;
        kafka.restart()?;
        rig.has_delivered("kafka-events", acked.len() as u64).await?;
        rig.has_delivered("kafka-logs", 5000).await?;
        let found = target.consume("pipeline")?;
        assert_all(&found, &acked);
        assert_eq!(found.len(), acked.len(), "an outage of the broker doubles nothing");
        let numbers: Vec<_> = target.consume("log")?.iter().map(|line| line.json()["lineNumber"].as_u64()).collect();
        assert!(numbers.into_iter().eq((1..=5000).map(Some)), "every line once, in order");
        Ok(())
    })
}

#[test]
fn a_broker_that_is_down_for_longer_than_buffers_last_costs_disk_and_not_memory() -> Outcome<()> {
    run(400, async {
        let mut kafka = Kafka::start()?;
        let target = Target::new(kafka.bootstrap(), "backlog");
        let target = SMALL.iter().fold(target, |target, (name, value)| target.with(name, value));
        let rig = target.gateway().await?;
        let mut acked = push(&rig, 1, 100, 0).await?;
        target.events("pipeline", acked.len()).await?;
        kafka.stop()?;
        // 140 MB: more than all the memory there is.
        acked.extend(push(&rig, 101, 7100, 20_000).await?);
        eventually(SOON, "the backlog to be seen", async || {
            let metrics = rig.gateway.metrics().await?;
            Ok((metrics.with("arcgate_sink_lag_records", "kafka-events") >= 7000.0).then_some(()))
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
        assert_small(&rig)?;
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
