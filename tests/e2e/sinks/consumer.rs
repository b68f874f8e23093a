//! What lies in Kafka, read with librdkafka, and gateways that deliver to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::Event;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::harness::{Outcome, Rig, events, eventually};

/// An operation of Kafka that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message, as it lies there.
#[derive(Debug, Clone)]
pub(super) struct Consumed {
    /// Its partition.
    pub(super) partition: i32,
    /// Its key.
    pub(super) key: String,
    /// Its text.
    pub(super) text: String,
    /// Its headers.
    pub(super) headers: BTreeMap<String, String>,
}

impl Consumed {
    /// Its text as JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A header; empty if it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// What makes an event this event.
    pub(super) fn identity(&self) -> (String, String, String) {
        let header = |name| self.header(name).to_owned();
        (header("arcgate-agent-id"), header("arcgate-event-id"), header("arcgate-digest"))
    }
}

/// A client's settings: the brokers, and who logs in.
pub(super) fn client(bootstrap: &str, login: Option<(&str, &str)>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "tests").set("enable.auto.commit", "false");
    if let Some((user, password)) = login {
        config.set("security.protocol", "sasl_plaintext").set("sasl.mechanism", "PLAIN");
        config.set("sasl.username", user).set("sasl.password", password);
    }
    config
}

/// All that lies in these topics now, each partition in its order. A topic that is not there is empty.
pub(super) fn consume(config: &ClientConfig, topics: &[String]) -> Outcome<Vec<Consumed>> {
    block_in_place(|| {
        let consumer: BaseConsumer = config.create()?;
        let mut assigned = TopicPartitionList::new();
        let mut left = BTreeMap::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                let (low, high) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
                if high > low {
                    assigned.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
                    left.insert((topic.clone(), partition.id()), high);
                }
            }
        }
        consumer.assign(&assigned)?;
        let mut found = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() {
            if Instant::now() > deadline {
                return Err(format!("{} messages came, then no more; {left:?} is still to come", found.len()).into());
            }
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = message?;
            let place = (message.topic().to_owned(), message.partition());
            if left.get(&place).is_some_and(|high| message.offset() + 1 >= *high) {
                left.remove(&place);
            }
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = message.headers().into_iter().flat_map(Headers::iter);
            found.push(Consumed {
                partition: place.1,
                key: text(message.key()),
                text: text(message.payload()),
                headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
            });
        }
        Ok(found)
    })
}

/// Creates a topic with two partitions.
pub(super) async fn create_topic(config: &ClientConfig, topic: &str, settings: &[(&str, &str)]) -> Outcome<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new =
        settings.iter().fold(NewTopic::new(topic, 2, TopicReplication::Fixed(1)), |new, (name, value)| new.set(name, value));
    let created = admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await?;
    created.into_iter().next().ok_or("no answer")?.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    Ok(())
}

/// Changes settings of a topic; all others get their defaults.
pub(super) async fn alter_topic(config: &ClientConfig, topic: &str, settings: &[(&str, &str)]) -> Outcome<()> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let altered = AlterConfig { specifier: ResourceSpecifier::Topic(topic), entries: settings.iter().copied().collect() };
    let altered = admin.alter_configs([&altered], &AdminOptions::new().request_timeout(Some(PATIENCE))).await?;
    altered.into_iter().next().ok_or("no answer")?.map_err(|(_, code)| format!("{topic}: {code}"))?;
    Ok(())
}

/// Where a test's gateway delivers: topics of its own on a broker.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) client: ClientConfig,
    settings: Vec<(String, String)>,
    name: String,
}

impl Target {
    /// Topics whose names begin with `name`.
    pub(super) fn new(bootstrap: &str, name: &str) -> Self {
        let topic = |kind: &str| (format!("ARCGATE_KAFKA__{}_TOPIC", kind.to_uppercase()), format!("{name}.{kind}"));
        let mut settings: Vec<_> = ["pipeline", "agent", "artifact", "platform", "log"].into_iter().map(topic).collect();
        settings.push(("ARCGATE_KAFKA__BROKERS".into(), bootstrap.into()));
        Self { client: client(bootstrap, None), settings, name: name.into() }
    }

    /// With one more setting of the gateway.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A gateway that delivers there.
    pub(super) async fn gateway(&self) -> Outcome<Rig> {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Rig::start_with(&settings).await
    }

    /// The topic of that kind: `pipeline`, `agent`, `artifact`, `platform`, `log`.
    pub(super) fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// What lies in the topic of that kind.
    pub(super) fn consume(&self, kind: &str) -> Outcome<Vec<Consumed>> {
        consume(&self.client, &[self.topic(kind)])
    }

    /// What lies in the topic of that kind, once it is `count` different events, or more.
    pub(super) async fn events(&self, kind: &str, count: usize) -> Outcome<Vec<Consumed>> {
        eventually(Duration::from_secs(90), "the events to be in Kafka", async || {
            let found = self.consume(kind).unwrap_or_default();
            let different: BTreeSet<_> = found.iter().map(Consumed::identity).collect();
            Ok((different.len() >= count).then_some(found))
        })
        .await
    }
}

/// An event as existing agents send it: the CloudEvent of that type and subject is its payload.
pub(super) fn cloud_event(agent: &str, seq: u64, kind: &str, subject: &str, data: &Value) -> Event {
    let payload = json!({
        "specversion": "1.0", "id": format!("{agent}-{seq}"), "source": "urn:arcentra:executor:shell", "type": kind,
        "time": "2026-03-04T05:06:07.123456789+02:00", "datacontenttype": "application/json", "subject": subject,
        "pipelineId": "p", "stepId": "build", "stepName": "build", "pluginName": "shell", "data": data,
    });
    events::event(agent, format!("evt-{seq}"), seq, "outbox", &payload)
}

/// Text that is hardly smaller when it is compressed: what a topic takes is counted then.
pub(super) fn noise(seed: u64, bytes: usize) -> String {
    let words = (0..).map(|n: u64| (seed << 32 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    words.flat_map(u64::to_le_bytes).map(|byte| char::from(b'#' + byte % 50)).take(bytes).collect()
}

/// Fails unless the events of each key first came in the order of their `data.n`, and all of one key in one partition.
pub(super) fn assert_ordered(found: &[Consumed]) {
    let mut last: BTreeMap<&str, (i32, i64)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in found {
        if !seen.insert(message.identity()) {
            continue;
        }
        let n = message.json()["data"]["n"].as_i64().expect("a number");
        if let Some((partition, before)) = last.insert(&message.key, (message.partition, n)) {
            assert_eq!(partition, message.partition, "{}", message.key);
            assert!(before < n, "{n} of {} came after {before}", message.key);
        }
    }
}
