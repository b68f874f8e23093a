//! A materialized view of the operator's own that fails holds the sink back, which says so; nothing is given up, cut or doubled.

use super::kafka_rights::says;
use super::letters;
use crate::clickhouse::{becomes, has_exactly, push, rig};
use crate::harness::services::ClickHouse;
use crate::harness::{Outcome, run};

#[test]
fn a_failing_view_of_the_operators_own_holds_the_sink_until_it_is_mended_and_nothing_is_cut_or_doubled() -> Outcome<()> {
    run(240, async {
        let clickhouse = &ClickHouse::start_with_log()?;
        let rig = rig(clickhouse.url(), "viewed", &[]).await?;
        push(&rig, "before", "pipeline", 1, 10).await?;
        becomes(clickhouse, "SELECT count() FROM viewed.logs", 10).await?;
        clickhouse.query("SYSTEM STOP MERGES viewed.logs").await?;
        clickhouse.query("CREATE DATABASE own").await?;
        clickhouse.query("CREATE TABLE own.numbers (n UInt64) ENGINE = MergeTree ORDER BY n").await?;
        let view = "CREATE MATERIALIZED VIEW own.view TO own.numbers AS SELECT toUInt64(content) AS n FROM viewed.logs";
        clickhouse.query(view).await?;

        push(&rig, "while it fails", "pipeline", 1, 400).await?;
        says(&rig, "mend or drop the view own.view: nothing is delivered until then").await?;
        push(&rig, "behind it", "pipeline", 1, 100).await?;
        // It is tried again and again, as a whole.
        rig.has_retried("clickhouse-logs", 3).await?;
        assert_eq!(rig.of_sink("arcgate_sink_delivered_total", "clickhouse-logs").await?, 10.0);
        assert!(letters::list(&rig).await?.is_empty());

        clickhouse.query("ALTER TABLE own.view MODIFY QUERY SELECT length(content) AS n FROM viewed.logs").await?;
        has_exactly(clickhouse, "viewed", 510).await?;
        becomes(clickhouse, "SELECT count() FROM own.numbers", 500).await?;
        rig.has_delivered("clickhouse-logs", 510).await?;
        let log = says(&rig, "takes what it is sent again").await?;
        assert_eq!(log.matches("mend or drop the view").count(), 1, "said once, and not at each try:\n{log}");
        assert!(letters::list(&rig).await?.is_empty());
        Ok(())
    })
}
