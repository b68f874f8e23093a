//! The table of settings. A new setting is one row here and one field in `super::schema`.

use std::path::PathBuf;
use std::time::Duration;

use arcgate_gateway::sink::Policy;
use arcgate_gateway::sink::clickhouse::Compression;

use super::schema::{Ack, Listen, LogFormat, Room, Settings};
use super::value;

/// One setting.
pub struct Key {
    /// `section.name`.
    pub name: &'static str,
    /// The default, as one would write it in the file; empty is "not set".
    pub default: &'static str,
    /// Type, bounds and place in [`Settings`].
    pub kind: Kind,
    /// What it does, in one sentence for the README and `arcgate config`.
    pub doc: &'static str,
}

/// Where a value of type `T` stands in the settings.
pub type Field<T> = fn(&mut Settings) -> &mut T;

/// The type of a setting, its bounds (both included) and its field.
pub enum Kind {
    /// `address:port`.
    Listen(Field<Listen>),
    /// A count of bytes.
    Bytes(u64, u64, Field<u64>),
    /// A length of time.
    Time(Duration, Duration, Field<Duration>),
    /// A number.
    Count(u32, u32, Field<u32>),
    /// Bytes or a percentage of the file system.
    Room(Field<Room>),
    /// A file or folder.
    Path(Field<PathBuf>),
    /// A file that need not be given.
    OptionalPath(Field<Option<PathBuf>>),
    /// `true` or `false`.
    Switch(Field<bool>),
    /// `true`, `false` or `auto`.
    AutoSwitch(Field<Option<bool>>),
    /// `text` or `json`.
    Format(Field<LogFormat>),
    /// The name of something in a database; may be empty if the switch says so.
    Name(bool, Field<String>),
    /// `http://…` or `https://…`; empty if not set.
    Url(Field<String>),
    /// One of these words.
    OneOf(&'static [&'static str], fn(&mut Settings, &str)),
    /// One or several words, separated by commas; a TOML list means the same.
    Words(Field<String>),
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

const fn key(name: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, default, kind, doc }
}

