//! What needs no broker: which topic, what an error means. The rest is in `tests/e2e/sinks`, on a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::errors::{self, Verdict, of_message};
use serde_json::{Value, json};

use super::delivery::Out;
use super::lines::{Lines, Writer};
use super::producer::Record;
use super::session::Session;
use super::ticket::Kind;
use super::{EventTopics, LogMessages, Login};
use crate::block::{Block, Codec, Content, GapReason, OutputStream, Run};
use crate::budget::Budget;
use crate::id::Id;
use crate::sink::{DeliveryError, Rejected};

/// Keeps what it gets: key, headers, text.
#[derive(Default)]
struct Kept(Vec<KeptRecord>);

type KeptRecord = (String, Vec<(String, String)>, String);

impl Out for Kept {
    fn send(&mut self, record: &Record<'_>) -> bool {
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.0.push((record.key.into(), headers, String::from_utf8(record.value.to_vec()).unwrap()));
        true
    }

    fn reject(&mut self, rejected: Rejected) {
        panic!("{rejected:?}");
    }
}

fn block(lines: u32, content: Content) -> Block {
    Block { step_run: Id::parse("run-1").unwrap(), first_line: 7, lines, epoch: 1, agent_counted: false, origin: None, content }
}

fn text_block(lines: &[&str]) -> Block {
    let count = lines.len() as u32;
    let bytes: Bytes = lines.iter().map(|line| format!("{line}\n")).collect::<String>().into();
    let run = Run {
        lines: count,
        time: 1_700_000_000_123,
        stream: OutputStream::Stderr,
        truncated: false,
        level: "warn".into(),
        plugin: "shell".into(),
        agent: Id::parse("agent").unwrap(),
        seq: 1,
    };
    let raw_bytes = bytes.len() as u32;
    block(count, Content::Text { codec: Codec::Plain, raw_bytes, skip: 0, runs: vec![run], bytes })
}

/// The messages of a block.
fn messages(messages: LogMessages, limit: usize, block: &Block) -> Kept {
    let lines = Lines { topic: "BUILD_LOGS".into(), messages };
    let mut kept = Kept::default();
    assert!(Writer::new(&lines, limit, &mut kept).block(64, "p-1", block));
    kept
}

#[test]
fn a_line_is_a_buildlogmessage() {
    let Kept(kept) = messages(LogMessages::Lines, 10_000, &text_block(&["one", "\"two\"\t"]));
    let expected = concat!(
        r#"{"pipelineId":"p-1","stepRunId":"run-1","timestamp":1700000000,"timestampMs":1700000000123,"lineNumber":8,"#,
        r#""level":"warn","stream":"stderr","content":"\"two\"\t","agentId":"agent","pluginName":"shell"}"#
    );
    assert_eq!((kept[1].0.as_str(), kept[1].2.as_str()), ("p-1::run-1", expected));
    assert!(kept[1].1.is_empty());
}

#[test]
fn a_gap_is_one_message_in_the_place_of_its_lines() {
    let gap = Content::Gap { reason: GapReason::QueueFull, time: 1_700_000_000_123 };
    for kind in [LogMessages::Lines, LogMessages::Blocks] {
        let Kept(kept) = messages(kind, 10_000, &block(3, gap.clone()));
        let found: Value = serde_json::from_str(&kept[0].2).unwrap();
        let expected = json!({
            "pipelineId": "p-1", "stepRunId": "run-1", "timestamp": 1_700_000_000, "timestampMs": 1_700_000_000_123_i64,
            "lineNumber": 7, "level": "gap", "content": "3 lines are missing: the gateway was too busy to take them",
            "gap": { "count": 3, "reason": "queue_full" },
        });
        assert_eq!((kept.len(), found), (1, expected));
    }
}

#[test]
fn a_line_that_is_too_long_for_its_topic_is_cut_and_marked() {
    let long = "0\u{1}\u{fc}".repeat(1000);
    for limit in [400, 401, 402, 403, 5000] {
        let Kept(kept) = messages(LogMessages::Lines, limit, &text_block(&[&long, "next"]));
        let found: Value = serde_json::from_str(&kept[0].2).unwrap();
        let content = found["content"].as_str().unwrap();
        assert!(kept[0].2.len() <= limit && kept[0].2.len() + 200 > limit, "{} of {limit}", kept[0].2.len());
        assert!(long.starts_with(content) && found["truncated"] == true);
        assert!(!kept[1].2.contains("truncated"));
    }
}

#[test]
fn a_block_is_cut_between_lines_into_messages_that_fit() {
    let lines: Vec<String> = (0..50).map(|n| "x".repeat(n)).collect();
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    for limit in (400..2000).step_by(37) {
        let Kept(kept) = messages(LogMessages::Blocks, limit, &text_block(&texts));
        let mut number = 7;
        for (_, headers, text) in &kept {
            assert!(text.len() <= limit, "{} of {limit}", text.len());
            let count = text.lines().count();
            assert_eq!(headers, &[("arcgate-lines".to_owned(), count.to_string())]);
            for line in text.lines() {
                let found: Value = serde_json::from_str(line).unwrap();
                assert_eq!(found["lineNumber"], number);
                number += 1;
            }
        }
        assert_eq!(number, 57, "each once");
    }
}

fn topics() -> EventTopics {
    EventTopics { pipeline: "P".into(), agent: "A".into(), artifact: "F".into(), platform: "O".into() }
}

