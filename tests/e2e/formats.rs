//! What batches may look like: compressions, line ends, records, cut lines, times.

use std::io::Write;

use arcgate_api::gateway::v1::log_batch::{Compression, Format};
use arcgate_api::gateway::v1::{LogBatch, LogRecord, LogRecords};
use prost::Message;

use crate::harness::{Outcome, Rig, logs, run};

async fn push(rig: &Rig, batch: LogBatch) -> Outcome<arcgate_api::gateway::v1::IngestAck> {
    logs::push(rig.gateway.channel()?, "a", [batch]).await
}

fn gzip(data: &[u8]) -> Outcome<Vec<u8>> {
    Ok(logs::compress(data, Compression::Gzip)?.to_vec())
}

#[test]
fn every_compression_is_read_whole() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let text = b"one\ntwo\nthree\n";
        // A stream encoder does not know the size beforehand, so its frame does not say it.
        let mut unsized_zstd = zstd::stream::Encoder::new(Vec::new(), 3)?;
        unsized_zstd.write_all(text)?;
        let frames = [zstd::bulk::compress(b"one\ntw", 1)?, zstd::bulk::compress(b"o\nthree\n", 1)?].concat();
        let rows = [
            ("none", Compression::None, text.to_vec()),
            ("unspecified", Compression::Unspecified, text.to_vec()),
            ("gzip", Compression::Gzip, gzip(text)?),
            ("gzip-members", Compression::Gzip, [gzip(b"one\ntw")?, gzip(b"o\nthree\n")?].concat()),
            ("zstd", Compression::Zstd, zstd::bulk::compress(text, 3)?),
            ("zstd-unsized", Compression::Zstd, unsized_zstd.finish()?),
            ("zstd-frames", Compression::Zstd, frames),
        ];
        for (name, compression, data) in rows {
            let mut batch = logs::batch("a", name, 1, data);
            (batch.compression, batch.raw_size) = (compression.into(), u32::try_from(text.len())?);
            let ack = push(&rig, batch).await?;
            assert_eq!((ack.taken, ack.next_line), (3, 4), "{name}: {ack:?}");
            assert_eq!(rig.history(name, 3).await?.contents(), ["one", "two", "three"], "{name}");
        }
        Ok(())
    })
}

#[test]
fn lines_end_where_they_should() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let rows: [(&str, &[u8], &[&str]); 7] = [
            ("crlf", b"one\r\ntwo\r\n", &["one", "two"]),
            ("last-without-end", b"one\ntwo", &["one", "two"]),
            ("empty-lines", b"\n\n\n", &["", "", ""]),
            ("carriage-returns", b"10%\r20%\r\n\r\nend\n", &["10%\r20%", "", "end"]),
            ("invalid", b"caf\xe9 \xf0\x9f\n", &["caf\u{fffd} \u{fffd}"]),
            ("colours", b"\x1b[31mred\x1b[0m \"quoted\" \\ \x00\n", &["\u{1b}[31mred\u{1b}[0m \"quoted\" \\ \0"]),
            ("one", b"x", &["x"]),
        ];
        for (name, data, expected) in rows {
            let ack = push(&rig, logs::batch("a", name, 1, data.to_vec())).await?;
            assert_eq!(ack.taken, expected.len() as u64, "{name}: {ack:?}");
            assert_eq!(rig.history(name, expected.len() as u64).await?.contents(), expected, "{name}");
        }
        Ok(())
    })
}

#[test]
fn lines_carry_their_batchs_facts_and_records_their_own() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut batch = logs::batch("a", "facts", 1, "of the batch\n");
        (batch.stream, batch.level, batch.plugin_name) = ("stderr".into(), "warn".into(), "shell".into());
        if let Some(meta) = &mut batch.meta {
            meta.timestamp = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 });
        }
        push(&rig, batch).await?;
        let record = |time, level: &str, content: &[u8]| LogRecord {
            timestamp_ms: time,
            level: level.into(),
            stream: "stdout".into(),
            plugin_name: "junit".into(),
            content: content.to_vec().into(),
        };
        let records = LogRecords {
            records: vec![record(1_700_000_001_500, "info", b"first"), record(1_700_000_002_500, "error", b"two\nlines")],
        };
        let mut batch = logs::batch("a", "facts", 2, records.encode_to_vec());
        batch.format = Format::Records.into();
        let ack = push(&rig, batch).await?;
        assert_eq!(ack.taken, 3, "{ack:?}");

        let seen = rig.history("facts", 4).await?;
        let facts = seen.entries.iter().map(|entry| {
            let words = [&entry.level, &entry.stream, &entry.plugin_name, &entry.agent_id, &entry.content].map(String::as_str);
            (entry.timestamp, entry.timestamp_ms, words)
        });
        let expected = [
            (1_700_000_000, 1_700_000_000_123, ["warn", "stderr", "shell", "a", "of the batch"]),
            (1_700_000_001, 1_700_000_001_500, ["info", "stdout", "junit", "a", "first"]),
            (1_700_000_002, 1_700_000_002_500, ["error", "stdout", "junit", "a", "two"]),
            (1_700_000_002, 1_700_000_002_500, ["error", "stdout", "junit", "a", "lines"]),
        ];
        assert_eq!(facts.collect::<Vec<_>>(), expected);
        Ok(())
    })
}

#[test]
fn a_line_over_the_limit_is_cut_and_says_so() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start_with(&[("ARCGATE_LOGS__MAX_LINE", "1KiB")]).await?;
        let text = format!("short\n{}\nlast\n", "x".repeat(5_000));
        let ack = push(&rig, logs::batch("a", "cut", 1, text)).await?;
        assert_eq!(ack.taken, 3, "{ack:?}");
        let seen = rig.history("cut", 3).await?;
        let cut: Vec<_> = seen.entries.iter().map(|entry| (entry.truncated, entry.content.len())).collect();
        assert_eq!(cut, [(false, 5), (true, 1024), (false, 4)]);
        Ok(())
    })
}