/// All settings, in the order in which they are shown.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    key("grpc.listen", "127.0.0.1:9090", Kind::Listen(|s| &mut s.grpc.listen),
        "Where agents push. Port 0 takes a free port. Any address but a loopback one needs `auth.required`."),
    key("grpc.max_message", "100MiB", Kind::Bytes(64 * KIB, GIB, |s| &mut s.grpc.max_message),
        "The largest gRPC message that is accepted."),
    key("http.listen", "127.0.0.1:8080", Kind::Listen(|s| &mut s.http.listen),
        "Where readers (WebSocket), `/metrics`, `/livez` and `/readyz` are served. The same rules as `grpc.listen`."),
    key("store.path", "./arcgate-data", Kind::Path(|s| &mut s.store.path),
        "The data folder. One gateway at a time uses it."),
    key("store.segment_bytes", "256MiB", Kind::Bytes(64 * KIB, 4 * GIB, |s| &mut s.store.segment_bytes),
        "Size at which a segment file is closed; retention removes whole segments."),
    key("store.retention_age", "7d", Kind::Time(MINUTE, YEARS, |s| &mut s.store.retention_age),
        "Segments whose newest line is older than this are removed."),
    key("store.retention_bytes", "80%", Kind::Room(|s| &mut s.store.retention_bytes),
        "Above this many bytes, or this share of the file system, the oldest segments are removed."),
    key("store.write_interval", "200ms", Kind::Time(MILLI, MINUTE, |s| &mut s.store.write_interval),
        "The longest a line waits in memory before it is written. A killed gateway loses at most this, of agents that send nothing again."),
    key("store.sync_interval", "1s", Kind::Time(MILLI, MINUTE, |s| &mut s.store.sync_interval),
        "The longest a written line waits for its sync to disk. A power loss loses at most this. Events are synced before they are acked, always."),
    key("events.dedup_window", "7d", Kind::Time(MINUTE, YEARS, |s| &mut s.events.dedup_window),
        "How long a repeated event is recognised as one. Event segments are kept at least as long."),
    key("events.dedup_bytes", "4GiB", Kind::Bytes(MIB, 64 * TIB, |s| &mut s.events.dedup_bytes),
        "Disk for recognising repeats; past it, the busiest agent's oldest entries go first."),
    key("events.max_event", "100MiB", Kind::Bytes(KIB, 100 * MIB, |s| &mut s.events.max_event),
        "A larger event is passed and kept as a dead letter."),
    key("events.ack", "disk",
        Kind::OneOf(&["disk", "kafka"], |s, word| s.events.ack = if word == "kafka" { Ack::Kafka } else { Ack::Disk }),
        "What has an event before it is acknowledged: the gateway's `disk`, or `kafka` too, so that it outlives the machine."),
    key("events.ack_timeout", "30s", Kind::Time(MILLI, HOUR, |s| &mut s.events.ack_timeout),
        "With `events.ack = \"kafka\"`: how long an answer waits; then it acknowledges what Kafka has by then."),
    key("retention.undelivered", "remove",
        Kind::OneOf(&["remove", "refuse"], |s, word| {
            s.retention.undelivered = if word == "refuse" { Policy::Refuse } else { Policy::Remove };
        }),
        "What a sink has not taken when it is too old or too much: `remove` it, counted as lost, or keep it and `refuse` new input while the store is full."),
    key("logs.max_line", "1MiB", Kind::Bytes(64, 4 * MIB, |s| &mut s.logs.max_line),
        "A longer line is cut and marked as cut."),
    key("logs.max_batch", "64MiB", Kind::Bytes(64 * KIB, GIB, |s| &mut s.logs.max_batch),
        "The largest log batch after decompression; a larger one is rejected."),
    key("logs.queue_wait", "1s", Kind::Time(Duration::ZERO, MINUTE, |s| &mut s.logs.queue_wait),
        "How long `PushLogs` waits for room before it drops lines (and says so). `LogSession` never drops."),
    key("logs.shards", "0", Kind::Count(0, 1024, |s| &mut s.logs.shards),
        "Workers that own the log streams; 0 takes one a core."),
    key("clickhouse.url", "", Kind::Url(|s| &mut s.clickhouse.url),
        "The HTTP interface of ClickHouse, as `http://127.0.0.1:8123`. When set, lines and events are delivered there, and history that is no longer here is read from there."),
    key("clickhouse.database", "arcgate", Kind::Name(false, |s| &mut s.clickhouse.database),
        "The database."),
    key("clickhouse.user", "default", Kind::Words(|s| &mut s.clickhouse.user),
        "Who connects. Needs SELECT and INSERT on the database, and CREATE and ALTER to apply the schema."),
    key("clickhouse.password_file", "", Kind::OptionalPath(|s| &mut s.clickhouse.password_file),
        "A file whose first line is the password. It is read again whenever ClickHouse refuses, so that a new password needs no restart."),
    key("clickhouse.tls_ca_file", "", Kind::OptionalPath(|s| &mut s.clickhouse.tls_ca_file),
        "Who vouches for a server at `https://` (PEM); else the system's authorities."),
    key("clickhouse.compression", "lz4", Kind::OneOf(&["lz4", "zstd", "none"], |s, word| s.clickhouse.compression = compression(word)),
        "How requests and answers are compressed: `lz4`, `zstd` for slow networks, `none`."),
    key("clickhouse.ttl", "90d", Kind::Time(DAY, YEARS, |s| &mut s.clickhouse.ttl),
        "Lines and events are kept in ClickHouse for so many whole days after their arrival. A change is applied with the schema."),
    key("clickhouse.batch_rows", "200000", Kind::Count(100, 1_000_000, |s| &mut s.clickhouse.batch_rows),
        "Lines or events in one insert at most; one block of lines may be more."),
    key("clickhouse.batch_bytes", "32MiB", Kind::Bytes(64 * KIB, 256 * MIB, |s| &mut s.clickhouse.batch_bytes),
        "Text in one insert at most; one event may be more."),
    key("clickhouse.batch_age", "1s", Kind::Time(MILLI, MINUTE, |s| &mut s.clickhouse.batch_age),
        "The longest a line or event waits for others to be inserted with."),
    key("clickhouse.batches", "2", Kind::Count(1, 8, |s| &mut s.clickhouse.batches),
        "Inserts of lines, and of events, at a time."),
    key("clickhouse.timeout", "30s", Kind::Time(SECOND, HOUR, |s| &mut s.clickhouse.timeout),
        "How long ClickHouse may be silent before a request counts as failed."),
    key("clickhouse.apply_schema", "true", Kind::Switch(|s| &mut s.clickhouse.apply_schema),
        "Create the database and its tables, and bring older ones up to date. When false, apply the output of `arcgate clickhouse schema`."),
    key("clickhouse.cluster", "", Kind::Name(true, |s| &mut s.clickhouse.cluster),
        "Create everything `ON CLUSTER` this one, with replicated tables."),
    key("clickhouse.replicated", "false", Kind::Switch(|s| &mut s.clickhouse.replicated),
        "Create replicated tables; always so with a cluster."),
    key("kafka.brokers", "", Kind::Words(|s| &mut s.kafka.brokers),
        "Kafka brokers, `host:port` each. When set, what is stored goes to Kafka too."),
    key("kafka.client_id", "arcgate", Kind::Words(|s| &mut s.kafka.client_id),
        "How the gateway calls itself to the brokers."),
    key("kafka.events", "true", Kind::Switch(|s| &mut s.kafka.events),
        "Deliver events, as CloudEvents."),
    key("kafka.logs", "lines", Kind::OneOf(&["lines", "blocks", "off"], |s, word| s.kafka.logs = word.to_owned()),
        "Deliver lines: one message a line, one message a block of lines, or not at all."),
    key("kafka.pipeline_topic", "EVENT_PIPELINE", Kind::Words(|s| &mut s.kafka.pipeline_topic),
        "The topic of events of pipelines, jobs, steps and tasks."),
    key("kafka.agent_topic", "EVENT_AGENT", Kind::Words(|s| &mut s.kafka.agent_topic),
        "The topic of events of agents."),
    key("kafka.artifact_topic", "EVENT_ARTIFACT", Kind::Words(|s| &mut s.kafka.artifact_topic),
        "The topic of events of artifacts."),
    key("kafka.platform_topic", "EVENT_PLATFORM", Kind::Words(|s| &mut s.kafka.platform_topic),
        "The topic of all other events."),
    key("kafka.log_topic", "BUILD_LOGS", Kind::Words(|s| &mut s.kafka.log_topic),
        "The topic of lines."),
    key("kafka.event_key", "subject", Kind::OneOf(&["subject", "id", "pipeline"], |s, word| s.kafka.event_key = word.to_owned()),
        "The key of events, within which they stay in order: the subject (else the id), the id, or the pipeline (else the subject, else the id)."),
    key("kafka.create_topics", "true", Kind::Switch(|s| &mut s.kafka.create_topics),
        "Create topics that are missing."),
    key("kafka.partitions", "0", Kind::Count(0, 100_000, |s| &mut s.kafka.partitions),
        "Partitions of a topic that is created; 0 leaves it to the brokers."),
    key("kafka.replication", "0", Kind::Count(0, 100, |s| &mut s.kafka.replication),
        "Copies of a topic that is created; 0 leaves it to the brokers."),
    key("kafka.tls", "false", Kind::Switch(|s| &mut s.kafka.tls),
        "Encrypt connections to the brokers."),
    key("kafka.tls_ca_file", "", Kind::OptionalPath(|s| &mut s.kafka.tls_ca_file),
        "Who signed the brokers' certificates (PEM); else the system's authorities."),
    key("kafka.tls_certificate_file", "", Kind::OptionalPath(|s| &mut s.kafka.tls_certificate_file),
        "The gateway's own certificate (PEM), if the brokers ask for one."),
    key("kafka.tls_key_file", "", Kind::OptionalPath(|s| &mut s.kafka.tls_key_file),
        "The key of that certificate (PEM)."),
    key("kafka.sasl_mechanism", "PLAIN", Kind::OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], |s, word| s.kafka.sasl_mechanism = word.to_owned()),
        "How to log in, if `kafka.username` is set."),
    key("kafka.username", "", Kind::Words(|s| &mut s.kafka.username),
        "The name to log in with; needs `kafka.password_file`."),
    key("kafka.password_file", "", Kind::OptionalPath(|s| &mut s.kafka.password_file),
        "A file with the password; a newline at its end does not belong to it."),
    key("control.enabled", "true", Kind::Switch(|s| &mut s.control.enabled),
        "Run pipelines: serve PipelineService, StepRunService, AgentService and StreamService."),
    key("control.database", "", Kind::Words(|s| &mut s.control.database),
        "Where pipelines, runs and agents are kept: `postgres://user@host:port/name`; empty is a file in the store's folder, `control.db`."),
    key("control.password_file", "", Kind::OptionalPath(|s| &mut s.control.password_file),
        "A file with the password of `control.database`."),
    key("control.heartbeat", "60s", Kind::Time(SECOND, HOUR, |s| &mut s.control.heartbeat),
        "How often agents are told to give a sign of life."),
    key("control.offline_after", "180s", Kind::Time(SECOND, DAY, |s| &mut s.control.offline_after),
        "An agent that is silent for so long is gone: what it ran is lost, and goes by the pipeline's rules for that."),
    key("control.approve_agents", "true", Kind::Switch(|s| &mut s.control.approve_agents),
        "Give work to an agent as soon as it has registered. `false`: only once somebody has approved it."),
    key("limits.memory", "512MiB", Kind::Bytes(64 * MIB, TIB, |s| &mut s.limits.memory),
        "Memory that the gateway may use, transport buffers included; at least `128MiB` with Kafka or ClickHouse."),
    key("limits.connections", "20000", Kind::Count(1, 1_000_000, |s| &mut s.limits.connections),
        "Agents' connections at one time; a further one is refused."),
    key("limits.readers", "20000", Kind::Count(1, 1_000_000, |s| &mut s.limits.readers),
        "Readers' WebSocket connections at one time; a further one is refused."),
    key("auth.token_file", "", Kind::OptionalPath(|s| &mut s.auth.token_file),
        "A file of bearer tokens, one a line (`#` begins a comment). Who has one may do everything. Others are made by `arcgate token create`."),
    key("auth.required", "auto", Kind::AutoSwitch(|s| &mut s.auth.required),
        "Whether calls but those of `auth.stock_agents`, and readers, need a token; health, reflection and `/metrics` do not. `auto`: if there is an `auth.token_file`."),
    key("auth.stock_agents", "auto", Kind::AutoSwitch(|s| &mut s.auth.stock_agents),
        "Let existing Arcentra agents make, without a token, exactly the calls that they never make with one. `auto`: only if gRPC listens on a loopback address."),
    key("auth.allow_unauthenticated_on_public_addresses", "false",
        Kind::Switch(|s| &mut s.auth.allow_unauthenticated_on_public_addresses),
        "DANGER: lets anyone who reaches the listeners read and write everything, unless `auth.required`."),
    key("log.format", "text", Kind::Format(|s| &mut s.log.format),
        "The gateway's own log on stderr: `text` for people, `json` for machines."),
    key("log.level", "info", Kind::Words(|s| &mut s.log.level),
        "`error`, `warn`, `info`, `debug` or `trace`, or a list such as `info,arcgate_gateway=debug`. The index's library (`fjall`, `lsm_tree`) tells of warnings only, unless the list names it."),
    key("shutdown.grace", "10s", Kind::Time(SECOND, HOUR, |s| &mut s.shutdown.grace),
        "The longest a stop may take: streams are finished, events committed and answered, readers told to come back."),
];

