//! A record that a sink will never take becomes a dead letter with its reason; nothing around it waits or is lost, and an operator
//! gets it delivered once the cause is gone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::consumer::{Target, alter_topic, cloud_event, create_topic, noise};
use super::letters::{self, Letter};
use crate::clickhouse::{becomes, has_exactly, push, rig};
use crate::harness::services::{ClickHouse, Kafka};
use crate::harness::{Outcome, Rig, SOON, events, eventually, logs, run};

/// Waits until the letters are as they should be.
async fn until(rig: &Rig, what: &str, are: impl Fn(&[Letter]) -> bool) -> Outcome<Vec<Letter>> {
    eventually(SOON, what, async || Ok(Some(letters::list(rig).await?).filter(|found| are(found)))).await
}

/// Waits until the running gateway has counted so many of a sink since its start.
async fn counted(rig: &Rig, sink: &str, letters: f64) -> Outcome<()> {
    let label = format!("sink=\"{sink}\"");
    eventually(SOON, "the counter of dead letters", async || {
        let metrics = rig.gateway.metrics().await?;
        let counts = [metrics.with("arcgate_sink_deadletters_total", &label), metrics.with("arcgate_sink_lag_records", &label)];
        Ok((counts == [letters, 0.0]).then_some(()))
    })
    .await
}

#[test]
fn lines_that_clickhouse_refuses_are_dead_letters_and_delivered_once_it_takes_them() -> Outcome<()> {
    run(240, async {
        // Its own: at the shared one, what is refused here would have inserts beside it sent again.
        let clickhouse = &ClickHouse::start()?;
        let mut rig = rig(clickhouse.url(), "letters", &[]).await?;
        push(&rig, "before", "pipeline", 1, 10).await?;
        becomes(clickhouse, "SELECT count() FROM letters.logs", 10).await?;
        clickhouse.query("ALTER TABLE letters.logs ADD CONSTRAINT no_nines CHECK NOT endsWith(content, '99')").await?;

        let text: String = (1..=400).map(|number| format!("line {number}\n")).collect();
        let ack = logs::push(rig.gateway.channel()?, "agent", [logs::batch("agent", "step", 1, text)]).await?;
        assert_eq!((ack.taken, ack.dropped), (400, 0));
        has_exactly(clickhouse, "letters", 10 + 396).await?;
        counted(&rig, "clickhouse-logs", 4.0).await?;

        // Nothing of it is lost by a crash, or delivered twice.
        rig.crash().await?;
        let found = letters::list(&rig).await?;
        let mut lines = Vec::new();
        for letter in &found {
            let shown = letters::show(&rig, letter).await?;
            assert_eq!(shown["route"]["table"], "logs");
            let row: Value = serde_json::from_str(shown["record"].as_str().ok_or("no record")?)?;
            lines.push((shown["line"].as_u64(), row["content"].as_str().map(str::to_owned)));
            assert!(letter.reason.contains("no_nines") && letter.reason.contains("Code: 469"), "{}", letter.reason);
            assert_eq!((&*letter.sink, letter.attempts, &*letter.state), ("clickhouse-logs", 1, "kept"));
        }
        assert_eq!(lines, [99, 199, 299, 399].map(|number| (Some(number), Some(format!("line {number}")))));

        // Too early: it is refused again, and says so. In vain for one of them.
        letters::retry(&rig, &found[0]).await?;
        until(&rig, "a second refusal", |found| (found[0].attempts, &*found[0].state) == (2, "kept")).await?;
        letters::drop(&rig, &found[1]).await?;
        assert_eq!(letters::list(&rig).await?.len(), 3);

        // What is asked while no gateway runs is done by the next.
        clickhouse.query("ALTER TABLE letters.logs DROP CONSTRAINT no_nines").await?;
        rig.gateway.stop().await?;
        letters::retry(&rig, &found[0]).await?;
        letters::retry(&rig, &found[2]).await?;
        rig.gateway.restart().await?;
        until(&rig, "one letter that nobody asked for", |left| left.len() == 1 && left[0].letter == found[3].letter).await?;
        letters::retry(&rig, &found[3]).await?;
        until(&rig, "no letter", <[_]>::is_empty).await?;
        has_exactly(clickhouse, "letters", 10 + 399).await?;
        let whole = "SELECT arrayDifference(arraySort(groupArray(line_number)))[199], count() FROM letters.logs WHERE step_run_id = 'step'";
        assert_eq!(clickhouse.query(whole).await?, "2\t399", "all but the one that was dropped");
        Ok(())
    })
}

