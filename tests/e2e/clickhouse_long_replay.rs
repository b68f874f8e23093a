//! Long histories from ClickHouse, which are read ahead of a reader who keeps up: whoever stops reading, whatever dies meanwhile.

use std::time::Duration;

use crate::clickhouse_replay::rig;
use crate::harness::services::ClickHouse;
use crate::harness::{Outcome, Reader, Rig, SOON, Seen, eventually, run, within};

/// More than all buffers between ClickHouse and a reader hold, by far.
const LONG: u64 = 300_000;
/// A reader has seen so many lines when something happens to it.
const SOME: u64 = 20_000;

/// A gateway whose tables have a step run `long` of that many lines, which came on that many `days`, each line twice.
async fn filled(clickhouse: &ClickHouse, database: &str, lines: u64, days: u64) -> Outcome<Rig> {
    let rig = rig(clickhouse.url(), database).await?;
    let version = format!("SELECT max(version) FROM {database}.arcgate_schema");
    eventually(SOON, "the tables", async || Ok((clickhouse.number(&version).await.ok() == Some(3)).then_some(()))).await?;
    for _ in 0..2 {
        let insert = format!(
            "INSERT INTO {database}.logs (step_run_id, line_number, timestamp_ms, content, agent_id, received) \
             SETTINGS insert_deduplicate = 0, max_insert_block_size = 50000 \
             SELECT 'long', number + 1, 0, \
                    concat('line ', toString(number + 1), ' ', hex(sipHash128(number)), hex(sipHash128(number, 1)), hex(sipHash128(number, 2))), \
                    'agent', toDateTime64(today() - intDiv(number * {days}, {lines}), 3, 'UTC') \
             FROM numbers({lines})"
        );
        clickhouse.query(&insert).await?;
    }
    Ok(rig)
}

#[test]
fn lines_that_log_streams_does_not_know_yet_are_no_gap() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let rig = filled(clickhouse, "lagging", 6000, 3).await?;
        // As if it knew of one day only: a view gets its rows after the table has them.
        clickhouse.query("TRUNCATE TABLE lagging.log_streams").await?;
        let some = "INSERT INTO lagging.log_streams (step_run_id, origin, first_line, next_line, first_received, last_received) \
                    SELECT 'long', 0, 4001, 6001, min(received), min(received) FROM lagging.logs";
        clickhouse.query(some).await?;
        let mut reader = Reader::follow(rig.http(), "long").await?;
        let mut seen = Seen::counting_from(1);
        reader.read_to(6000, &mut seen, SOON).await?;
        assert_eq!((seen.lines, seen.missing), (6000, 0));
        Ok(())
    })
}

#[test]
fn a_log_that_log_streams_does_not_know_at_all_is_found_among_the_lines() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let rig = filled(clickhouse, "unknown_there", 6000, 2).await?;
        clickhouse.query("TRUNCATE TABLE unknown_there.log_streams").await?;
        let mut reader = Reader::follow(rig.http(), "long").await?;
        let mut seen = Seen::counting_from(1);
        reader.read_to(6000, &mut seen, SOON).await?;
        assert_eq!((seen.lines, seen.missing), (6000, 0));
        Ok(())
    })
}

#[test]
fn rows_of_all_tables_are_kept_longer_once_the_settings_say_so() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        for days in [90, 365] {
            let ttl = format!("{days}d");
            let _rig = crate::clickhouse::rig(clickhouse.url(), "kept", &[("ARCGATE_CLICKHOUSE__TTL", &ttl)]).await?;
            let tables = format!(
                "SELECT count() FROM system.tables WHERE database = 'kept' AND name IN ('logs', 'log_marks', 'events', 'log_streams') \
                 AND engine_full LIKE '%toIntervalDay({days})%'"
            );
            crate::clickhouse::becomes(clickhouse, &tables, 4).await?;
        }
        Ok(())
    })
}

#[test]
fn a_reader_that_stops_holds_no_query_at_clickhouse_and_misses_nothing() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let rig = filled(clickhouse, "stopped", LONG, 2).await?;
        let mut reader = Reader::follow(rig.http(), "long").await?;
        let mut seen = Seen::counting_from(1);
        let queries = "SELECT count() FROM system.processes WHERE query LIKE '%FROM logs WHERE step_run_id = ''long''%' \
                       AND query NOT LIKE '%processes%' AND current_database = 'stopped'";
        for stop in [SOME, LONG / 2] {
            reader.read_to(stop, &mut seen, SOON).await?;
            // While it reads, there is one.
            eventually(SOON, "a query", async || {
                reader.read_to(seen.next + 1000, &mut seen, SOON).await?;
                Ok((clickhouse.number(queries).await? > 0).then_some(()))
            })
            .await?;
            eventually(SOON, "the end of the query", async || Ok((clickhouse.number(queries).await? == 0).then_some(()))).await?;
        }
        assert!(seen.next < LONG, "all that was left to be read may have been in buffers");
        reader.read_to(LONG, &mut seen, Duration::from_secs(60)).await?;
        assert_eq!((seen.lines, seen.missing), (LONG, 0));
        Ok(())
    })
}

#[test]
fn clickhouse_that_dies_in_the_middle_of_a_history_is_an_error_and_not_its_end() -> Outcome<()> {
    run(240, async {
        let mut clickhouse = ClickHouse::start()?;
        let rig = filled(&clickhouse, "dies", LONG, 2).await?;
        let mut reader = Reader::follow(rig.http(), "long").await?;
        let mut seen = Seen::counting_from(1);
        reader.read_to(SOME, &mut seen, SOON).await?;
        clickhouse.kill()?;
        let error = within(SOON, "the error", async {
            loop {
                let message = reader.next().await?;
                assert_ne!(message.kind, "history_done");
                if let Some(error) = message.error {
                    return Ok(error);
                }
                for entry in message.entries()? {
                    assert!(entry.gap.as_ref().is_none_or(|gap| gap.reason == "unreachable"), "{entry:?}");
                    seen.take(entry)?;
                }
            }
        })
        .await?;
        assert!(error.starts_with("load history failed") && error.contains("ClickHouse at http"), "{error}");
        assert_eq!((seen.next, seen.lines + seen.missing), (LONG + 1, LONG));
        assert!(seen.missing > 0);
        Ok(())
    })
}
