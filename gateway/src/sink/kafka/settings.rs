//! What can be set of the Kafka sinks, and how librdkafka is told.

use std::path::PathBuf;

use rdkafka::ClientConfig;

/// How to reach the brokers and what goes where; see the README for what each does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// How the gateway calls itself to them.
    pub client_id: String,
    /// Where events go.
    pub topics: EventTopics,
    /// Where lines go.
    pub log_topic: String,
    /// What a message of lines is.
    pub logs: LogMessages,
    /// The key of events.
    pub event_key: EventKey,
    /// Topics that are missing are created.
    pub create_topics: bool,
    /// The partitions of a topic that is created; 0 leaves it to the brokers.
    pub partitions: u32,
    /// Its copies; 0 leaves it to the brokers.
    pub replication: u32,
    /// TLS, if it is on.
    pub tls: Option<Tls>,
    /// The login, if there is one.
    pub login: Option<Login>,
}

/// The topics of events, by the beginning of their type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTopics {
    /// `arcentra.pipeline.`, `arcentra.job.`, `arcentra.step.`, `arcentra.task.`
    pub pipeline: String,
    /// `arcentra.agent.`
    pub agent: String,
    /// `arcentra.artifact.`
    pub artifact: String,
    /// All others.
    pub platform: String,
}

/// What a message of lines is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogMessages {
    /// One line: a BuildLogMessage.
    Lines,
    /// A run of lines: a BuildLogMessage a line of the message.
    Blocks,
}

/// The key of an event: events of one key stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKey {
    /// Its subject, else its id.
    Subject,
    /// Its id.
    Id,
    /// Its pipeline, else its subject, else its id.
    Pipeline,
}

/// Files for TLS, all PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signed the brokers' certificates; without it the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// The gateway's own certificate.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// A login by SASL.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({} as {})", self.mechanism, self.username)
    }
}

impl EventTopics {
    /// The topic of events of that type.
    #[must_use]
    pub fn of(&self, kind: &str) -> &str {
        let begins = |prefix: &str| kind.strip_prefix("arcentra.").is_some_and(|rest| rest.starts_with(prefix));
        if ["pipeline.", "job.", "step.", "task."].into_iter().any(begins) {
            &self.pipeline
        } else if begins("agent.") {
            &self.agent
        } else if begins("artifact.") {
            &self.artifact
        } else {
            &self.platform
        }
    }

    /// All of them, each once.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let mut all = vec![self.pipeline.clone(), self.agent.clone(), self.platform.clone(), self.artifact.clone()];
        all.sort();
        all.dedup();
        all
    }
}

impl KafkaSettings {
    /// What every client of the brokers is told.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", &self.client_id);
        // What goes wrong is said by the sink, once, and not at each try.
        config.set("log_level", "3").set("log.connection.close", "false");
        config.set("reconnect.backoff.max.ms", "2000").set("socket.keepalive.enable", "true");
        let protocol = match (&self.tls, &self.login) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.certificate_file),
                ("ssl.key.location", &tls.key_file),
            ];
            for (name, file) in files {
                if let Some(file) = file {
                    config.set(name, file.to_string_lossy());
                }
            }
        }
        if let Some(Login { mechanism, username, password }) = &self.login {
            config.set("sasl.mechanism", mechanism).set("sasl.username", username).set("sasl.password", password);
        }
        config
    }

    /// What a producer is told beside: `queue` bytes may wait in it, and no batch passes `batch` bytes.
    pub(super) fn producer(&self, queue: usize, batch: usize, linger_ms: u32) -> ClientConfig {
        let mut config = self.client();
        // Idempotence implies acks from all replicas in sync, and at most five requests in flight that stay in order.
        config.set("enable.idempotence", "true").set("acks", "all").set("max.in.flight.requests.per.connection", "5");
        // Level 1 takes a fifth less time than 3, the default, and 4% more bytes.
        config.set("compression.type", "zstd").set("compression.level", "1").set("linger.ms", linger_ms.to_string());
        // What the brokers do not take now waits, in its order, until they do: the runner decides when to say something.
        config.set("message.timeout.ms", "0");
        // Messages are bounded by their topics, before they come here.
        config.set("message.max.bytes", "1000000000").set("batch.size", batch.max(1).to_string());
        config.set("queue.buffering.max.kbytes", (queue / 1024).max(1).to_string());
        // A message costs some 300 bytes beside its own.
        config.set("queue.buffering.max.messages", (queue / 256).max(1000).to_string());
        config
    }
}