fn compression(word: &str) -> Compression {
    match word {
        "zstd" => Compression::Zstd,
        "none" => Compression::None,
        _ => Compression::Lz4,
    }
}

/// The key of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What to say about a name that no key has: the nearest one that does exist.
#[must_use]
pub fn unknown(name: &str) -> String {
    let nearest = KEYS
        .iter()
        .map(|key| (key.name, strsim::jaro_winkler(key.name, name)))
        .filter(|(_, likeness)| *likeness > 0.6)
        .max_by(|one, other| one.1.total_cmp(&other.1));
    match nearest {
        Some((nearest, _)) => format!("there is no setting \"{name}\"; did you mean \"{nearest}\"?"),
        None => format!("there is no setting \"{name}\"; `arcgate config` lists all"),
    }
}

impl Key {
    /// The variable that sets this key, such as `ARCGATE_GRPC__LISTEN`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("{}{}", super::source::ENV_PREFIX, self.name.replace('.', "__").to_uppercase())
    }
}

impl Kind {
    /// Reads `text` into this kind's field.
    ///
    /// # Errors
    /// Says why the text does not fit, as the end of a sentence that begins with the key and the text.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Result<(), String> {
        match self {
            Self::Listen(field) => *field(settings) = value::listen(text)?,
            Self::Bytes(min, max, field) => *field(settings) = value::within(value::bytes(text)?, min, max, value::show_bytes)?,
            Self::Time(min, max, field) => *field(settings) = value::within(value::time(text)?, min, max, value::show_time)?,
            Self::Count(min, max, field) => {
                let count = text.parse().map_err(|_| "is not a whole number")?;
                *field(settings) = value::within(count, min, max, u32::to_string)?;
            }
            Self::Room(field) => *field(settings) = value::room(text)?,
            Self::Path(_) if text.is_empty() => return Err("is empty; name a path".into()),
            Self::Path(field) => *field(settings) = PathBuf::from(text),
            Self::OptionalPath(field) => *field(settings) = Some(PathBuf::from(text)).filter(|_| !text.is_empty()),
            Self::Switch(field) => *field(settings) = value::switch(text).ok_or("is neither \"true\" nor \"false\"")?,
            Self::AutoSwitch(field) if text == "auto" => *field(settings) = None,
            Self::AutoSwitch(field) => {
                *field(settings) = Some(value::switch(text).ok_or("is none of \"true\", \"false\", \"auto\"")?);
            }
            Self::Format(field) => {
                *field(settings) = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => Err("is neither \"text\" nor \"json\"")?,
                }
            }
            Self::Name(may_be_empty, field) => *field(settings) = value::name(text, *may_be_empty)?,
            Self::Url(field) => *field(settings) = value::url(text)?,
            Self::OneOf(words, set) if words.contains(&text) => set(settings, text),
            Self::OneOf(words, _) => return Err(format!("is none of \"{}\"", words.join("\", \""))),
            Self::Words(field) => *field(settings) = text.to_owned(),
        }
        Ok(())
    }

    /// What one writes for such a value, for the README's table.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Listen(_) => "address:port".into(),
            Self::Bytes(min, max, _) => format!("size, {} to {}", value::show_bytes(min), value::show_bytes(max)),
            Self::Time(min, max, _) => format!("time, {} to {}", value::show_time(min), value::show_time(max)),
            Self::Count(min, max, _) => format!("number, {min} to {max}"),
            Self::Room(_) => "size or percentage".into(),
            Self::Path(_) | Self::OptionalPath(_) => "path".into(),
            Self::Switch(_) => "`true`, `false`".into(),
            Self::AutoSwitch(_) => "`auto`, `true`, `false`".into(),
            Self::Format(_) => "`text`, `json`".into(),
            Self::Name(..) => "name".into(),
            Self::Url(_) => "URL".into(),
            Self::OneOf(words, _) => format!("`{}`", words.join("`, `")),
            Self::Words(_) => "list of words".into(),
        }
    }
}
