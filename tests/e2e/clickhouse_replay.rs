//! History from ClickHouse: what the gateway's own store no longer has, or never had, is shown all the same, and looks the same.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::harness::services::ClickHouse;
use crate::harness::{Outcome, Reader, Rig, SOON, eventually, folder, logs, run, within};

/// Makes text that does not shrink, so that a log has several segments.
const NOISE: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

pub(crate) async fn rig(url: &str, database: &str) -> Outcome<Rig> {
    let own = [
        ("ARCGATE_CLICKHOUSE__URL", url),
        ("ARCGATE_CLICKHOUSE__DATABASE", database),
        ("ARCGATE_CLICKHOUSE__BATCH_AGE", "100ms"),
        ("ARCGATE_CLICKHOUSE__TIMEOUT", "5s"),
        ("ARCGATE_LOGS__MAX_LINE", "1KiB"),
        ("ARCGATE_STORE__SEGMENT_BYTES", "64KiB"),
    ];
    Rig::start_with(&own).await
}

/// A log with everything that a log can have: outputs in turn, levels, lines that are cut, odd bytes, numbers left out, an end.
async fn push(rig: &Rig, step_run: &str, lines: u64) -> Outcome<u64> {
    let mut session = logs::LogSession::open(rig.gateway.channel()?, "agent").await?;
    let mut next = 1;
    for (seq, (stream, level)) in [("stdout", "info"), ("stderr", "error"), ("", "")].into_iter().cycle().take(9).enumerate() {
        let mut text = Vec::new();
        for number in next..next + lines {
            match number % 7 {
                0 => text.extend_from_slice(b"\xff\xfe no UTF-8, \"quoted\" \x1b[31mred\x1b[0m"),
                1 => text.extend_from_slice(&vec![b'x'; 1500]),
                2 => text.extend_from_slice(b"ends oddly\r"),
                3 => {}
                _ => text.extend_from_slice(
                    format!("line {number} \u{1F680} {:x}", u128::from(number).wrapping_mul(NOISE)).as_bytes(),
                ),
            }
            text.extend_from_slice(if number % 2 == 0 { b"\r\n" } else { b"\n" });
        }
        let mut batch = logs::batch("agent", step_run, seq as u64 + 1, text);
        (batch.first_line, batch.stream, batch.level) = (next, stream.into(), level.into());
        batch.plugin_name = "shell".into();
        // As readers name it.
        batch.meta.get_or_insert_default().pipeline_id = "p".into();
        batch.end_of_log = seq == 8;
        session.ask(batch).await?;
        if seq % 3 == 2 {
            // A write at a time, so that the log has several segments.
            rig.settled(step_run, next + lines - 1).await?;
        }
        // The agent never sent these.
        next += lines + if seq == 4 { 3 } else { 0 };
    }
    rig.settled(step_run, next - 1).await?;
    Ok(next - 1)
}

/// Each chunk of history as it came, byte for byte, and how history ended: `history_done`, or the error.
async fn chunks(rig: &Rig, step_run: &str, params: Value) -> Outcome<(Vec<String>, String)> {
    let mut reader = Reader::follow_with(rig.http(), step_run, params).await?;
    within(SOON, "history", async {
        let mut chunks = Vec::new();
        loop {
            let Some(Frame::Text(text)) = reader.frame().await? else { continue };
            let message: Value = serde_json::from_str(&text)?;
            match message["type"].as_str().unwrap_or_default() {
                "log_chunk" => chunks.push(text.to_string()),
                "history_done" => return Ok((chunks, "history_done".into())),
                "error" => return Ok((chunks, message["error"].as_str().unwrap_or_default().to_owned())),
                _ => {}
            }
        }
    })
    .await
}

/// What chunks have before their entries, and all these, byte for byte, one a line.
fn joined(chunks: &[String]) -> Outcome<[String; 2]> {
    const BETWEEN: &str = "},{\"step_run_id\"";
    let mut parts = chunks.iter().map(|chunk| chunk.split_once("\"data\":[").ok_or("a chunk without data"));
    let (head, first) = parts.next().ok_or("no chunk")??;
    let mut entries = vec![first.strip_suffix("]}").ok_or("a chunk without an end")?];
    for part in parts {
        let (other_head, more) = part?;
        assert_eq!(head, other_head);
        entries.push(more.strip_suffix("]}").ok_or("a chunk without an end")?);
    }
    assert!(entries.iter().all(|entries| entries.matches(BETWEEN).count() < 200));
    Ok([head.to_owned(), entries.join(",").replace(BETWEEN, "}\n{\"step_run_id\"")])
}

