//! I1: an event is acked only after a sync to disk that covers it has returned, across restarts too. A failed sync poisons the
//! store.

use std::time::Duration;

use serde_json::json;

use crate::harness::trace::{Call, Trace};
use crate::harness::{Outcome, Rig, SOON, events, eventually, folder, http, logs, oracle, run};

/// Numbers that are nowhere else in the traffic, so that an ack can be told by its bytes.
const FIRST_SEQ: u64 = 7_000_000_001;

/// The bytes by which an answer's `last_accepted_seq` (field 3, a varint) is told.
fn mark(seq: u64) -> Vec<u8> {
    let mut bytes = vec![0x18];
    let mut rest = seq;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Finds the write of the event, a sync of the same file that began after it, and the ack; the ack must be the last to begin.
fn check(calls: &[Call], id: &str, seq: u64) -> Outcome<()> {
    let stored = calls
        .iter()
        .find(|call| call.writes() && !call.on_socket() && call.target.ends_with(".seg") && call.carries(id.as_bytes()));
    let stored = stored.ok_or_else(|| format!("{id} was never written to a segment"))?;
    let ack = calls.iter().find(|call| call.writes() && call.on_socket() && call.carries(&mark(seq)));
    let ack = ack.ok_or_else(|| format!("no ack of {id} was seen"))?;
    let covering =
        |call: &&Call| call.synced() && call.target == stored.target && call.begin >= stored.end && call.end <= ack.begin;
    match calls.iter().find(covering) {
        Some(_) => Ok(()),
        None => Err(format!("{id} was acked without a sync that covers it:\nwrite {stored:?}\nack {ack:?}").into()),
    }
}

#[test]
fn i1_every_ack_is_written_after_an_fdatasync_that_covers_its_events() -> Outcome<()> {
    run(120, async {
        let folder = folder()?;
        let trace = Trace::in_folder(folder.path());
        let mut rig = Rig::start_wrapped(folder, &trace.wrapper()).await?;

        // Alone, so that each event has a sync of its own; then four at a time, so that they share syncs.
        let rounds = 40;
        let mut sent = Vec::new();
        for (agents, base) in [(1, 0), (4, 1_000)] {
            let mut tasks = tokio::task::JoinSet::new();
            for agent in 0..agents {
                let channel = rig.gateway.channel()?;
                tasks.spawn(async move {
                    let name = format!("traced-{agent}");
                    let first = FIRST_SEQ + base + agent * 100;
                    let mut session = events::EventSession::open(channel, &name, first - 1).await?;
                    let mut sent = Vec::new();
                    for seq in first..first + rounds {
                        let id = format!("traced-event-{seq}");
                        let ack = session.ask(vec![events::event(&name, &id, seq, "traced", &json!({ "n": seq }))]).await?;
                        assert_eq!(ack.last_accepted_seq, seq);
                        sent.push((id, seq));
                    }
                    Outcome::Ok(sent)
                });
            }
            while let Some(task) = tasks.join_next().await {
                sent.extend(task??);
            }
        }
        rig.gateway.stop().await?;

        let calls = trace.calls()?;
        sent.iter().try_for_each(|(id, seq)| check(&calls, id, *seq))
    })
}

#[test]
fn i1_a_repeat_is_acked_after_its_sync_too_across_a_restart() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        let event = || vec![events::event("a", "once", 1, "t", &json!({}))];
        assert_eq!(events::push(rig.gateway.channel()?, "a", 0, event()).await?.taken, 1);
        rig.crash().await?;
        let ack = events::push(rig.gateway.channel()?, "a", 0, event()).await?;
        assert_eq!((ack.last_accepted_seq, ack.taken, ack.repeated), (1, 0, 1));
        rig.gateway.kill9()?;
        assert_eq!(oracle::events(rig.gateway.launch()).await?.len(), 1);
        Ok(())
    })
}

#[test]
fn i1_a_failed_sync_ends_acceptance_until_a_restart_and_reads_go_on() -> Outcome<()> {
    run(120, async {
        // Every sync fails from the moment on at which a marker file appears: strace cannot do that, but it can fail from the
        // n-th call on. The store's opening syncs, too, so n is found by trying, from high to low.
        let folder = folder()?;
        let out = folder.path().join("inject").display().to_string();
        let wrapper =
            ["strace", "-D", "-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=40+", "-o", &out];
        let mut rig = Rig::start_wrapped(folder, &wrapper.map(str::to_owned)).await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        session.ask(logs::batch("a", "before", 1, "a line\n")).await?;

        let mut acked = 0;
        for seq in 1..=200 {
            let event = vec![events::event("a", format!("e-{seq}"), seq, "t", &json!({}))];
            match events::push(rig.gateway.channel()?, "a", seq - 1, event).await {
                Ok(ack) if ack.last_accepted_seq == seq => acked = seq,
                Ok(ack) => panic!("event {seq} was answered with {ack:?}"),
                Err(_) => break,
            }
        }
        assert!((1..200).contains(&acked), "{acked} of 200 events were acked although syncs fail");
        // It stays so: nothing is acked any more, and the gateway says that it is not ready.
        for _ in 0..3 {
            let event = vec![events::event("a", "after", 1_000, "t", &json!({}))];
            assert!(
                events::push(rig.gateway.channel()?, "a", 999, event).await.is_err(),
                "an event was acked after a failed sync"
            );
        }
        eventually(SOON, "/readyz to fail", async || Ok((http::get(rig.http(), "/readyz").await?.status != 200).then_some(())))
            .await?;
        assert_eq!(rig.history("before", 1).await?.contents(), ["a line"]);

        rig.gateway.kill9()?;
        let stored = oracle::events(rig.gateway.launch()).await?;
        for seq in 1..=acked {
            let id = format!("e-{seq}");
            assert_eq!(stored.iter().filter(|event| event.event_id == id).count(), 1, "{id}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    })
}
