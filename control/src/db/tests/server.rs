//! The PostgreSQL server of the tests: `ARCGATE_TEST_POSTGRES` says where it is. `scripts/test.sh` starts it; without the variable the
//! tests run on SQLite alone.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::any::AnyConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::Location;

/// A new, empty database on the server, if there is one. It goes with the server.
pub(super) async fn new_database() -> Option<Location> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = std::env::var("ARCGATE_TEST_POSTGRES").ok()?;
    sqlx::any::install_default_drivers();
    let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let options: AnyConnectOptions = format!("{server}/postgres").parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    Some(Location::Server(format!("{server}/{name}")))
}
