//! I6: the lines of a step run are numbered 1, 2, 3 …; lines that the gateway dropped keep their place: a gap marker says how many are
//! missing and why.

use arcgate_api::gateway::v1::log_batch::Compression;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Outcome, Reader, Rig, SOON, Seen, folder, logs, run, scaled, within};

/// Little memory, one shard, and no waiting for room.
const SMALL: &[(&str, &str)] = &[
    ("ARCGATE_LIMITS__MEMORY", "64MiB"),
    ("ARCGATE_GRPC__MAX_MESSAGE", "16MiB"),
    ("ARCGATE_EVENTS__MAX_EVENT", "8MiB"),
    ("ARCGATE_LOGS__MAX_BATCH", "16MiB"),
    ("ARCGATE_LOGS__SHARDS", "1"),
    ("ARCGATE_LOGS__QUEUE_WAIT", "0s"),
    // Its database would be written as slowly, for minutes.
    ("ARCGATE_CONTROL__ENABLED", "false"),
];

#[test]
fn i6_dropped_lines_keep_their_numbers_and_gap_markers_count_them() -> Outcome<()> {
    run(300, async {
        // A disk on which every write of the store takes a third of a second, little memory, and no waiting for room.
        let folder = folder()?;
        let out = folder.path().join("inject").display().to_string();
        let writes = "pwritev,pwritev2,pwrite64";
        let wrapper =
            ["strace", "-D", "-f", "-qq", "-e", &format!("trace={writes}"), "-e", &format!("inject={writes}:delay_enter=300000")];
        let wrapper: Vec<String> = wrapper.into_iter().chain(["-o", &out]).map(str::to_owned).collect();
        let mut launch = crate::harness::Launch::new(crate::harness::binary(), folder.path().join("data")).wrapped(&wrapper);
        for (name, value) in SMALL {
            launch = launch.with(name, value);
        }
        let rig = Rig::launch(launch, folder).await?;

        let (agents, batches, lines) = (8, scaled(120, 120) as u64, 1_000_u64);
        let mut pushes = JoinSet::new();
        for agent in 0..agents {
            let channel = rig.gateway.channel()?;
            pushes.spawn(async move {
                let step_run = format!("dropped-{agent}");
                let batches = (0..batches).map(|batch| {
                    let text: String =
                        (1..=lines).map(|line| format!("{} {}\n", batch * lines + line, "x".repeat(500))).collect();
                    logs::batch("a", &step_run, batch + 1, text)
                });
                let ack = logs::push(channel, "a", batches.collect::<Vec<_>>()).await?;
                Outcome::Ok((agent, ack))
            });
        }
        let mut dropped = 0;
        while let Some(push) = pushes.join_next().await {
            let (agent, ack) = push??;
            assert_eq!(ack.taken + ack.dropped, batches * lines, "{ack:?}");
            dropped += ack.dropped;
            let mut seen = Seen::from(1);
            let mut reader = Reader::follow(rig.http(), &format!("dropped-{agent}")).await?;
            reader.read_to(batches * lines, &mut seen, SOON).await?;
            assert_eq!((seen.lines, seen.missing), (ack.taken, ack.dropped));
            for entry in seen.entries {
                match entry.gap {
                    Some(gap) => assert_eq!((entry.level.as_str(), gap.reason.as_str()), ("gap", "queue_full")),
                    None => assert_eq!(entry.content.split(' ').next(), Some(entry.line_number.to_string().as_str())),
                }
            }
        }
        assert!(dropped > 0, "nothing was dropped: this test shows nothing");
        Ok(())
    })
}

#[test]
fn i6_a_session_and_counted_batches_drop_nothing() -> Outcome<()> {
    run(120, async {
        let rig = Rig::start_with(SMALL).await?;
        let mut sessions = JoinSet::new();
        for agent in 0..8 {
            let channel = rig.gateway.channel()?;
            sessions.spawn(async move {
                let (name, step_run) = (format!("agent-{agent}"), format!("kept-{agent}"));
                let (sender, mut answers) = logs::LogSession::open(channel, &name).await?.split()?;
                let sending = tokio::spawn(async move {
                    for batch in 0..60_u64 {
                        let text: String =
                            (1..=1_000).map(|line| format!("{} {}\n", batch * 1_000 + line, "x".repeat(300))).collect();
                        let mut message = logs::batch(&name, &step_run, batch + 1, text);
                        // Half of the agents count for themselves.
                        message.first_line = if agent % 2 == 0 { batch * 1_000 + 1 } else { 0 };
                        sender.send(logs::message(message)).await?;
                    }
                    Outcome::Ok(())
                });
                let mut taken = 0;
                for _ in 0..60 {
                    let ack = answers.message().await?.and_then(|answer| answer.ack).ok_or("no ack")?;
                    assert_eq!((ack.dropped, ack.rejected_seqs.len()), (0, 0), "{ack:?}");
                    taken += ack.taken;
                }
                sending.await??;
                assert_eq!(taken, 60_000);
                Outcome::Ok(agent)
            });
        }
        while let Some(session) = sessions.join_next().await {
            let agent = session??;
            let seen = rig.history(&format!("kept-{agent}"), 60_000).await?;
            assert_eq!((seen.lines, seen.missing), (60_000, 0));
        }
        Ok(())
    })
}

