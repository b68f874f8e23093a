//! Kafka and ClickHouse side by side: one that is away holds up nothing of the other, though each has more to wait for than it may
//! buffer.

use super::clickhouse_backlog::{SMALL, assert_small, push};
use super::consumer::Target;
use crate::clickhouse::{becomes, has_exactly};
use crate::harness::services::{ClickHouse, Kafka};
use crate::harness::{Outcome, run};

/// Batches that are pushed while one is away: 12 MB of lines, and as much of events; a service may buffer 8.
const AWAY: u64 = 12;

#[test]
fn a_service_that_is_away_holds_up_nothing_of_the_other() -> Outcome<()> {
    run(300, async {
        let (mut kafka, mut clickhouse) = (Kafka::start()?, ClickHouse::start()?);
        let settings = [("ARCGATE_CLICKHOUSE__URL", clickhouse.url()), ("ARCGATE_CLICKHOUSE__DATABASE", "apart")];
        let target = Target::new(kafka.bootstrap(), "apart");
        let target = SMALL.iter().chain(&settings).fold(target, |target, (name, value)| target.with(name, value));
        let rig = target.gateway().await?;
        push(&rig, 0, 1).await?;
        for sink in ["kafka-logs", "clickhouse-logs"] {
            rig.has_delivered(sink, 1000).await?;
        }

        kafka.stop()?;
        push(&rig, 1, AWAY).await?;
        rig.has_delivered("clickhouse-logs", (1 + AWAY) * 1000).await?;
        rig.has_delivered("clickhouse-events", (1 + AWAY) * 50).await?;
        assert_eq!(rig.of_sink("arcgate_sink_delivered_total", "kafka-logs").await?, 1000.0);
        kafka.restart()?;
        rig.has_delivered("kafka-logs", (1 + AWAY) * 1000).await?;
        rig.has_delivered("kafka-events", (1 + AWAY) * 50).await?;

        clickhouse.kill()?;
        push(&rig, 1 + AWAY, AWAY).await?;
        rig.has_delivered("kafka-logs", (1 + 2 * AWAY) * 1000).await?;
        rig.has_delivered("kafka-events", (1 + 2 * AWAY) * 50).await?;
        assert_eq!(rig.of_sink("arcgate_sink_delivered_total", "clickhouse-logs").await?, (1 + AWAY) as f64 * 1000.0);
        clickhouse.restart()?;
        has_exactly(&clickhouse, "apart", (1 + 2 * AWAY) * 1000).await?;
        becomes(&clickhouse, "SELECT count() FROM apart.events", (1 + 2 * AWAY) * 50).await?;
        assert_eq!(target.consume("platform")?.len() as u64 + target.consume("pipeline")?.len() as u64, (1 + 2 * AWAY) * 50);
        assert_small(&rig)
    })
}
