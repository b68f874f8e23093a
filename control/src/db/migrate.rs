//! The steps from an empty database to today's tables. Each is applied once, in a transaction of its own that also counts it.

use sqlx::{AnyConnection, AssertSqlSafe, Executor as _};

use super::DbError;

/// Step n makes version n of version n - 1. A step that was released is never changed.
const STEPS: [&str; 4] = [
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_agents.sql"),
    include_str!("migrations/0003_names.sql"),
    include_str!("migrations/0004_commits.sql"),
];

pub(super) async fn run(connection: &mut AnyConnection, server: bool) -> Result<(), DbError> {
    let mut at: i64 = 0;
    loop {
        let mut transaction = super::begin(connection, server).await?;
        if server {
            // Two programs that start at once migrate one after the other.
            transaction.execute("SELECT 1 FROM pg_advisory_xact_lock(7021802820915525733)").await?;
        }
        transaction
            .execute("CREATE TABLE IF NOT EXISTS t_migration (version BIGINT PRIMARY KEY, applied_at BIGINT NOT NULL)")
            .await?;
        let found: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM t_migration").fetch_one(&mut *transaction).await?;
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(DbError::TooNew { found, known });
        }
        let Some(step) = usize::try_from(found).ok().and_then(|found| STEPS.get(found)) else {
            transaction.commit().await?;
            return Ok(());
        };
        // A step that does not raise the version would be applied for ever.
        if at > found {
            return Err(DbError::Corrupt("t_migration forgets what was applied".into()));
        }
        at = found + 1;
        for statement in step.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            transaction.execute(AssertSqlSafe(statement.to_owned())).await?;
        }
        let now = jiff::Timestamp::now().as_millisecond();
        sqlx::query("INSERT INTO t_migration (version, applied_at) VALUES ($1, $2)")
            .bind(at)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
}