#[test]
fn an_event_that_clickhouse_refuses_is_a_dead_letter_and_all_around_it_are_delivered() -> Outcome<()> {
    run(240, async {
        let clickhouse = &ClickHouse::start()?;
        let rig = rig(clickhouse.url(), "event_letters", &[]).await?;
        let event = |n: u64| events::event("agent", format!("id-{n}"), n, "made", &json!({ "bad": n % 40 == 7 }));
        let ack = events::push(rig.gateway.channel()?, "agent", 0, vec![event(1)]).await?;
        assert_eq!(ack.last_accepted_seq, 1);
        becomes(clickhouse, "SELECT count() FROM event_letters.events", 1).await?;
        let refuse = "ADD CONSTRAINT no_bad_ones CHECK NOT JSONExtractBool(payload, 'data', 'bad')";
        clickhouse.query(&format!("ALTER TABLE event_letters.events {refuse}")).await?;

        let ack = events::push(rig.gateway.channel()?, "agent", 1, (2..=100).map(event).collect()).await?;
        assert_eq!(
            (ack.last_accepted_seq, ack.rejected_seqs),
            (100, Vec::new()),
            "the sink's refusal is none of the agent's concern"
        );
        becomes(clickhouse, "SELECT count() FROM event_letters.events", 97).await?;
        counted(&rig, "clickhouse-events", 3.0).await?;
        clickhouse.query("ALTER TABLE event_letters.events DROP CONSTRAINT no_bad_ones").await?;
        for letter in letters::list(&rig).await? {
            assert!(letter.reason.contains("no_bad_ones"), "{}", letter.reason);
            letters::retry(&rig, &letter).await?;
        }
        until(&rig, "no letter", <[_]>::is_empty).await?;
        becomes(clickhouse, "SELECT count() FROM event_letters.events", 100).await?;
        let same =
            "SELECT uniqExact(agent_id, event_id, digest), sum(seq), uniqExact(toDate(received)) FROM event_letters.events";
        assert_eq!(clickhouse.query(same).await?, "100\t5050\t1");
        Ok(())
    })
}

#[test]
fn an_event_too_large_for_kafka_and_without_content_is_a_dead_letter_and_delivered_once_the_topic_takes_it() -> Outcome<()> {
    run(240, async {
        let target = Target::new(Kafka::shared()?.bootstrap(), "letters").with("ARCGATE_KAFKA__LOGS", "off");
        let topic = target.topic("pipeline");
        create_topic(&target.client, &topic, &[("max.message.bytes", "65536")]).await?;
        let mut rig = target.gateway().await?;
        let of_size = |n: u64, bytes: usize| {
            cloud_event("a", n, "arcentra.task.progress", "s", &json!({ "n": n, "padding": noise(n, bytes) }))
        };
        let event = |n: u64| of_size(n, if n % 40 == 7 { 200_000 } else { 10 });
        let ack = events::push(rig.gateway.channel()?, "a", 0, (1..=100).map(event).collect()).await?;
        assert_eq!((ack.last_accepted_seq, ack.rejected_seqs), (100, Vec::new()));
        assert_eq!(target.events("pipeline", 97).await?.len(), 97);
        counted(&rig, "kafka-events", 3.0).await?;
        rig.crash().await?;

        let found = letters::list(&rig).await?;
        for (letter, n) in found.iter().zip([7, 47, 87]) {
            let shown = letters::show(&rig, letter).await?;
            assert_eq!((&*letter.sink, letter.attempts), ("kafka-events", 1));
            assert!(letter.reason.contains("no content that could be cut"), "{}", letter.reason);
            assert_eq!((&shown["route"]["topic"], &shown["route"]["key"]), (&json!(topic), &json!("s")));
            assert_eq!(shown["route"]["header:arcgate-event-id"], format!("evt-{n}"));
        }
        let [first, second, third] = &found[..] else { return Err(format!("three letters were expected: {found:?}").into()) };

        // Too early: it is refused again, and says so. Nobody else is refused, cut or held up by it.
        letters::retry(&rig, first).await?;
        let again = until(&rig, "a second refusal", |found| (found[0].attempts, &*found[0].state) == (2, "kept")).await?;
        assert!(again[0].reason.contains("max.message.bytes"), "{}", again[0].reason);
        let ack = events::push(rig.gateway.channel()?, "a", 100, (101..=120).map(|n| of_size(n, 60_000)).collect()).await?;
        assert_eq!(ack.last_accepted_seq, 120);
        assert_eq!(target.events("pipeline", 117).await?.len(), 117);

        letters::drop(&rig, second).await?;
        alter_topic(&target.client, &topic, &[("max.message.bytes", "1000000")]).await?;
        for letter in [first, third] {
            letters::retry(&rig, letter).await?;
        }
        until(&rig, "no letter", <[_]>::is_empty).await?;
        let found = target.events("pipeline", 119).await?;
        assert_eq!(found.len(), 119);
        let late: BTreeMap<_, _> = (found.iter().filter(|event| event.text.len() > 200_000))
            .map(|event| (event.header("arcgate-event-id"), event))
            .collect();
        assert!(late.keys().eq(["evt-7", "evt-87"].iter()), "{:?}", late.keys());
        assert!(late.values().all(|event| event.key == "s" && event.header("arcgate-digest").len() == 16));
        Ok(())
    })
}
