//! I4: `last_accepted_seq` never exceeds the highest seq of the batch it answers (or the handshake's mark, when the batch is
//! empty), and stops below the first hole inside the batch. A hole between the mark and the batch's first event is waited for
//! one second, then passed. So no agent stalls, and none discards what it has not sent.

use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::ingest_ack::Status::{self, Accepted, OutOfOrder, PartialAccepted, Rejected};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::harness::stock_agent::StockAgent;
use crate::harness::{Outcome, Rig, SOON, events, oracle, run, seconds, within};

/// What is sent, in one PushEvents call of an agent of its own, and what must be answered.
struct Row {
    what: &'static str,
    /// The handshake's `last_known_seq`.
    mark: u64,
    /// The batch; a seq that is negative is an event without an id, which can never be accepted.
    seqs: &'static [i64],
    last_accepted: u64,
    status: Status,
    rejected: &'static [u64],
}

const TABLE: &[Row] = &[
    Row { what: "all in order", mark: 0, seqs: &[1, 2, 3], last_accepted: 3, status: Accepted, rejected: &[] },
    Row { what: "file order", mark: 0, seqs: &[3, 1, 2], last_accepted: 3, status: Accepted, rejected: &[] },
    Row { what: "after a mark", mark: 10, seqs: &[11, 12], last_accepted: 12, status: Accepted, rejected: &[] },
    Row { what: "an empty batch: the handshake's mark", mark: 10, seqs: &[], last_accepted: 10, status: Accepted, rejected: &[] },
    Row {
        what: "below the mark: never above the batch",
        mark: 10,
        seqs: &[4, 5],
        last_accepted: 5,
        status: Accepted,
        rejected: &[],
    },
    Row { what: "a hole inside", mark: 0, seqs: &[1, 2, 4, 5], last_accepted: 2, status: PartialAccepted, rejected: &[] },
    Row { what: "two holes inside", mark: 0, seqs: &[1, 3, 5], last_accepted: 1, status: PartialAccepted, rejected: &[] },
    Row {
        what: "a hole inside, file order",
        mark: 0,
        seqs: &[5, 4, 2, 1],
        last_accepted: 2,
        status: PartialAccepted,
        rejected: &[],
    },
    Row { what: "a hole before", mark: 0, seqs: &[5, 6], last_accepted: 0, status: OutOfOrder, rejected: &[] },
    Row { what: "a hole before, after a mark", mark: 7, seqs: &[9], last_accepted: 7, status: OutOfOrder, rejected: &[] },
    Row { what: "poison inside", mark: 0, seqs: &[1, -2, 3], last_accepted: 3, status: PartialAccepted, rejected: &[2] },
    Row { what: "poison first", mark: 0, seqs: &[-1, 2], last_accepted: 2, status: PartialAccepted, rejected: &[1] },
    Row { what: "poison last", mark: 0, seqs: &[1, -2], last_accepted: 2, status: PartialAccepted, rejected: &[2] },
    Row { what: "nothing but poison", mark: 0, seqs: &[-1, -2], last_accepted: 2, status: Rejected, rejected: &[1, 2] },
    Row { what: "poison, then a hole", mark: 0, seqs: &[-1, 3], last_accepted: 1, status: PartialAccepted, rejected: &[1] },
];

#[test]
fn i4_each_answer_has_one_exact_meaning() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        for (index, row) in TABLE.iter().enumerate() {
            let agent = format!("row-{index}");
            let batch = row.seqs.iter().map(|seq| {
                let id = if *seq < 0 { String::new() } else { format!("id-{seq}") };
                events::event(&agent, id, seq.unsigned_abs(), "t", &json!({}))
            });
            let ack = events::push(rig.gateway.channel()?, &agent, row.mark, batch.collect()).await?;
            let what = row.what;
            assert_eq!(ack.last_accepted_seq, row.last_accepted, "{what}: {ack:?}");
            assert_eq!(ack.expected_seq, row.last_accepted + 1, "{what}: {ack:?}");
            assert_eq!(ack.status(), row.status, "{what}: {ack:?}");
            assert_eq!(ack.rejected_seqs, row.rejected, "{what}: {ack:?}");
            // What is not rejected is stored, above a hole too.
            assert_eq!(ack.taken, row.seqs.iter().filter(|seq| **seq > 0).count() as u64, "{what}: {ack:?}");
        }
        Ok(())
    })
}

