//! The tables in ClickHouse, as numbered migrations, and their text for a single server, for replicas and for a cluster.
//!
//! | version | file | what |
//! |---|---|---|
//! | 1 | `0001_logs.sql` | lines (`logs`), gaps and ends (`log_marks`) |
//! | 2 | `0002_events.sql` | events (`events`) |
//! | 3 | `0003_views.sql` | per step run (`log_streams`), per pipeline and hour (`log_hours`), events by type (`event_hours`) |
//!
//! A migration only creates or adds, never removes: an older gateway goes on with a newer schema. `arcgate_schema` says which have
//! been applied. A repeat of a batch is no second row: the tables know the tokens of the last 10,000 inserts, and what slips
//! through is one row after a merge.
//!
//! # Codecs
//! Measured with `load-tests/clickhouse-codecs.sh` on a build's log; its table is in ARCHITECTURE.md.

use std::fmt::Write as _;

#[cfg(test)]
mod tests;

/// The version that this release needs, and applies.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

const MIGRATIONS: [(&str, &str); 3] = [
    ("logs", include_str!("0001_logs.sql")),
    ("events", include_str!("0002_events.sql")),
    ("views", include_str!("0003_views.sql")),
];

/// How many tokens of inserts a table knows.
const TOKENS: u32 = 10_000;

/// What the text depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The database.
    pub database: String,
    /// Create everything `ON CLUSTER` this one, replicated.
    pub cluster: Option<String>,
    /// Tables are replicated: always so on a cluster.
    pub replicated: bool,
    /// Lines and events are kept for so many days after their arrival.
    pub ttl_days: u32,
}

/// One step from a version of the schema to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The version that it leads to, from 1.
    pub version: u32,
    /// What it is about, in a word.
    pub name: &'static str,
    /// What to execute, in order; each may be executed again.
    pub statements: Vec<String>,
}

impl Variant {
    /// Creates the database. To be executed without naming one.
    #[must_use]
    pub fn create_database(&self) -> String {
        format!("CREATE DATABASE IF NOT EXISTS {}{}", quoted(&self.database), self.on_cluster())
    }

    /// Creates the table of versions.
    #[must_use]
    pub fn create_versions(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS arcgate_schema{}\n(\n    version UInt32,\n    name    String,\n    applied DateTime('UTC') DEFAULT \
             now()\n)\nENGINE = {}\nORDER BY version",
            self.on_cluster(),
            self.engine("")
        )
    }

    /// The migrations that lead from `version` (0: nothing is there) to [`VERSION`], in order.
    #[must_use]
    pub fn migrations(&self, version: u32) -> Vec<Migration> {
        let numbered = (1..).zip(MIGRATIONS);
        numbered
            .filter(|(number, _)| *number > version)
            .map(|(version, (name, text))| Migration { version, name, statements: self.statements(text) })
            .collect()
    }

    /// Notes that a migration has been applied.
    #[must_use]
    pub fn note(&self, migration: &Migration) -> String {
        format!("INSERT INTO arcgate_schema (version, name) VALUES ({}, '{}')", migration.version, migration.name)
    }

    /// Keeps the rows of a table for [`Variant::ttl_days`] from now on; what is older goes as parts are merged.
    #[must_use]
    pub fn keep(&self, table: &str) -> String {
        let from = if table == "log_streams" { "last_received" } else { "received" };
        format!("ALTER TABLE {table}{} MODIFY TTL toDateTime({from}) + {}", self.on_cluster(), self.interval())
    }

    /// How the server writes the time that rows are kept.
    #[must_use]
    pub fn interval(&self) -> String {
        format!("toIntervalDay({})", self.ttl_days)
    }

    /// Everything from `version` on as a script for `clickhouse-client`.
    #[must_use]
    pub fn script(&self, version: u32) -> String {
        let mut script = String::new();
        let mut add = |statement: &str| {
            // Writing into a String cannot fail.
            let _ = writeln!(script, "{statement};\n");
        };
        if version == 0 {
            add(&self.create_database());
        }
        add(&format!("USE {}", quoted(&self.database)));
        if version == 0 {
            add(&self.create_versions());
        }
        for migration in self.migrations(version) {
            migration.statements.iter().for_each(|statement| add(statement));
            add(&self.note(&migration));
        }
        script
    }

    /// The statements of a migration's text.
    fn statements(&self, text: &str) -> Vec<String> {
        let text = text
            .replace("{on_cluster}", &self.on_cluster())
            .replace("{ttl_days}", &self.ttl_days.to_string())
            .replace("{dedup}", &self.dedup())
            .replace("{replacing}", &self.engine("Replacing"))
            .replace("{summing}", &self.engine("Summing"))
            .replace("{aggregating}", &self.engine("Aggregating"));
        text.split(";\n").map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
    }

    fn on_cluster(&self) -> String {
        self.cluster.as_ref().map_or_else(String::new, |cluster| format!(" ON CLUSTER '{cluster}'"))
    }

    fn engine(&self, kind: &str) -> String {
        if self.is_replicated() {
            // The braces are the server's own macros.
            format!("Replicated{kind}MergeTree('/clickhouse/tables/{{shard}}/{{database}}/{{table}}', '{{replica}}')")
        } else {
            format!("{kind}MergeTree")
        }
    }

    fn dedup(&self) -> String {
        if self.is_replicated() {
            format!("replicated_deduplication_window = {TOKENS}, replicated_deduplication_window_seconds = 604800")
        } else {
            format!("non_replicated_deduplication_window = {TOKENS}")
        }
    }

    fn is_replicated(&self) -> bool {
        self.replicated || self.cluster.is_some()
    }
}

/// A name as SQL has it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
