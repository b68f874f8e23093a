//! What requests mean, and the errors in their order.

use crate::replay::ws::request::{LogRequest, Request, Start, Target, parse};
use crate::replay::ws::shared::first_since;
use crate::store::index::{Counting, StreamRecord};

const IDS: &str = r#""pipelineId":"p","jobId":"j","stepRunId":"s""#;

fn error(message: &str) -> String {
    String::from_utf8(parse(message.as_bytes()).unwrap_err()).unwrap()
}

fn log(message: &str) -> LogRequest {
    match parse(message.as_bytes()) {
        Ok(Request::Log(request)) => *request,
        other => panic!("{other:?}"),
    }
}

fn subscribe(params: &str) -> String {
    format!(r#"{{"channel":"channel_log","params":{{{IDS}{params}}}}}"#)
}

#[test]
fn errors_come_in_the_known_order_with_the_known_texts() {
    let invalid = r#"{"channel":"","type":"error","error":"invalid request: message must be a JSON object"}"#;
    for message in
        ["", "x", "[]", "5", "null", "{", r#"{"channel":5}"#, r#"["channel_log"]"#, r#"{"params":{"jobId":1}}"#, "\u{1}"]
    {
        assert_eq!(error(message), invalid, "{message}");
    }
    assert_eq!(error(r#"{"multi":"yes"}"#), invalid);
    let required = r#""error":"pipelineId, jobId and stepRunId are required"}"#;
    assert_eq!(error("{}"), format!(r#"{{"channel":"","type":"error",{required}"#));
    assert_eq!(error(r#"{"channel":"x","action":"y","params":null}"#), format!(r#"{{"channel":"x","type":"error",{required}"#));
    assert_eq!(
        error(r#"{"channel":"channel_log","action":"unsubscribe","params":{"pipelineId":"p","jobId":""}}"#),
        format!(r#"{{"channel":"channel_log","type":"error","params":{{"pipelineId":"p","jobId":"","stepRunId":""}},{required}"#)
    );
    let named = |rest: &str, error: &str| {
        let channel = rest.split('"').nth(3).unwrap();
        format!(r#"{{"channel":"{channel}","type":"error","params":{{{IDS}}},"error":"{error}"}}"#)
    };
    for (rest, expected) in [
        (r#""channel":"nope","action":"nope""#, "unknown channel: nope"),
        (r#""channel":"","action":"nope""#, "unknown channel: "),
        (r#""channel":"channel_log","action":" DANCE ""#, "unknown action: dance"),
    ] {
        let channel_is_empty = rest.contains(r#""channel":"""#);
        let expected = if channel_is_empty {
            format!(r#"{{"channel":"","type":"error","params":{{{IDS}}},"error":"{expected}"}}"#)
        } else {
            named(rest, expected)
        };
        assert_eq!(error(&format!(r#"{{{rest},"params":{{{IDS}}}}}"#)), expected);
    }
}

#[test]
fn numbers_are_checked() {
    let say = |params: &str| serde_json::from_str::<serde_json::Value>(&error(&subscribe(params))).unwrap()["error"].to_string();
    for bad in ["0", "-1", "1.5", "\"1\"", "2147483648", "99999999999999999999"] {
        let said = say(&format!(r#","fromLine":{bad}"#));
        assert_eq!(said, "\"params.fromLine must be a whole number from 1 to 2147483647\"", "{bad}");
    }
    assert!(say(r#","tail":-1"#).contains("params.tail must be a whole number from 0"));
    assert!(say(r#","epoch":4294967296"#).contains("params.epoch"));
    assert!(say(r#","tail":1,"fromLine":1"#).contains("give one of them"));
    assert!(say(r#","liveChunks":1"#).contains("params.liveChunks"));
}

#[test]
fn identifiers_are_checked() {
    let with =
        |id: &str| error(&format!(r#"{{"channel":"channel_log","params":{{"pipelineId":"p","jobId":"j","stepRunId":"{id}"}}}}"#));
    assert!(with("a\\nb").contains("stepRunId holds a control character at byte 1"));
    let long = with(&"é".repeat(1000));
    assert!(long.contains("stepRunId has 2000 bytes; at most 256 are allowed"));
    assert!(long.len() < 500, "what is sent back is cut short");
}

#[test]
fn a_request_says_where_to_begin() {
    let plain = log(&subscribe(""));
    assert_eq!((plain.start, plain.epoch, plain.multi, plain.live_chunks), (Start::Line(1), None, false, false));
    assert_eq!(log(&subscribe(r#","fromLine":2147483647"#)).start, Start::Line(2_147_483_647));
    assert_eq!(log(&subscribe(r#","tail":0"#)).start, Start::Tail(0));
    assert_eq!(log(&subscribe(r#","tail":2147483647"#)).start, Start::Tail(2_147_483_647), "nothing is clamped in silence");
    assert_eq!(log(&subscribe(r#","fromLine":null,"epoch":3,"liveChunks":true,"unknown":[]"#)).epoch, Some(3));
    let multi = format!(r#" {{"multi":true,"channel":"channel_log","action":" Subscribe ","params":{{{IDS}}}}}"#);
    assert!(log(&multi).multi);
    let other = |channel: &str, action: &str| {
        parse(format!(r#"{{"channel":"{channel}","action":"{action}","params":{{{IDS}}}}}"#).as_bytes()).unwrap()
    };
    assert!(matches!(other("channel_log", "unsubscribe"), Request::EndLog(_)));
    assert!(matches!(other("channel_status", ""), Request::Status { .. }));
    assert!(matches!(other("channel_status", "unsubscribe"), Request::EndStatus(_)));
}

#[test]
fn an_older_epoch_goes_back_to_the_first_line_that_may_differ() {
    let record = |epochs: &[(u32, u64)]| StreamRecord {
        counting: Counting::Gateway,
        next_line: 500,
        ended: false,
        newest: 0,
        origin: None,
        epochs: epochs.to_vec(),
        lines: 0,
        bytes: 0,
        pipeline_id: "".into(),
        last_time: 0,
    };
    let known = record(&[(1, 1), (3, 100), (6, 300)]);
    assert_eq!(first_since(Some(&known), 1), 100);
    assert_eq!(first_since(Some(&known), 2), 100);
    assert_eq!(first_since(Some(&known), 3), 300);
    assert_eq!(first_since(Some(&known), 6), 500, "the new epoch's first line is yet to come");
    assert_eq!(first_since(None, 1), 1, "all of the stream was lost");
    let many: Vec<(u32, u64)> = (10..18).map(|epoch| (epoch, u64::from(epoch) * 10)).collect();
    assert_eq!(first_since(Some(&record(&many)), 3), 1);
    assert_eq!(first_since(Some(&record(&many)), 12), 130);
}

#[test]
fn who_does_not_know_contradicts_nobody() {
    let target = |pipeline: &str, job: &str| Target { pipeline_id: pipeline.into(), job_id: job.into(), ..Target::default() };
    for (pipeline, job, known, contradicts) in [
        ("p", "j", ("p", "j"), false),
        ("-", "-", ("p", "j"), false),
        ("p", "j", ("", ""), false),
        ("q", "j", ("p", "j"), true),
        ("p", "i", ("p", "j"), true),
        ("-", "i", ("p", "j"), true),
        ("q", "-", ("p", ""), true),
    ] {
        assert_eq!(target(pipeline, job).contradicts(known.0, known.1), contradicts, "{pipeline} {job} {known:?}");
    }
}