#[test]
fn i6_counted_lines_repeated_late_and_from_another_agent() -> Outcome<()> {
    run(60, async {
        let mut rig = Rig::start().await?;
        let counted = |agent: &str, seq, first_line, text: &str| {
            let mut batch = logs::batch(agent, "counted", seq, text.to_owned());
            batch.first_line = first_line;
            batch
        };
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let ack = session.ask(counted("a", 1, 1, "one\ntwo\n")).await?;
        assert_eq!((ack.taken, ack.repeated, ack.next_line), (2, 0, 3), "{ack:?}");
        // Repeated in part: only what is new adds.
        let ack = session.ask(counted("a", 2, 2, "two\nthree\n")).await?;
        assert_eq!((ack.taken, ack.repeated, ack.next_line), (1, 1, 4), "{ack:?}");
        // A hole is left, by the agent's own count; what comes late below the last number is counted and not stored.
        let ack = session.ask(counted("a", 3, 6, "six\n")).await?;
        assert_eq!(ack.taken, 1, "{ack:?}");
        let ack = session.ask(counted("a", 4, 4, "four\n")).await?;
        assert_eq!((ack.taken, ack.late), (0, 1), "{ack:?}");
        // Another agent may not write into a stream that one agent counts.
        let mut other = logs::LogSession::open(rig.gateway.channel()?, "b").await?;
        let ack = other.ask(counted("b", 1, 7, "mine\n")).await?;
        assert_eq!((ack.taken, &ack.rejected_seqs[..]), (0, &[1][..]), "{ack:?}");
        assert!(ack.message.contains("foreign_writer"), "{ack:?}");
        // After a crash it goes on where it was.
        drop((session, other));
        within(SOON, "the lines to be durable", async {
            let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
            while session.ask(logs::question("a", "counted", 5)).await?.durable_line < 3 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await?;
        rig.crash().await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        assert_eq!(session.ask(logs::question("a", "counted", 1)).await?.next_line, 7);
        session.ask(counted("a", 2, 7, "seven\n")).await?;

        let seen = rig.history("counted", 7).await?;
        assert_eq!(seen.contents(), ["one", "two", "three", "six", "seven"]);
        let gap = seen.entries.iter().find(|entry| entry.gap.is_some()).ok_or("no gap")?;
        assert_eq!((gap.line_number, gap.gap.as_ref().map(|gap| gap.count)), (4, Some(2)));
        Ok(())
    })
}

#[test]
fn i6_a_batch_that_cannot_be_read_leaves_a_gap_without_numbers_and_the_stream_goes_on() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        session.ask(logs::batch("a", "torn", 1, "before\n")).await?;
        let mut torn = logs::batch("a", "torn", 2, "this is no zstd frame");
        torn.compression = Compression::Zstd.into();
        let ack = session.ask(torn).await?;
        assert_eq!((ack.taken, &ack.rejected_seqs[..]), (0, &[2][..]), "{ack:?}");
        assert!(!ack.message.is_empty());
        let ack = session.ask(logs::batch("a", "torn", 3, "after\n")).await?;
        assert_eq!((ack.taken, ack.next_line), (1, 3), "{ack:?}");

        let seen = rig.history("torn", 2).await?;
        let shown: Vec<_> =
            seen.entries.iter().map(|entry| (entry.line_number, entry.gap.as_ref().map(|gap| gap.reason.as_str()))).collect();
        assert_eq!(shown, [(1, None), (2, Some("unreadable")), (2, None)]);
        Ok(())
    })
}

#[test]
fn i6_a_batch_seen_again_adds_nothing_unless_its_seq_differs() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let ack = logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "again", 1, "one\n")]).await?;
        assert_eq!((ack.taken, ack.repeated), (1, 0), "{ack:?}");
        let ack = logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "again", 1, "one\n")]).await?;
        assert_eq!((ack.taken, ack.repeated), (0, 1), "{ack:?}");
        let ack = logs::push(rig.gateway.channel()?, "a", [logs::batch("a", "again", 2, "one\n")]).await?;
        assert_eq!((ack.taken, ack.repeated, ack.next_line), (1, 0, 3), "{ack:?}");
        rig.settled("again", 2).await?;
        let mut reader = Reader::follow_with(rig.http(), "again", json!({ "tail": 1 })).await?;
        let mut seen = Seen::from(2);
        reader.read_to(2, &mut seen, SOON).await?;
        Ok(())
    })
}