/// As [`chunks`], each entry by itself.
async fn history(rig: &Rig, step_run: &str, params: Value) -> Outcome<(Vec<String>, String)> {
    let (chunks, done) = chunks(rig, step_run, params).await?;
    let mut entries = Vec::new();
    for chunk in chunks {
        let (_, data) = chunk.split_once("\"data\":[").ok_or("a chunk without data")?;
        entries
            .extend(data.trim_end_matches("]}").split("},{\"step_run_id\"").map(|one| one.trim_matches(['{', '}']).to_owned()));
    }
    Ok((entries, done))
}

fn without_prefix(entries: &[String]) -> Vec<&str> {
    entries.iter().map(|entry| entry.trim_start_matches("\"step_run_id\"")).collect()
}

async fn delivered(clickhouse: &ClickHouse, database: &str, lines: u64) -> Outcome<()> {
    let sql = format!("SELECT count() FROM {database}.logs");
    eventually(Duration::from_secs(60), &sql, async || Ok((clickhouse.number(&sql).await.ok() == Some(lines)).then_some(())))
        .await?;
    let ends = format!("SELECT count() FROM {database}.log_marks WHERE kind = 'end'");
    eventually(Duration::from_secs(60), &ends, async || Ok((clickhouse.number(&ends).await.ok() >= Some(1)).then_some(()))).await
}

#[test]
fn a_gateway_with_an_empty_store_replays_the_same_json_that_another_delivered() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let first = rig(clickhouse.url(), "replayed").await?;
        let last = push(&first, "step", 400).await?;
        delivered(clickhouse, "replayed", last - 3).await?;
        let other = rig(clickhouse.url(), "replayed").await?;
        for params in
            [json!({}), json!({ "fromLine": 1234 }), json!({ "tail": 77 }), json!({ "fromLine": 2001 }), json!({ "tail": 1700 })]
        {
            let (local, done) = chunks(&first, "step", params.clone()).await?;
            assert_eq!(done, "history_done");
            let (archived, done) = chunks(&other, "step", params.clone()).await?;
            assert_eq!(done, "history_done");
            // Where a chunk ends depends on what comes in one go, and on nothing that a reader relies on.
            let ([head, local], [other_head, archived]) = (joined(&local)?, joined(&archived)?);
            assert_eq!(head, other_head, "{params}");
            for (local, archived) in local.split('\n').zip(archived.split('\n')) {
                assert_eq!(local, archived, "{params}");
            }
            assert_eq!(local.len(), archived.len(), "{params}");
        }
        // The log has ended there, so it ends here.
        let mut reader = Reader::follow_with(other.http(), "step", json!({ "tail": 1 })).await?;
        within(SOON, "eof", async {
            while reader.next().await?.kind != "eof" {}
            Ok(())
        })
        .await
    })
}

