//! The messages and error texts of `GET /api/v1/ws`, channel_log, as clients know them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Outcome, Reader, Rig, SOON, Seen, http, logs, run, silence};

/// Pushes that many lines, `line 1` on, over one session.
async fn lines(rig: &Rig, step_run: &str, count: u64) -> Outcome<()> {
    let text: String = (1..=count).map(|number| format!("line {number}\n")).collect();
    let mut batch = logs::batch("a", step_run, 1, text);
    batch.first_line = 1;
    let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
    assert_eq!(session.ask(batch).await?.taken, count);
    Ok(())
}

/// Pushes one more line, with that number.
async fn one_more(rig: &Rig, step_run: &str, number: u64, end: bool) -> Outcome<()> {
    let mut batch = logs::batch("a", step_run, number + 1, format!("line {number}\n"));
    (batch.first_line, batch.end_of_log) = (number, end);
    let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
    assert_eq!(session.ask(batch).await?.taken, 1);
    Ok(())
}

#[test]
fn history_then_live_in_the_messages_that_clients_know() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        lines(&rig, "s", 450).await?;
        rig.settled("s", 450).await?;
        let mut reader = Reader::follow(rig.http(), "s").await?;
        let subscribed = reader.soon().await?;
        assert_eq!(
            (subscribed.kind.as_str(), subscribed.channel.as_str(), &subscribed.data),
            ("subscribed", "channel_log", &Value::Null)
        );
        assert_eq!(subscribed.params, json!({ "pipelineId": "p", "jobId": "j", "stepRunId": "s" }));
        assert!(subscribed.epoch.is_some());
        let mut seen = Seen::from(1);
        let mut chunks = Vec::new();
        loop {
            let message = reader.soon().await?;
            match message.kind.as_str() {
                "log_chunk" => {
                    let entries = message.entries()?;
                    chunks.push(entries.len());
                    entries.into_iter().try_for_each(|entry| seen.take(entry))?;
                }
                "history_done" => break assert_eq!(message.data, Value::Null),
                other => panic!("{other} in the middle of history"),
            }
        }
        assert_eq!(seen.lines, 450);
        assert!(chunks.iter().all(|lines| (1..=200).contains(lines)), "{chunks:?}");
        one_more(&rig, "s", 451, false).await?;
        let live = reader.soon().await?;
        assert_eq!(live.kind, "log");
        assert!(live.data.is_object(), "a live line is one entry: {:?}", live.data);
        live.entries()?.into_iter().try_for_each(|entry| seen.take(entry))?;

        reader
            .send(r#"{"channel":"channel_log","action":" UnSubscribe ","params":{"pipelineId":"p","jobId":"j","stepRunId":"s"}}"#)
            .await?;
        assert_eq!(reader.soon().await?.kind, "unsubscribed");
        one_more(&rig, "s", 452, false).await?;
        silence(&mut reader, Duration::from_millis(500)).await
    })
}

#[test]
fn nonsense_is_answered_in_known_words_and_the_connection_stays_open() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut reader = Reader::connect(rig.http(), None).await?;
        let missing = "pipelineId, jobId and stepRunId are required";
        let rows = [
            ("not json", "", "invalid request: message must be a JSON object"),
            ("[1]", "", "invalid request: message must be a JSON object"),
            ("null", "", "invalid request: message must be a JSON object"),
            (r#"{"channel":7}"#, "", "invalid request: message must be a JSON object"),
            ("{}", "", missing),
            (r#"{"channel":"channel_log","params":{"pipelineId":"p","jobId":"j"}}"#, "channel_log", missing),
            (r#"{"channel":"nope","params":{"pipelineId":"p","jobId":"j"}}"#, "nope", missing),
            (r#"{"channel":"channel_log","action":"unsubscribe","params":{"jobId":"j"}}"#, "channel_log", missing),
            (r#"{"channel":"nope","params":{"pipelineId":"p","jobId":"j","stepRunId":"s"}}"#, "nope", "unknown channel: nope"),
            (
                r#"{"channel":"channel_log","action":"DANCE","params":{"pipelineId":"p","jobId":"j","stepRunId":"s"}}"#,
                "channel_log",
                "unknown action: dance",
            ),
        ];
        for (request, channel, error) in rows {
            reader.send(request).await?;
            let answer = reader.soon().await?;
            assert_eq!(
                (answer.kind.as_str(), answer.channel.as_str(), answer.error.as_deref()),
                ("error", channel, Some(error)),
                "{request}"
            );
        }
        // A binary frame that is JSON is a request as well; one that is not is answered.
        reader.send_binary(vec![0xff, 0x00]).await?;
        assert_eq!(reader.soon().await?.error.as_deref(), Some("invalid request: message must be a JSON object"));
        reader
            .send_binary(br#"{"channel":"channel_log","params":{"pipelineId":"p","jobId":"j","stepRunId":"s"}}"#.to_vec())
            .await?;
        assert_eq!(reader.soon().await?.kind, "subscribed");
        Ok(())
    })
}

#[test]
fn a_subscription_waits_for_the_first_line_and_ends_after_the_last() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut reader = Reader::follow(rig.http(), "later").await?;
        assert_eq!(reader.soon().await?.kind, "subscribed");
        assert_eq!(reader.soon().await?.kind, "history_done");
        silence(&mut reader, Duration::from_millis(300)).await?;
        lines(&rig, "later", 1).await?;
        assert_eq!(reader.soon().await?.kind, "log");
        one_more(&rig, "later", 2, true).await?;
        assert_eq!(reader.soon().await?.kind, "log");
        assert_eq!(reader.soon().await?.kind, "eof");
        // Who comes after the end is told the same.
        let mut late = Reader::follow(rig.http(), "later").await?;
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "eof") {
            kinds.push(late.soon().await?.kind);
        }
        assert_eq!(kinds, ["subscribed", "log_chunk", "history_done", "eof"]);
        Ok(())
    })
}

