//! Bad input gets a clear answer and costs nothing else: beside each row a well-behaved agent goes on.

use arcgate_api::gateway::v1::log_batch::Compression;
use arcgate_api::gateway::v1::{LogBatch, Meta};

use crate::harness::{Outcome, Rig, events, logs, run};

/// A batch that is fit, to be spoiled.
fn fit(seq: u64) -> LogBatch {
    logs::batch("a", "s", seq, "a line\n")
}

fn with_meta(change: impl FnOnce(&mut Meta)) -> LogBatch {
    let mut batch = fit(1);
    change(batch.meta.get_or_insert_default());
    batch
}

fn rows() -> Outcome<Vec<(&'static str, LogBatch)>> {
    let gzip = logs::compress(b"a line\n", Compression::Gzip)?;
    Ok(vec![
        ("no meta", LogBatch { meta: None, ..fit(1) }),
        ("no step id", with_meta(|meta| meta.step_id.clear())),
        ("a seq of 0", with_meta(|meta| meta.seq = 0)),
        ("a step id of 257 bytes", with_meta(|meta| meta.step_id = "x".repeat(257))),
        ("a step id with a control character", with_meta(|meta| meta.step_id = "a\u{7}b".into())),
        ("an agent id of 257 bytes", with_meta(|meta| meta.agent_id = "x".repeat(257))),
        ("an agent id with a control character", with_meta(|meta| meta.agent_id = "a\nb".into())),
        ("an unknown compression", LogBatch { compression: 99, ..fit(1) }),
        ("a raw_size that lies, above", LogBatch { raw_size: 1_000, ..fit(1) }),
        ("a raw_size that lies, below", LogBatch { raw_size: 3, ..fit(1) }),
        ("zstd that is none", LogBatch { compression: Compression::Zstd.into(), ..fit(1) }),
        ("gzip that is none", LogBatch { compression: Compression::Gzip.into(), ..fit(1) }),
        ("gzip that is cut", LogBatch { compression: Compression::Gzip.into(), data: gzip.slice(..gzip.len() - 5), ..fit(1) }),
        ("records that are none", LogBatch { format: 2, data: "\u{1}\u{2}not records".into(), ..fit(1) }),
        ("an unknown format", LogBatch { format: 77, ..fit(1) }),
    ])
}

#[test]
fn each_bad_log_batch_is_rejected_with_words_and_the_stream_goes_on() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        for (what, bad) in rows()? {
            let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
            let seq = bad.meta.as_ref().map_or(0, |meta| meta.seq);
            let ack = session.ask(bad.clone()).await?;
            assert_eq!((ack.taken, &ack.rejected_seqs[..]), (0, &[seq][..]), "{what}: {ack:?}");
            assert!(!ack.message.is_empty(), "{what}: the answer does not say why");
            let ack = session.ask(fit(2)).await?;
            assert!(ack.rejected_seqs.is_empty() && ack.taken + ack.repeated == 1, "{what} spoiled what came after it: {ack:?}");
            // The same over PushLogs, in one answer.
            let ack = logs::push(rig.gateway.channel()?, "a", [bad, fit(3)]).await?;
            assert_eq!(&ack.rejected_seqs[..], &[seq], "{what}: {ack:?}");
            assert!(!ack.message.is_empty() && ack.taken + ack.repeated == 1, "{what}: {ack:?}");
        }
        Ok(())
    })
}

#[test]
fn half_closed_and_empty_streams_are_answered() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let ack = logs::push(rig.gateway.channel()?, "a", []).await?;
        assert_eq!((ack.taken, ack.last_accepted_seq), (0, 0));
        let ack = events::push(rig.gateway.channel()?, "a", 42, Vec::new()).await?;
        assert_eq!((ack.taken, ack.last_accepted_seq), (0, 42));
        // Without a handshake, and with nothing at all.
        let answer = logs::client(rig.gateway.channel()?).push_logs(tokio_stream::empty()).await?.into_inner();
        assert!(answer.ack.is_some());
        let answer = logs::client(rig.gateway.channel()?).push_events(tokio_stream::empty()).await?.into_inner();
        assert!(answer.ack.is_some());
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        session.finish();
        assert!(session.answer().await?.is_none());
        let mut session = events::EventSession::open(rig.gateway.channel()?, "a", 0).await?;
        session.finish();
        assert!(session.answer().await?.is_none());
        Ok(())
    })
}

#[test]
fn a_message_over_the_limit_is_refused_and_the_connection_serves_others() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start_with(&[("ARCGATE_GRPC__MAX_MESSAGE", "1MiB"), ("ARCGATE_EVENTS__MAX_EVENT", "512KiB")]).await?;
        let channel = rig.gateway.channel()?;
        let error = logs::push(channel.clone(), "a", [logs::batch("a", "s", 1, "x".repeat(2 << 20))]).await;
        let error = error.err().ok_or("2 MiB were taken")?.to_string();
        assert!(error.contains("1048576") || error.contains("1 MiB") || error.contains("limit"), "{error}");
        assert_eq!(logs::push(channel, "a", [fit(1)]).await?.taken, 1);
        Ok(())
    })
}

#[test]
fn lines_far_beyond_the_last_are_refused_or_kept_but_never_harm() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        // Readers' numbers have 31 bits: a line that would pass them is refused with words.
        for first_line in [1 << 31, u64::MAX, u64::MAX - 1] {
            let batch = LogBatch { first_line, ..fit(1) };
            let ack = session.ask(batch).await?;
            assert_eq!((ack.taken, ack.rejected_seqs.len()), (0, 1), "{first_line}: {ack:?}");
        }
        let ack = session.ask(LogBatch { first_line: 1, ..fit(2) }).await?;
        assert_eq!((ack.taken, ack.next_line), (1, 2), "{ack:?}");
        Ok(())
    })
}
