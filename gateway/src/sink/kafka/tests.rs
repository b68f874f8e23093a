//! What needs no broker: which topic, what an error means. The rest is in `tests/e2e/sinks`, on a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::errors::{Verdict, of_message};
use super::{EventTopics, Login};
use crate::sink::DeliveryError;

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
    assert!(matches!(verdict(Code::InvalidRecord), Verdict::Rejected(why) if why.contains("topic T")));
    for code in [Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed, Code::Authentication] {
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
