//! What the errors of librdkafka and the brokers mean for a sink.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::sink::DeliveryError;

/// What became of a message that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Larger than the topic takes.
    TooLarge,
    /// Never taken, for that reason, if it was sent alone. Else that may be meant for another: librdkafka tells which of the errors it
    /// is only if one message of a request is bad.
    Refused(String),
    /// Not taken because another message of the same request is bad.
    BesideRefused,
    /// May be delivered later; the producer cannot go on without changing the order.
    Failed(DeliveryError),
}

/// What a client complains of. librdkafka calls a TLS connection that does not come about now this, now a failure of the transport:
/// the text of OpenSSL tells.
pub(super) fn complaint(error: &KafkaError, reason: &str) -> Option<Code> {
    match error.rdkafka_error_code() {
        Some(Code::BrokerTransportFailure) if reason.contains("SSL routines") => Some(Code::SSL),
        code => code,
    }
}

/// Judges the error of a message for `topic`.
pub(super) fn of_message(error: &KafkaError, topic: &str) -> Verdict {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => Verdict::TooLarge,
        Some(code @ (Code::InvalidRecord | Code::BadMessage)) => {
            Verdict::Refused(format!("Kafka refuses the record for topic {topic}: {code}"))
        }
        Some(Code::InvalidDifferentRecord) => Verdict::BesideRefused,
        Some(code) => Verdict::Failed(of_topic(code, topic)),
        None => Verdict::Failed(DeliveryError::transient(format!("Kafka did not take a record for topic {topic}: {error}"))),
    }
}

/// What an error about `topic` means, and what to do.
pub(super) fn of_topic(code: Code, topic: &str) -> DeliveryError {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId => {
            DeliveryError::not_ready(format!(
                "Kafka has no topic {topic}; create it, set kafka.create_topics = true, or name another one"
            ))
        }
        // Nothing is wrong with the record, and the next would be refused as well.
        Code::InvalidTimestamp => DeliveryError::not_ready(format!(
            "Kafka finds the time of records for topic {topic} too far from its own; set the clocks of this machine and of the brokers \
             right, or the topic's message.timestamp.after.max.ms and message.timestamp.before.max.ms higher"
        )),
        Code::InvalidTopic => DeliveryError::not_ready(format!("{topic} is no name for a topic; name another one")),
        Code::TopicAuthorizationFailed => DeliveryError::not_ready(format!(
            "Kafka does not let this gateway use topic {topic}; give its user the rights Describe and Write"
        )),
        code => of_cluster(code),
    }
}

/// What it means that nothing is confirmed, and nothing is complained of: librdkafka keeps some errors to itself while it tries again.
pub(super) fn silent() -> DeliveryError {
    DeliveryError::transient(
        "Kafka confirms nothing of what it is sent; check that its brokers run (kafka.brokers), have room on their disks, and that enough \
         replicas are in sync (min.insync.replicas)",
    )
}

/// What an error of the cluster means, and what to do.
pub(super) fn of_cluster(code: Code) -> DeliveryError {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            DeliveryError::not_ready(
                "Kafka refuses the login; check kafka.username, kafka.password_file (read when the gateway starts) and kafka.sasl_mechanism",
            )
        }
        Code::SSL => DeliveryError::not_ready("no TLS connection to Kafka comes about; check kafka.tls and the files it names"),
        Code::ClusterAuthorizationFailed => DeliveryError::not_ready(
            "Kafka does not let this gateway write; give its user the right Write on its topics (before Kafka 2.8 also \
             IdempotentWrite on the cluster)",
        ),
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve | Code::MessageTimedOut => {
            DeliveryError::transient("no Kafka broker answers; check kafka.brokers and that they run")
        }
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            DeliveryError::transient("Kafka has too few replicas in sync (min.insync.replicas); wait for its brokers")
        }
        Code::PurgeQueue | Code::PurgeInflight => {
            DeliveryError::transient("the producer was made anew; the records are sent again")
        }
        code => DeliveryError::transient(format!("Kafka says: {code}")),
    }
}
