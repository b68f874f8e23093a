//! I9: what a sink has not taken when the store is full is removed, counted and alerted, or kept while new input is refused: as
//! the operator chose.

use serde_json::json;

use crate::clickhouse::{becomes, has_exactly, rig};
use crate::harness::front::{Front, Way};
use crate::harness::services::ClickHouse;
use crate::harness::{ARRIVES, Outcome, Rig, SOON, events, eventually, http, logs, run};

/// As a server without room says.
const NO_ROOM: Way = Way::Refuse(243, "NOT_ENOUGH_SPACE");
/// What the store may take.
const ROOM: &str = "4MiB";
/// Lines of 129 bytes in a batch: a megabyte.
const LINES: u64 = 8_000;

/// Text that takes as much room compressed.
fn noise(seed: u64) -> String {
    (1..=8u64).map(|n| format!("{:016x}", (seed * 8 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))).collect()
}

/// Pushes a batch of lines of a step run, or says why they are refused.
async fn push_lines(rig: &Rig, step_run: &str, lines: u64) -> Outcome<u64> {
    let text: String = (0..lines).map(|line| noise(line) + "\n").collect();
    let ack = logs::push(rig.gateway.channel()?, "agent", [logs::batch("agent", step_run, 1, text)]).await?;
    assert_eq!(ack.dropped, 0);
    Ok(ack.taken)
}

/// Pushes event `n`, which has some 16 KB, or says why it is refused.
async fn push_event(rig: &Rig, n: u64) -> Outcome<u64> {
    let padding: String = (0..128).map(|part| noise(n * 128 + part)).collect();
    let event = events::event("agent", format!("id-{n}"), n, "made", &json!({ "padding": padding }));
    let ack = events::push(rig.gateway.channel()?, "agent", n - 1, vec![event]).await?;
    Ok(ack.last_accepted_seq)
}

#[test]
fn i9_with_refuse_input_is_refused_while_the_store_is_full_and_nothing_is_lost() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let front = Front::before(clickhouse.url()).await?;
        let settings = [
            ("ARCGATE_RETENTION__UNDELIVERED", "refuse"),
            ("ARCGATE_STORE__SEGMENT_BYTES", "64KiB"),
            ("ARCGATE_STORE__RETENTION_BYTES", ROOM),
        ];
        let mut rig = rig(front.url(), "refusing", &settings).await?;
        assert_eq!(push_event(&rig, 1).await?, 1);
        becomes(clickhouse, "SELECT count() FROM refusing.events", 1).await?;
        front.set(NO_ROOM);
        let (mut taken, mut step) = (0, 0);
        let refusal = eventually(SOON, "a refusal", async || match push_lines(&rig, &format!("step-{step}"), LINES).await {
            Ok(more) => {
                (taken, step) = (taken + more, step + 1);
                Ok(None)
            }
            Err(error) => Ok(Some(error.to_string())),
        })
        .await?;
        let clear = "is full of what sink clickhouse-logs has not taken; see why it does not, or raise [store] retention";
        assert!(refusal.contains(clear), "{refusal}");
        let refusal = push_event(&rig, 2).await.map_err(|error| error.to_string());
        assert!(refusal.as_ref().is_err_and(|refusal| refusal.contains(clear)), "{refusal:?}");

        // Who sends agents here is told as well.
        let ready = http::get(rig.http(), "/readyz").await?;
        assert!(ready.status == 503 && ready.body.contains(clear), "{ready:?}");

        // A new start finds the store as full and removes nothing.
        rig.gateway.stop().await?;
        front.set(Way::Pass);
        rig.gateway.restart().await?;
        becomes(clickhouse, "SELECT count() FROM refusing.logs", taken).await?;
        let seq = eventually(SOON, "room", async || Ok(push_event(&rig, 2).await.ok())).await?;
        assert_eq!(seq, 2);
        taken += push_lines(&rig, "after", 10).await?;
        has_exactly(clickhouse, "refusing", taken).await?;
        assert!(rig.gateway.metric("arcgate_sink_lost_records_total").await? < 0.5);
        becomes(clickhouse, "SELECT count() FROM refusing.events", 2).await
    })
}

#[test]
fn i9_with_remove_what_retention_takes_before_delivery_is_counted_exactly_and_alerted() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let front = Front::before(clickhouse.url()).await?;
        let settings = [
            ("ARCGATE_STORE__SEGMENT_BYTES", "64KiB"),
            ("ARCGATE_STORE__RETENTION_BYTES", ROOM),
            ("ARCGATE_EVENTS__DEDUP_BYTES", "1MiB"),
        ];
        let mut rig = rig(front.url(), "removing", &settings).await?;
        let mut taken = push_lines(&rig, "step-0", 10).await?;
        becomes(clickhouse, "SELECT count() FROM removing.logs", taken).await?;
        front.set(NO_ROOM);
        for step in 1..=8 {
            taken += push_lines(&rig, &format!("step-{step}"), LINES).await?;
        }
        for step in 1..=8 {
            rig.settled(&format!("step-{step}"), LINES).await?;
        }
        let events = 200;
        for n in 1..=events {
            assert_eq!(push_event(&rig, n).await?, n, "input goes on");
        }
        // Retention looks at once when a gateway starts.
        rig.gateway.stop().await?;
        rig.gateway.restart().await?;
        let lost = async |sink: &str| {
            let metrics = rig.gateway.metrics().await?;
            Outcome::Ok(metrics.with("arcgate_sink_lost_records_total", &format!("sink=\"{sink}\"")) as u64)
        };
        let removed = async || Ok((rig.gateway.metric("arcgate_retention_removed_bytes_total").await? > 0.0).then_some(()));
        eventually(ARRIVES, "retention", removed).await?;
        let lost = [lost("clickhouse-logs").await?, lost("clickhouse-events").await?];
        assert!(lost[0] > 0 && lost[0] < taken && lost[1] > 0 && lost[1] < events, "{lost:?} of {taken} and {events}");
        let alerts = rig.gateway.stderr().matches("retention removes what the sink has not taken; it will never get it").count();
        assert!(alerts > 0, "{}", rig.gateway.stderr());

        front.set(Way::Pass);
        has_exactly(clickhouse, "removing", taken - lost[0]).await?;
        becomes(clickhouse, "SELECT count() FROM removing.events", events - lost[1]).await?;
        let late = "SELECT min(seq), max(seq) FROM removing.events";
        assert_eq!(clickhouse.query(late).await?, format!("{}\t{events}", lost[1] + 1), "the oldest went, and they alone");
        let lag = async || Ok((rig.gateway.metric("arcgate_sink_lag_records").await? < 0.5).then_some(()));
        eventually(ARRIVES, "no lag", lag).await
    })
}
