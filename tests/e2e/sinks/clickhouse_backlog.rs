//! A ClickHouse that is away for long costs disk and not memory; when it is back, it gets everything once.

use serde_json::json;

use super::consumer::noise;
use crate::clickhouse::{becomes, has_exactly, rig};
use crate::harness::services::ClickHouse;
use crate::harness::{Outcome, Rig, events, logs, run, scaled};

/// The memory that the gateway may use: the sinks of a service have a sixteenth.
const LIMIT: u64 = 128 << 20;
/// A gateway with that limit.
pub(super) const SMALL: [(&str, &str); 3] =
    [("ARCGATE_LIMITS__MEMORY", "128MiB"), ("ARCGATE_GRPC__MAX_MESSAGE", "16MiB"), ("ARCGATE_EVENTS__MAX_EVENT", "16MiB")];

/// Pushes `batches` batches, each of 1000 lines and 50 events of 1 MB together, after as many that were pushed before; all are acked.
pub(super) async fn push(rig: &Rig, before: u64, batches: u64) -> Outcome<()> {
    for batch in before..before + batches {
        let text: String = (1..=1000).map(|line| noise(batch * 1000 + line, 1000) + "\n").collect();
        let mut lines = logs::batch("agent", "step", batch + 1, text);
        lines.first_line = batch * 1000 + 1;
        let ack = logs::push(rig.gateway.channel()?, "agent", [lines]).await?;
        assert_eq!((ack.taken, ack.dropped), (1000, 0));
        let event = |n: u64| {
            let payload = json!({ "type": "arcentra.task.progress", "data": { "n": n, "padding": noise(n, 20_000) } });
            events::event("agent", format!("id-{n}"), n, "outbox", &payload)
        };
        let first = batch * 50 + 1;
        let ack = events::push(rig.gateway.channel()?, "agent", first - 1, (first..first + 50).map(event).collect()).await?;
        assert_eq!(ack.last_accepted_seq, first + 49, "input does not wait for a sink");
    }
    rig.settled("step", (before + batches) * 1000).await
}

/// Fails if the gateway has ever had more memory than it may.
pub(super) fn assert_small(rig: &Rig) -> Outcome<()> {
    let peak = rig.gateway.peak_memory()?;
    println!("peak of {} MiB", peak >> 20);
    assert!(peak <= LIMIT, "{} MiB of memory, the limit is {} MiB", peak >> 20, LIMIT >> 20);
    Ok(())
}

#[test]
fn a_clickhouse_that_is_away_for_longer_than_buffers_last_costs_disk_and_not_memory() -> Outcome<()> {
    run(300, async {
        let mut clickhouse = ClickHouse::start()?;
        let rig = rig(clickhouse.url(), "backlog", &SMALL).await?;
        push(&rig, 0, 1).await?;
        becomes(&clickhouse, "SELECT count() FROM backlog.logs", 1000).await?;
        clickhouse.kill()?;
        let batches = scaled(80, 10) as u64;
        push(&rig, 1, batches).await?;
        rig.has_retried("clickhouse-logs", 1).await?;
        assert_small(&rig)?;
        clickhouse.restart()?;
        has_exactly(&clickhouse, "backlog", (batches + 1) * 1000).await?;
        becomes(&clickhouse, "SELECT count() FROM backlog.events", (batches + 1) * 50).await?;
        assert_small(&rig)
    })
}
