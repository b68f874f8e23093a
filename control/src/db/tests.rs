//! What the database must do on SQLite and on PostgreSQL alike.

use super::*;

mod server;

/// A database for one test, and what must live as long as it.
pub(crate) struct Fresh {
    pub(crate) database: Database,
    pub(crate) location: Location,
    _folder: Option<tempfile::TempDir>,
}

/// A new, empty database on each kind: SQLite always, PostgreSQL where it was started.
pub(crate) async fn fresh() -> Vec<Fresh> {
    let mut all = vec![on_file().await];
    if let Some(location) = server::new_database().await {
        all.push(Fresh { database: Database::open(&location).await.unwrap(), location, _folder: None });
    }
    all
}

/// A new, empty database of SQLite.
pub(crate) async fn on_file() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("control ä%.db"));
    Fresh { database: Database::open(&location).await.unwrap(), location, _folder: Some(folder) }
}

#[tokio::test]
async fn what_was_written_is_read_on_each_database_in_one_text_of_sql() {
    for fresh in fresh().await {
        let mut writer = fresh.database.writer().await.unwrap();
        let mut transaction = writer.begin().await.unwrap();
        let insert = "INSERT INTO t_registration_token (token_hash, description, created_by, expires_at, max_uses, use_count, is_active, \
                      created_at, updated_at) VALUES ($1, $2, $2, $3, 1, 0, 1, $4, $4) ON CONFLICT (token_hash) DO NOTHING";
        let mut counts = Vec::new();
        for _ in 0..2 {
            let insert = sqlx::query(insert).bind("hash").bind("ä").bind(None::<i64>).bind(i64::MAX);
            counts.push(insert.execute(&mut *transaction).await.unwrap().rows_affected());
        }
        assert_eq!(counts, [1, 0]);
        transaction.commit().await.unwrap();
        let mut read = fresh.database.read().await.unwrap();
        let found = sqlx::query("SELECT * FROM t_registration_token").fetch_one(&mut *read).await.unwrap();
        use row::Columns as _;
        assert_eq!(found.text("description").unwrap(), "ä");
        assert_eq!(found.maybe_number("expires_at").unwrap(), None);
        assert_eq!(found.number("created_at").unwrap(), i64::MAX);
        assert!(found.number("description").is_err());
    }
}

#[tokio::test]
async fn readers_see_one_moment_and_do_not_wait_for_the_writer() {
    for fresh in fresh().await {
        let count = "SELECT COUNT(*) FROM t_cursor";
        let mut read = fresh.database.read().await.unwrap();
        let first: i64 = sqlx::query_scalar(count).fetch_one(&mut *read).await.unwrap();
        let mut writer = fresh.database.writer().await.unwrap();
        let mut transaction = writer.begin().await.unwrap();
        sqlx::query("INSERT INTO t_cursor VALUES ('a', 'b')").execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        let second: i64 = sqlx::query_scalar(count).fetch_one(&mut *read).await.unwrap();
        drop(read);
        let mut read = fresh.database.read().await.unwrap();
        let third: i64 = sqlx::query_scalar(count).fetch_one(&mut *read).await.unwrap();
        assert_eq!((first, second, third), (0, 0, 1));
    }
}

#[tokio::test]
async fn a_database_is_opened_again_and_one_of_a_later_version_is_refused() {
    for fresh in fresh().await {
        let again = Database::open(&fresh.location).await.unwrap();
        let mut writer = again.writer().await.unwrap();
        let mut transaction = writer.begin().await.unwrap();
        sqlx::query("INSERT INTO t_migration VALUES (99, 0)").execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        let error = Database::open(&fresh.location).await.unwrap_err();
        assert!(matches!(error, DbError::TooNew { found: 99, .. }), "{error}");
        assert!(!error.helps_to_retry());
    }
}

#[tokio::test]
async fn a_commit_on_a_file_is_on_disk_when_it_returns() {
    let fresh = on_file().await;
    let mut writer = fresh.database.writer().await.unwrap();
    let mut transaction = writer.begin().await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *transaction).await.unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!((synchronous, &*journal), (2, "wal"));
    let mut read = fresh.database.read().await.unwrap();
    let patience: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *read).await.unwrap();
    assert_eq!(u128::try_from(patience).unwrap(), PATIENCE.as_millis());
}

/// As after a kill: the old connection may still be rolling back when the new one begins.
#[tokio::test]
async fn a_writer_on_a_file_waits_for_one_that_is_about_to_go() {
    let fresh = on_file().await;
    let (mut old, mut new) = (fresh.database.writer().await.unwrap(), fresh.database.writer().await.unwrap());
    let mut of_old = old.begin().await.unwrap();
    sqlx::query("INSERT INTO t_cursor VALUES ('a', 'b')").execute(&mut *of_old).await.unwrap();
    let of_new = tokio::spawn(async move {
        let mut transaction = new.begin().await?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_cursor").fetch_one(&mut *transaction).await?;
        sqlx::query("INSERT INTO t_cursor VALUES ('c', 'd')").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok::<_, DbError>(count)
    });
    // Long enough for the other one to meet the lock.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(of_old);
    assert_eq!(of_new.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_server_has_one_writer() {
    let Some(location) = server::new_database().await else { return };
    let database = Database::open(&location).await.unwrap();
    let first = database.writer().await.unwrap();
    let error = database.writer().await.unwrap_err();
    assert!(matches!(error, DbError::Taken) && error.helps_to_retry());
    drop(first);
    for _ in 0..100 {
        if database.writer().await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the lock outlives its holder");
}

#[tokio::test]
async fn an_unreachable_server_is_worth_another_try() {
    let error = Database::open(&Location::Server("postgres://nobody@127.0.0.1:1/none".into())).await.unwrap_err();
    assert!(error.helps_to_retry(), "{error}");
}