#[test]
fn a_client_resumes_by_number_or_asks_for_the_last_lines() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        lines(&rig, "s", 1_000).await?;
        rig.settled("s", 1_000).await?;
        for (more, first) in [(json!({ "fromLine": 700 }), 700), (json!({ "tail": 10 }), 991), (json!({ "tail": 5_000 }), 1)] {
            let mut reader = Reader::follow_with(rig.http(), "s", more).await?;
            let mut seen = Seen::from(first);
            reader.read_to(1_000, &mut seen, SOON).await?;
            assert_eq!(seen.lines, 1_001 - first);
        }
        // From the first line that does not exist yet.
        let mut reader = Reader::follow_with(rig.http(), "s", json!({ "fromLine": 1_001 })).await?;
        assert_eq!([reader.soon().await?.kind, reader.soon().await?.kind], ["subscribed", "history_done"]);
        one_more(&rig, "s", 1_001, false).await?;
        assert_eq!(reader.soon().await?.entries()?.first().map(|entry| entry.line_number), Some(1_001));
        // The highest number there is does no harm; what is no number is said to be none.
        let mut reader = Reader::follow_with(rig.http(), "s", json!({ "fromLine": 2_147_483_647 })).await?;
        assert_eq!(reader.soon().await?.kind, "subscribed");
        for more in [
            json!({ "fromLine": 0 }),
            json!({ "fromLine": 2_147_483_648_u32 }),
            json!({ "tail": -1 }),
            json!({ "fromLine": "x" }),
        ] {
            let mut reader = Reader::follow_with(rig.http(), "s", more.clone()).await?;
            assert_eq!(reader.soon().await?.kind, "error", "{more}");
        }
        Ok(())
    })
}

#[test]
fn a_second_subscription_replaces_the_first_unless_several_are_wanted() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        let mut reader = Reader::follow(rig.http(), "one").await?;
        assert_eq!([reader.soon().await?.kind, reader.soon().await?.kind], ["subscribed", "history_done"]);
        reader.subscribe("two", json!({})).await?;
        assert_eq!([reader.soon().await?.kind, reader.soon().await?.kind], ["subscribed", "history_done"]);
        lines(&rig, "one", 1).await?;
        silence(&mut reader, Duration::from_millis(500)).await?;
        lines(&rig, "two", 1).await?;
        assert_eq!(reader.soon().await?.params["stepRunId"], "two");

        let mut reader = Reader::connect(rig.http(), None).await?;
        for step_run in ["three", "four"] {
            let params = json!({ "pipelineId": "p", "jobId": "j", "stepRunId": step_run });
            reader.send(&json!({ "channel": "channel_log", "multi": true, "params": params }).to_string()).await?;
            assert_eq!([reader.soon().await?.kind, reader.soon().await?.kind], ["subscribed", "history_done"]);
        }
        lines(&rig, "three", 1).await?;
        assert_eq!(reader.soon().await?.params["stepRunId"], "three");
        lines(&rig, "four", 1).await?;
        assert_eq!(reader.soon().await?.params["stepRunId"], "four");
        Ok(())
    })
}

#[test]
fn a_plain_request_is_told_to_upgrade_and_a_flood_is_refused() -> Outcome<()> {
    run(60, async {
        let rig = Rig::start().await?;
        assert_eq!(http::get(rig.http(), "/api/v1/ws").await?.status, 426);
        // 10 MB in one message: this connection ends, the next works.
        let mut reader = Reader::connect(rig.http(), None).await?;
        let _ = reader.send(&"x".repeat(11 << 20)).await;
        let ended = crate::harness::within(SOON, "the connection's end", async {
            loop {
                match reader.next().await {
                    Ok(message) if message.kind == "error" => return Ok(()),
                    Ok(_) => {}
                    Err(_) => return Ok(()),
                }
            }
        });
        ended.await?;
        let mut reader = Reader::follow(rig.http(), "s").await?;
        assert_eq!(reader.soon().await?.kind, "subscribed");
        Ok(())
    })
}
