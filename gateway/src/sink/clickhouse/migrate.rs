//! Brings the schema up to what this release needs, or says what is missing.
//!
//! Several gateways may do so at once: each statement may be executed again, and a version that is noted twice is still one.

use super::schema::{VERSION, Variant};
use super::server::Server;
use crate::sink::DeliveryError;

/// The tables whose rows go after `clickhouse.ttl`.
const KEPT_TABLES: [&str; 4] = ["logs", "log_marks", "events", "log_streams"];
/// UNKNOWN_TABLE and UNKNOWN_DATABASE: nothing has been applied yet.
const NOTHING_THERE: [&str; 2] = ["Code: 60.", "Code: 81."];

/// Gets the server ready for rows: reads the password again, then applies or checks the schema.
///
/// # Errors
/// It cannot be reached, refuses, or lacks a schema that is not this gateway's to apply.
pub async fn prepare(server: &Server) -> Result<(), DeliveryError> {
    // The sinks of lines and of events share the schema.
    let _alone = server.alone().await;
    server.renew()?;
    let settings = server.settings();
    let variant = settings.variant();
    let found = version(server).await?;
    if found >= VERSION {
        return if settings.apply_schema { keep(server, &variant).await } else { Ok(()) };
    }
    if !settings.apply_schema {
        return Err(DeliveryError::not_ready(format!(
            "the schema of database {} at {} is version {found}, this release needs {VERSION}: apply the output of `arcgate clickhouse schema --from \
             {found}`, or set clickhouse.apply_schema = true",
            settings.database, settings.url
        )));
    }
    apply(server, &variant, found).await?;
    tracing::info!(url = %settings.url, database = %settings.database, from = found, to = VERSION, "schema of ClickHouse applied");
    keep(server, &variant).await
}

/// The newest version that is noted; 0 if there is none.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub async fn version(server: &Server) -> Result<u32, DeliveryError> {
    let query = server.client().query("SELECT max(version) FROM arcgate_schema").fetch_one::<u32>();
    match server.answer(query).await {
        Err(DeliveryError::NotReady { why }) if NOTHING_THERE.iter().any(|code| why.contains(code)) => Ok(0),
        found => found,
    }
}

async fn apply(server: &Server, variant: &Variant, from: u32) -> Result<(), DeliveryError> {
    if from == 0 {
        execute(server, &variant.create_database(), false).await?;
        execute(server, &variant.create_versions(), true).await?;
    }
    for migration in variant.migrations(from) {
        for statement in &migration.statements {
            execute(server, statement, true).await?;
        }
        execute(server, &variant.note(&migration), true).await?;
    }
    Ok(())
}

/// Has rows go when the settings say so, in case these have changed since the tables were made.
async fn keep(server: &Server, variant: &Variant) -> Result<(), DeliveryError> {
    let query = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name IN ? AND NOT has(splitByString(' ', engine_full), ?)";
    let query = server.client().query(query).bind(KEPT_TABLES.as_slice()).bind(variant.interval());
    for table in server.answer(query.fetch_all::<String>()).await? {
        if let Some(table) = KEPT_TABLES.into_iter().find(|kept| *kept == table) {
            execute(server, &variant.keep(table), true).await?;
            tracing::info!(table, days = variant.ttl_days, "rows in ClickHouse are kept for another time from now on");
        }
    }
    Ok(())
}

async fn execute(server: &Server, statement: &str, in_database: bool) -> Result<(), DeliveryError> {
    let client = if in_database { server.client() } else { server.client().with_database("default") };
    server.answer(client.query_raw(statement).execute()).await
}
