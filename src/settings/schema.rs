//! The settings as the program sees them. Names, bounds, defaults and meanings stand in [`super::table::KEYS`]; the blank
//! values that `Default` gives here exist only until the table's defaults have been applied.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use arcgate_gateway::sink::clickhouse::{ClickHouseSettings, Compression};
use arcgate_gateway::sink::{BatchLimits, Policy};

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `[grpc]`
    pub grpc: Grpc,
    /// `[http]`
    pub http: Http,
    /// `[store]`
    pub store: Store,
    /// `[events]`
    pub events: Events,
    /// `[retention]`
    pub retention: Retention,
    /// `[logs]`
    pub logs: Logs,
    /// `[clickhouse]`
    pub clickhouse: ClickHouse,
    /// `[kafka]`
    pub kafka: Kafka,
    /// `[control]`
    pub control: Control,
    /// `[limits]`
    pub limits: Limits,
    /// `[auth]`
    pub auth: Auth,
    /// `[log]`
    pub log: Log,
    /// `[shutdown]`
    pub shutdown: Shutdown,
}

/// The gRPC listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grpc {
    /// Address and port; port 0 takes a free one.
    pub listen: Listen,
    /// The largest message, in bytes.
    pub max_message: u64,
}

/// The listener for HTTP, WebSocket, metrics and health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub listen: Listen,
}

/// The store on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The folder.
    pub path: PathBuf,
    /// Size at which a segment file is closed and the next begun.
    pub segment_bytes: u64,
    /// Whole segments older than this are removed.
    pub retention_age: Duration,
    /// Above this the oldest segments are removed.
    pub retention_bytes: Room,
    /// The longest a line waits before it is written.
    pub write_interval: Duration,
    /// The longest a written line waits for its sync.
    pub sync_interval: Duration,
}

/// Events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// How long repeats are recognised.
    pub dedup_window: Duration,
    /// Disk for recognising repeats.
    pub dedup_bytes: u64,
    /// The largest event; larger ones become dead letters.
    pub max_event: u64,
    /// What has an event before it is acknowledged.
    pub ack: Ack,
    /// How long an answer waits for Kafka.
    pub ack_timeout: Duration,
}

/// What has an event before it is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ack {
    /// The gateway's disk.
    #[default]
    Disk,
    /// Kafka, too.
    Kafka,
}

/// What retention does beside what `[store]` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// What becomes of what a sink has not taken.
    pub undelivered: Policy,
}

/// The ClickHouse sink; on if there is a `url`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClickHouse {
    /// The HTTP interface; empty: no ClickHouse.
    pub url: String,
    /// The database.
    pub database: String,
    /// Who connects.
    pub user: String,
    /// Holds the password.
    pub password_file: Option<PathBuf>,
    /// Who vouches for the server.
    pub tls_ca_file: Option<PathBuf>,
    /// `lz4`, `zstd` or `none`.
    pub compression: Compression,
    /// How long rows are kept.
    pub ttl: Duration,
    /// Lines or events in an insert.
    pub batch_rows: u32,
    /// Bytes in an insert.
    pub batch_bytes: u64,
    /// The longest a line waits for its insert.
    pub batch_age: Duration,
    /// Inserts at a time.
    pub batches: u32,
    /// How long the server may be silent.
    pub timeout: Duration,
    /// Apply the schema, or only check it.
    pub apply_schema: bool,
    /// Create the tables on this cluster; empty: none.
    pub cluster: String,
    /// Create replicated tables.
    pub replicated: bool,
}

impl ClickHouse {
    /// What the sink and the reading of history need; `None` if ClickHouse is not turned on.
    #[must_use]
    pub fn sink(&self) -> Option<ClickHouseSettings> {
        (!self.url.is_empty()).then(|| self.all())
    }

