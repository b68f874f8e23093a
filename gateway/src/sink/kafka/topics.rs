//! Are the topics there, and what do they take? Asked before the first batch, and after an error that says that something is missing.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{Producer, ThreadedProducer};
use tokio::runtime::Handle;

use super::client::Quiet;
use super::errors;
use super::settings::KafkaSettings;
use crate::sink::DeliveryError;

/// A broker that takes longer to answer is not there.
const PATIENCE: Duration = Duration::from_secs(5);
/// What topics take by default (`max.message.bytes`), for those that do not say.
const USUAL_LIMIT: usize = 1_048_588;
/// What a batch of one record has beside the record's own bytes, generously.
const OVERHEAD: usize = 512;

/// How large a record of each topic may be: key, headers and value.
pub(super) type Limits = HashMap<String, usize>;

/// Looks for the topics, creates those that are missing if that is allowed, and asks what they take. Blocks.
///
/// # Errors
/// What is missing and what to do; retried.
pub(super) fn look(settings: &KafkaSettings, topics: &[String], runtime: &Handle) -> Result<Limits, DeliveryError> {
    let unusable = |error: KafkaError| DeliveryError::not_ready(format!("the settings of Kafka cannot be used: {error}"));
    let asker = ThreadedProducer::from_config_and_context(&settings.client(), Quiet::new()).map_err(unusable)?;
    let mut missing = Vec::new();
    for topic in topics {
        match ask(&asker, topic) {
            Ok(()) => {}
            Err(Code::UnknownTopic | Code::UnknownTopicOrPartition) if settings.create_topics => missing.push(topic.as_str()),
            Err(code) => return Err(errors::of_topic(code, topic)),
        }
    }
    let admin = AdminClient::from_config_and_context(&settings.client(), Quiet::new()).map_err(unusable)?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    if !missing.is_empty() {
        create(settings, &missing, &admin, &options, runtime)?;
    }
    Ok(limits(topics, &admin, &options, runtime))
}

/// Whether the topic is there, or why not.
fn ask(asker: &ThreadedProducer<Quiet>, topic: &str) -> Result<(), Code> {
    let failed = |error: &KafkaError| {
        let told = error.rdkafka_error_code().unwrap_or(Code::Fail);
        // That nobody answers has a reason, which was told to the client.
        let silence = [Code::BrokerTransportFailure, Code::OperationTimedOut, Code::AllBrokersDown].contains(&told);
        asker.context().complaint().filter(|_| silence).unwrap_or(told)
    };
    let metadata = asker.client().fetch_metadata(Some(topic), PATIENCE).map_err(|error| failed(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic).ok_or(Code::UnknownTopic)?;
    match found.error().map(Code::from) {
        // A new topic has no leaders for a moment.
        None | Some(Code::NoError | Code::LeaderNotAvailable) => Ok(()),
        Some(code) => Err(code),
    }
}

fn create(
    settings: &KafkaSettings,
    topics: &[&str],
    admin: &AdminClient<Quiet>,
    options: &AdminOptions,
    runtime: &Handle,
) -> Result<(), DeliveryError> {
    // -1: as the brokers have it.
    let own = |number: u32| i32::try_from(number).ok().filter(|number| *number > 0).unwrap_or(-1);
    let (partitions, replication) = (own(settings.partitions), own(settings.replication));
    let wanted: Vec<_> =
        topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(replication))).collect();
    let created = runtime.block_on(admin.create_topics(&wanted, options));
    let created = created.map_err(|error| errors::of_cluster(error.rdkafka_error_code().unwrap_or(Code::Fail)))?;
    for outcome in created {
        match outcome {
            Ok(topic) => tracing::info!(topic, "the topic was missing and has been created"),
            // Somebody else was quicker.
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((topic, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                return Err(DeliveryError::not_ready(format!(
                    "Kafka has no topic {topic} and does not let this gateway create it; create it, or give its user the right Create"
                )));
            }
            Err((topic, code)) => {
                return Err(DeliveryError::not_ready(format!(
                    "topic {topic} is missing and cannot be created: {code}; create it, or change kafka.partitions or kafka.replication"
                )));
            }
        }
    }
    Ok(())
}

/// What the topics say that they take. Who may not ask is told nothing: then the usual limit is taken for theirs.
fn limits(topics: &[String], admin: &AdminClient<Quiet>, options: &AdminOptions, runtime: &Handle) -> Limits {
    let mut limits: Limits = topics.iter().map(|topic| (topic.clone(), USUAL_LIMIT - OVERHEAD)).collect();
    for topic in topics {
        let asked = runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], options));
        let told = asked.ok().and_then(|resources| resources.into_iter().next()?.ok());
        let bytes = told.and_then(|resource| resource.get("max.message.bytes")?.value.as_ref()?.parse::<usize>().ok());
        match bytes {
            Some(bytes) => drop(limits.insert(topic.clone(), bytes.saturating_sub(OVERHEAD))),
            None => tracing::debug!(topic, "the topic does not say how large a message may be"),
        }
    }
    limits
}