#[test]
fn i4_a_hole_before_a_batch_is_waited_for_one_second_then_passed() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let batch = || vec![events::event("a", "id-5", 5, "t", &json!({})), events::event("a", "id-6", 6, "t", &json!({}))];
        let begin = Instant::now();
        let passed = within(SOON, "the hole to be passed", async {
            loop {
                let ack = events::push(rig.gateway.channel()?, "a", 0, batch()).await?;
                match ack.last_accepted_seq {
                    0 => tokio::time::sleep(Duration::from_millis(50)).await,
                    6 => return Ok(seconds(begin)),
                    other => panic!("answered {other}"),
                }
            }
        })
        .await?;
        assert!((0.8..5.0).contains(&passed), "passed after {passed} s");
        // What fills the hole in time is waited for: nothing is passed that was on its way.
        let ack = events::push(rig.gateway.channel()?, "b", 0, vec![events::event("b", "id-2", 2, "t", &json!({}))]).await?;
        assert_eq!(ack.last_accepted_seq, 0);
        let both = vec![events::event("b", "id-1", 1, "t", &json!({})), events::event("b", "id-2", 2, "t", &json!({}))];
        let ack = events::push(rig.gateway.channel()?, "b", 0, both).await?;
        assert_eq!((ack.last_accepted_seq, ack.taken, ack.repeated), (2, 1, 1));
        Ok(())
    })
}

#[test]
fn i4_a_remembered_mark_is_never_told_to_an_agent_whose_log_was_reset() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        let mut agent = StockAgent::new("reset");
        for n in 0..250 {
            agent.append("arcentra.task.progress", &json!({ "n": n }));
        }
        within(SOON, "the first life", agent.run(&rig.gateway.channel()?)).await?;
        agent.reset();
        for n in 0..150 {
            agent.append("arcentra.task.progress", &json!({ "second life": n }));
        }
        within(SOON, "the second life", agent.run(&rig.gateway.channel()?)).await?;
        assert_eq!(agent.lost(), Vec::<u64>::new());
        rig.gateway.stop().await?;
        assert_eq!(oracle::events(rig.gateway.launch()).await?.len(), 400);
        Ok(())
    })
}

#[test]
fn i4_the_existing_agent_neither_stalls_nor_loses_with_holes_poison_reordering_and_crashes() -> Outcome<()> {
    run(240, async {
        let mut rig = Rig::start().await?;
        for seed in 0..4 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut agent = StockAgent::new(&format!("stock-{seed}"));
            let mut kept = 0;
            for n in 0..600_u64 {
                match random.random_range(0..100) {
                    0 => agent.skip(),
                    1 => _ = agent.append_empty(),
                    _ => {
                        let text = "x".repeat(random.random_range(0..500));
                        agent.append("arcentra.task.progress", &json!({ "n": n, "text": text }));
                    }
                }
            }
            for index in 0..500 {
                if random.random_ratio(1, 20) {
                    agent.swap(index, index + random.random_range(1..20));
                }
            }
            let begin = Instant::now();
            while !agent.is_done() {
                within(SOON, "progress of the agent", async {
                    let before = agent.mark;
                    while agent.mark == before && !agent.is_done() {
                        let channel = rig.gateway.channel()?;
                        let highest = agent.cycle(&channel).await?.map_or(0, |ack| ack.last_accepted_seq);
                        assert!(highest <= 600, "the mark {highest} is above everything that was sent");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Ok(())
                })
                .await?;
                // Once in between: the gateway crashes, and the agent forgets its last marks.
                if kept == 0 && agent.mark > 200 {
                    kept = agent.mark;
                    agent.forget_mark(100);
                    rig.crash().await?;
                }
            }
            assert_eq!(agent.lost(), Vec::<u64>::new(), "seed {seed}: passed without ever being sent");
            assert!(seconds(begin) < 60.0, "seed {seed} took {} s and {} calls", seconds(begin), agent.calls);
        }
        rig.gateway.stop().await?;
        let stored = oracle::events(rig.gateway.launch()).await?;
        assert!(oracle::counts(&stored).values().all(|count| *count == 1));
        Ok(())
    })
}