#[test]
fn the_topic_is_that_of_the_types_beginning() {
    let topics = topics();
    for (kind, topic) in [
        ("arcentra.pipeline.started", "P"),
        ("arcentra.job.failed", "P"),
        ("arcentra.step.completed", "P"),
        ("arcentra.task.log", "P"),
        ("arcentra.agent.online", "A"),
        ("arcentra.artifact.made", "F"),
        ("arcentra.user.invited", "O"),
        ("arcentra.tasks", "O"),
        ("task.log", "O"),
        ("", "O"),
    ] {
        assert_eq!(topics.of(kind), topic, "{kind}");
    }
    assert_eq!(topics.all(), ["A", "F", "O", "P"]);
}

#[test]
fn an_error_is_retried_unless_it_is_the_records_own_fault() {
    let verdict = |code| of_message(&KafkaError::MessageProduction(code), "T");
    assert_eq!(verdict(Code::MessageSizeTooLarge), Verdict::TooLarge);
    assert!(matches!(verdict(Code::InvalidRecord), Verdict::Refused(why) if why.contains("topic T")));
    assert_eq!(verdict(Code::InvalidDifferentRecord), Verdict::BesideRefused);
    for code in [Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed, Code::Authentication, Code::InvalidTimestamp] {
        assert!(matches!(verdict(code), Verdict::Failed(DeliveryError::NotReady { .. })), "{code}");
    }
    for code in [Code::BrokerTransportFailure, Code::NotEnoughReplicas, Code::PurgeQueue, Code::RequestTimedOut, Code::Unknown] {
        assert!(matches!(verdict(code), Verdict::Failed(DeliveryError::Transient { .. })), "{code}");
    }
}

#[test]
fn a_password_is_not_printed() {
    let login = Login { mechanism: "PLAIN".into(), username: "gateway".into(), password: "secret".into() };
    assert_eq!(format!("{login:?}"), "Login(PLAIN as gateway)");
}

/// A session with a broker that is not there.
fn session() -> Session {
    Session::begin(ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1"), Budget::new(1 << 20)).unwrap()
}

fn record() -> Record<'static> {
    Record { topic: "T", key: "", headers: &[], value: b"text", position: 0, line: None }
}

#[tokio::test]
async fn batches_are_queued_in_the_order_in_which_they_come() {
    let session = session();
    let (said, mut heard) = tokio::sync::mpsc::channel(32);
    for at in 0..20 {
        let said = said.clone();
        session.enqueue((format!("batch {at}"), at + 1), Kind::Batch, 100_000, || {
            Box::new(move |_| {
                said.try_send(at).unwrap();
                Ok(())
            })
        });
    }
    for expected in 0..20 {
        assert_eq!(heard.recv().await, Some(expected));
    }
}

#[tokio::test]
async fn a_batch_that_was_not_sent_because_the_producer_is_over_is_not_taken_for_sent() {
    let session = session();
    session.producer.end(DeliveryError::not_ready("a right is missing"));
    let ticket = session.enqueue(("batch".into(), 1), Kind::Batch, 1, || {
        Box::new(|out| {
            assert!(!out.send(&record()));
            Ok(())
        })
    });
    ticket.wait().await;
    assert_eq!(ticket.outcome(), Err(DeliveryError::not_ready("a right is missing")), "the reason is that of the end");
}

#[tokio::test]
async fn a_batch_whose_messages_cannot_be_made_fails_and_none_behind_it_passes_it() {
    let session = session();
    let broken = session.enqueue(("broken".into(), 1), Kind::Batch, 1, || Box::new(|_| panic!("planted")));
    let next = session.enqueue(("next".into(), 2), Kind::Batch, 1, || {
        Box::new(|out| {
            assert!(!out.send(&record()), "nothing more is sent");
            Ok(())
        })
    });
    broken.wait().await;
    next.wait().await;
    assert!(broken.outcome().is_err() && next.outcome().is_err());
}

#[tokio::test]
async fn a_batch_that_comes_again_in_another_shape_ends_the_session() {
    let session = session();
    let enqueue = |token: &str, to| session.enqueue((token.into(), to), Kind::Batch, 1, || Box::new(|_| Ok(())));
    let (whole, same) = (enqueue("0 to 10", 10), enqueue("0 to 10", 10));
    assert!(std::sync::Arc::ptr_eq(&whole, &same));
    enqueue("10 to 20", 20);
    let clipped = enqueue("5 to 10", 10);
    clipped.wait().await;
    assert!(clipped.outcome().is_err() && session.producer.is_over());
}

#[test]
fn a_tls_connection_that_does_not_come_about_is_known_by_any_of_its_names() {
    let complaint = |code, reason| errors::complaint(&KafkaError::Global(code), reason);
    let texts = [
        "ssl://k:9093/bootstrap: error:0A000086:SSL routines::certificate verify failed (after 10ms in state SSL_HANDSHAKE)",
        "ssl://k:9093/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42",
    ];
    for text in texts {
        assert_eq!(complaint(Code::BrokerTransportFailure, text), Some(Code::SSL));
    }
    assert_eq!(complaint(Code::BrokerTransportFailure, "Connect failed"), Some(Code::BrokerTransportFailure));
    assert_eq!(complaint(Code::AllBrokersDown, ""), Some(Code::AllBrokersDown));
}
