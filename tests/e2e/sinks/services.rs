//! What the tests of the sinks stand on does what it says.

use std::net::TcpStream;

use crate::harness::services::{ClickHouse, Kafka};
use crate::harness::{Outcome, SOON, eventually, run};

#[test]
fn clickhouse_keeps_what_it_has_confirmed_when_it_is_killed() -> Outcome<()> {
    run(300, async {
        let mut clickhouse = ClickHouse::start()?;
        clickhouse.query("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n").await?;
        clickhouse.query("INSERT INTO t SELECT number FROM numbers(1000)").await?;
        clickhouse.kill()?;
        assert!(clickhouse.query("SELECT 1").await.is_err());
        clickhouse.restart()?;
        assert_eq!(clickhouse.number("SELECT count() FROM t").await?, 1000);
        assert!(clickhouse.query("SELECT nothing FROM t").await.is_err_and(|error| error.to_string().contains("Code: 47")));
        clickhouse.stop()?;
        Ok(())
    })
}

#[test]
fn kafka_comes_back_on_its_port_after_it_was_killed() -> Outcome<()> {
    run(300, async {
        let mut kafka = Kafka::start()?;
        let bootstrap = kafka.bootstrap().to_owned();
        kafka.kill()?;
        assert!(TcpStream::connect(&bootstrap).is_err());
        kafka.restart()?;
        assert_eq!(kafka.bootstrap(), bootstrap);
        TcpStream::connect(&bootstrap)?;
        kafka.stop()?;
        Ok(())
    })
}

#[test]
fn clickhouse_asks_for_the_password() -> Outcome<()> {
    run(300, async {
        let clickhouse = ClickHouse::start_with_user("gateway=secret")?;
        assert!(clickhouse.query("SELECT 1").await.is_err_and(|error| error.to_string().contains("Code: 516")));
        let login = [("X-ClickHouse-User", "gateway"), ("X-ClickHouse-Key", "secret")];
        assert_eq!(clickhouse.query_as(&login, "SELECT 1").await?, "1");
        Ok(())
    })
}

#[test]
fn a_service_ends_with_the_one_who_started_it() -> Outcome<()> {
    run(300, async {
        let kafka = Kafka::start()?;
        let bootstrap = kafka.bootstrap().to_owned();
        TcpStream::connect(&bootstrap)?;
        drop(kafka);
        let gone = async || Ok(TcpStream::connect(&bootstrap).is_err().then_some(()));
        eventually(SOON, "the broker's end", gone).await
    })
}
