//! While a backlog drains, what is new does not wait: it is taken, shown live and in history, and comes to Kafka in its order.

use serde_json::Value;

use super::consumer::{Target, client};
use super::kafka_outages::{assert_all, push};
use crate::harness::services::Kafka;
use crate::harness::wire::Wire;
use crate::harness::{ARRIVES, Outcome, Reader, Rig, SOON, Seen, eventually, logs, run, scaled};

/// Pushes lines `first` to `last` of a step run.
async fn push_lines(rig: &Rig, step_run: &str, first: u64, last: u64) -> Outcome<()> {
    let text: String = (first..=last).map(|n| format!("line {n}\n")).collect();
    let mut batch = logs::batch("a", step_run, first, text);
    batch.first_line = first;
    assert_eq!(logs::push(rig.gateway.channel()?, "a", [batch]).await?.taken, last + 1 - first);
    Ok(())
}

#[test]
fn while_a_backlog_drains_what_is_new_is_taken_shown_live_and_delivered_in_its_order() -> Outcome<()> {
    run(240, async {
        let wire = Wire::new().await?;
        let kafka = Kafka::start_behind(wire.address())?;
        wire.lead_to(kafka.bootstrap());
        let mut target = Target::new(wire.address(), "drains");
        target.client = client(kafka.internal(), None);
        let rig = target.gateway().await?;
        let mut acked = push(&rig, 1, 100, 0).await?;
        rig.has_delivered("kafka-events", 100).await?;
        wire.pass_only(0);
        let backlog = scaled(2_000, 1_000) as u64;
        acked.extend(push(&rig, 101, 100 + backlog, 10_000).await?);
        push_lines(&rig, "old", 1, 50_000).await?;

        // Some of it drains, and the rest waits for the broker: for as long as it takes, this is in the middle of it.
        let delivered = async || rig.of_sink("arcgate_sink_delivered_total", "kafka-events").await;
        eventually(ARRIVES, "the first of the backlog", async || {
            wire.pass_only(256 << 10);
            wire.holds().await?;
            Ok((delivered().await? > 100.0).then_some(()))
        })
        .await?;
        let mut reader = Reader::follow(rig.http(), "old").await?;
        let mut seen = Seen::counting_from(1);
        reader.read_to(50_000, &mut seen, SOON).await?;
        push_lines(&rig, "old", 50_001, 50_010).await?;
        reader.read_to(50_010, &mut seen, SOON).await?;
        let mut reader = Reader::follow(rig.http(), "new").await?;
        let mut seen = Seen::from(1);
        push_lines(&rig, "new", 1, 10).await?;
        reader.read_to(10, &mut seen, SOON).await?;
        assert_eq!(rig.history("new", 10).await?.contents(), seen.contents());
        acked.extend(push(&rig, 101 + backlog, 200 + backlog, 0).await?);
        wire.holds().await?;
        assert!(delivered().await? < (backlog + 100) as f64, "the backlog is still there");

        wire.pass();
        rig.has_delivered("kafka-events", acked.len() as u64).await?;
        rig.has_delivered("kafka-logs", 50_020).await?;
        let found = target.consume("pipeline")?;
        assert_all(&found, &acked);
        assert_eq!(found.len(), acked.len());
        let lines: Vec<Value> = target.consume("log")?.iter().map(|line| line.json()).collect();
        for (step_run, last) in [("old", 50_010), ("new", 10)] {
            let of_it = lines.iter().filter(|line| line["stepRunId"] == step_run).map(|line| line["lineNumber"].as_u64());
            assert!(of_it.eq((1..=last).map(Some)), "{step_run}: every line once, in order");
        }
        Ok(())
    })
}