    /// The same, whether or not it is turned on.
    #[must_use]
    pub fn all(&self) -> ClickHouseSettings {
        ClickHouseSettings {
            url: self.url.clone(),
            database: self.database.clone(),
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            tls_ca_file: self.tls_ca_file.clone(),
            compression: self.compression,
            ttl_days: u32::try_from(self.ttl.as_secs() / 86_400).unwrap_or(u32::MAX),
            cluster: Some(self.cluster.clone()).filter(|cluster| !cluster.is_empty()),
            replicated: self.replicated,
            apply_schema: self.apply_schema,
            timeout: self.timeout,
            limits: BatchLimits {
                records: self.batch_rows.into(),
                bytes: self.batch_bytes,
                age: self.batch_age,
                under_way: self.batches as usize,
            },
        }
    }
}

/// Log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    /// Longer lines are cut.
    pub max_line: u64,
    /// The largest batch after decompression.
    pub max_batch: u64,
    /// How long `PushLogs` waits for room before it drops.
    pub queue_wait: Duration,
    /// Shards; 0 takes one a core.
    pub shards: u32,
}

/// The Kafka sinks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kafka {
    /// Where the brokers are; empty turns the sinks off.
    pub brokers: String,
    /// How the gateway calls itself.
    pub client_id: String,
    /// Whether events are delivered.
    pub events: bool,
    /// `lines`, `blocks` or `off`.
    pub logs: String,
    /// The topic of pipelines, jobs, steps and tasks.
    pub pipeline_topic: String,
    /// The topic of agents.
    pub agent_topic: String,
    /// The topic of artifacts.
    pub artifact_topic: String,
    /// The topic of all other events.
    pub platform_topic: String,
    /// The topic of lines.
    pub log_topic: String,
    /// `subject`, `id` or `pipeline`.
    pub event_key: String,
    /// Whether missing topics are created.
    pub create_topics: bool,
    /// Partitions of a topic that is created; 0 as the brokers have it.
    pub partitions: u32,
    /// Copies of a topic that is created; 0 as the brokers have it.
    pub replication: u32,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Who signed the brokers' certificates.
    pub tls_ca_file: Option<PathBuf>,
    /// The gateway's own certificate.
    pub tls_certificate_file: Option<PathBuf>,
    /// Its key.
    pub tls_key_file: Option<PathBuf>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: String,
    /// The name to log in with; empty is no login.
    pub username: String,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
}

/// The control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// Whether it runs.
    pub enabled: bool,
    /// Its database; empty: a file in the store's folder.
    pub database: String,
    /// Holds the database's password.
    pub password_file: Option<PathBuf>,
    /// How often an agent is to give a sign of life.
    pub heartbeat: Duration,
    /// After how much silence an agent counts as gone.
    pub offline_after: Duration,
    /// Whether new agents are given work without anybody's approval.
    pub approve_agents: bool,
}

/// Bounds of the whole process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: u64,
    /// Agents' connections at one time.
    pub connections: u32,
    /// Readers over WebSocket at one time.
    pub readers: u32,
}

/// Access.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// A file with bearer tokens, one a line.
    pub token_file: Option<PathBuf>,
    /// Whether a token is needed; `None` is "auto".
    pub required: Option<bool>,
    /// Whether the calls of existing agents that never carry a token are let in without one; `None` is "auto".
    pub stock_agents: Option<bool>,
    /// Lets everyone in on addresses that others can reach.
    pub allow_unauthenticated_on_public_addresses: bool,
}

/// The gateway's own log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// Level, or a list of `module=level`.
    pub level: String,
}

/// Stopping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// The longest a stop may take.
    pub grace: Duration,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

/// How much of a disk may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the file system.
    Percent(u8),
}

impl Default for Room {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

impl Room {
    /// The bytes that this is on a file system of `total` bytes.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// How the gateway writes its own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// Whether callers need a token: as set, else if there is a file of them.
    #[must_use]
    pub fn auth_required(&self) -> bool {
        self.auth.required.unwrap_or(self.auth.token_file.is_some())
    }

    /// Whether the calls of existing agents that never carry a token are let in without one: as set, else only if gRPC
    /// listens on a loopback address.
    #[must_use]
    pub fn stock_agents(&self) -> bool {
        self.auth.stock_agents.unwrap_or_else(|| self.grpc.listen.0.ip().is_loopback())
    }
}