#[test]
fn what_retention_has_removed_here_comes_from_clickhouse_without_a_seam() -> Outcome<()> {
    run(240, async {
        let clickhouse = ClickHouse::shared()?;
        let mut rig = rig(clickhouse.url(), "removed").await?;
        let last = push(&rig, "step", 600).await?;
        delivered(clickhouse, "removed", last - 3).await?;
        let (whole, _) = history(&rig, "step", json!({})).await?;
        // As retention does: whole segments go, the oldest first.
        rig.gateway.stop().await?;
        let mut segments: Vec<_> = std::fs::read_dir(rig.data().join("lines"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        segments.sort();
        assert!(segments.len() >= 3, "{segments:?}");
        for segment in &segments[..segments.len() - 1] {
            std::fs::remove_file(segment)?;
        }
        rig.gateway.restart().await?;
        let (again, done) = history(&rig, "step", json!({})).await?;
        assert_eq!(done, "history_done");
        assert_eq!(again.len(), whole.len());
        for (again, whole) in without_prefix(&again).into_iter().zip(without_prefix(&whole)) {
            assert_eq!(again, whole);
        }
        // Part of it is local: without ClickHouse there is a gap, and then lines.
        let (tail, _) = history(&rig, "step", json!({ "tail": 20 })).await?;
        assert_eq!(without_prefix(&tail), without_prefix(&whole[whole.len() - 20..]));
        Ok(())
    })
}

#[test]
fn with_clickhouse_down_a_reader_gets_what_is_local_and_one_clear_error() -> Outcome<()> {
    run(240, async {
        let mut clickhouse = ClickHouse::start()?;
        let first = rig(clickhouse.url(), "down").await?;
        push(&first, "elsewhere", 10).await?;
        let here = rig(clickhouse.url(), "down").await?;
        // Counted by the agent, which has begun at another gateway.
        let mut batch = logs::batch("agent", "half", 1, "a\nb\nc\n");
        batch.first_line = 11;
        logs::push(here.gateway.channel()?, "agent", [batch]).await?;
        here.settled("half", 13).await?;
        clickhouse.kill()?;

        let (entries, error) = history(&here, "half", json!({})).await?;
        assert_eq!(entries.len(), 4, "a gap and three lines: {entries:?}");
        assert!(entries[0].contains(r#""reason":"unreachable""#), "{}", entries[0]);
        assert!(error.starts_with("load history failed") && error.contains("ClickHouse at http"), "{error}");
        let (entries, error) = history(&here, "elsewhere", json!({})).await?;
        assert!(entries.is_empty() && error.starts_with("load history failed"), "{entries:?}: {error}");

        // What is all here does not need it: past the numbers that the agent left out.
        let (_, done) = history(&first, "elsewhere", json!({ "fromLine": 60 })).await?;
        assert_eq!(done, "history_done");
        clickhouse.restart()?;
        eventually(SOON, "history from ClickHouse", async || {
            let (_, done) = history(&here, "half", json!({})).await?;
            Ok((done == "history_done").then_some(()))
        })
        .await
    })
}

#[test]
fn a_password_that_is_changed_is_found_by_readers_of_history_without_a_restart() -> Outcome<()> {
    run(180, async {
        let mut clickhouse = ClickHouse::start_with_user("arc=old")?;
        let folder = folder()?;
        let file = folder.path().join("password");
        std::fs::write(&file, "old\n")?;
        let password = file.display().to_string();
        let login = [("ARCGATE_CLICKHOUSE__USER", "arc"), ("ARCGATE_CLICKHOUSE__PASSWORD_FILE", password.as_str())];
        let first = crate::clickhouse::rig(clickhouse.url(), "rotated", &login).await?;
        crate::clickhouse::push(&first, "step", "p", 1, 10).await?;
        first.has_delivered("clickhouse-logs", 10).await?;
        // Has nothing to deliver, so that only readers ask.
        let other = crate::clickhouse::rig(clickhouse.url(), "rotated", &login).await?;
        let (local, _) = history(&first, "step", json!({})).await?;
        assert_eq!(history(&other, "step", json!({})).await?, (local.clone(), "history_done".into()));

        clickhouse.stop()?;
        clickhouse.restart_with_user("arc=new")?;
        eventually(SOON, "a word about the password", async || {
            let (entries, error) = history(&other, "step", json!({})).await?;
            assert!(entries.is_empty() && error != "history_done", "{entries:?}: {error}");
            Ok(error.contains("clickhouse.password_file").then_some(()))
        })
        .await?;
        std::fs::write(&file, "new\n")?;
        eventually(SOON, "history with the new password", async || {
            let (entries, done) = history(&other, "step", json!({})).await?;
            Ok((done == "history_done" && entries == local).then_some(()))
        })
        .await
    })
}

#[test]
fn live_lines_come_while_clickhouse_is_down() -> Outcome<()> {
    run(120, async {
        let mut clickhouse = ClickHouse::start()?;
        let rig = rig(clickhouse.url(), "live").await?;
        clickhouse.kill()?;
        let mut reader = Reader::follow(rig.http(), "new").await?;
        within(SOON, "the error", async {
            while reader.next().await?.error.is_none() {}
            Ok(())
        })
        .await?;
        logs::push(rig.gateway.channel()?, "agent", [logs::batch("agent", "new", 1, "one\ntwo\n")]).await?;
        let mut seen = crate::harness::Seen::from(1);
        reader.read_to(2, &mut seen, SOON).await?;
        assert_eq!(seen.contents(), ["one", "two"]);
        Ok(())
    })
}
