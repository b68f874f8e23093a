//! `[kafka]` as the gateway takes it, and what must fit together in it.

use std::path::Path;

use arcgate_gateway::sink::kafka::{EventKey, EventTopics, KafkaSettings, LogMessages, Login, Tls};

use super::schema::Kafka;

/// What is wrong, by key.
pub(super) fn problems(kafka: &Kafka) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if kafka.username.is_empty() != kafka.password_file.is_none() {
        let key = if kafka.username.is_empty() { "kafka.username" } else { "kafka.password_file" };
        problems.push((key, "kafka.username and kafka.password_file belong together; set both, or neither".to_owned()));
    }
    if let Some(path) = &kafka.password_file
        && let Err(what) = password(path)
    {
        problems.push(("kafka.password_file", what));
    }
    let files = [
        ("kafka.tls_ca_file", &kafka.tls_ca_file),
        ("kafka.tls_certificate_file", &kafka.tls_certificate_file),
        ("kafka.tls_key_file", &kafka.tls_key_file),
    ];
    for (key, path) in files.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        if !kafka.tls {
            problems.push((key, format!("{key} is set, but kafka.tls is not; set it to true")));
        } else if let Err(error) = std::fs::File::open(path) {
            problems.push((key, format!("{key} = \"{}\" cannot be read: {error}", path.display())));
        }
    }
    problems
}

fn password(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("kafka.password_file = \"{}\" cannot be read: {error}", path.display()))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
}

impl Kafka {
    /// The settings of the sinks; `None` if they are off.
    ///
    /// # Errors
    /// The password cannot be read.
    pub fn sinks(&self) -> Result<Option<KafkaSettings>, String> {
        if self.brokers.is_empty() {
            return Ok(None);
        }
        let login = match &self.password_file {
            Some(path) if !self.username.is_empty() => {
                Some(Login { mechanism: self.sasl_mechanism.clone(), username: self.username.clone(), password: password(path)? })
            }
            _ => None,
        };
        Ok(Some(KafkaSettings {
            brokers: self.brokers.clone(),
            client_id: self.client_id.clone(),
            topics: EventTopics {
                pipeline: self.pipeline_topic.clone(),
                agent: self.agent_topic.clone(),
                artifact: self.artifact_topic.clone(),
                platform: self.platform_topic.clone(),
            },
            log_topic: self.log_topic.clone(),
            logs: if self.logs == "blocks" { LogMessages::Blocks } else { LogMessages::Lines },
            event_key: match self.event_key.as_str() {
                "id" => EventKey::Id,
                "pipeline" => EventKey::Pipeline,
                _ => EventKey::Subject,
            },
            create_topics: self.create_topics,
            partitions: self.partitions,
            replication: self.replication,
            tls: self.tls.then(|| Tls {
                ca_file: self.tls_ca_file.clone(),
                certificate_file: self.tls_certificate_file.clone(),
                key_file: self.tls_key_file.clone(),
            }),
            login,
        }))
    }
}
