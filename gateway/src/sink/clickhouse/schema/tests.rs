#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn variant(cluster: Option<&str>, replicated: bool) -> Variant {
    Variant { database: "arcgate".into(), cluster: cluster.map(str::to_owned), replicated, ttl_days: 90 }
}

#[test]
fn a_single_server_has_plain_tables_that_know_their_inserts() {
    let script = variant(None, false).script(0);
    assert!(script.contains("CREATE DATABASE IF NOT EXISTS `arcgate`;"));
    assert!(script.contains("ENGINE = ReplacingMergeTree\n"));
    assert_eq!(script.matches("non_replicated_deduplication_window = 10000").count(), 6, "each table: {script}");
    assert!(!script.contains("Replicated") && !script.contains("ON CLUSTER"));
}

#[test]
fn replicas_have_replicated_tables_with_the_servers_own_macros() {
    let script = variant(None, true).script(0);
    let engine = "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')\n";
    assert_eq!(script.matches(engine).count(), 3);
    for kind in ["ReplicatedSummingMergeTree(", "ReplicatedAggregatingMergeTree(", "ReplicatedMergeTree("] {
        assert!(script.contains(kind), "{kind}");
    }
    assert_eq!(script.matches("replicated_deduplication_window = 10000,").count(), 6);
    assert!(!script.contains("non_replicated") && !script.contains("ON CLUSTER"));
}

#[test]
fn a_cluster_has_everything_on_cluster_and_replicated() {
    let script = variant(Some("builds"), false).script(0);
    let creates = script.matches("CREATE ").count();
    assert_eq!(creates, 11, "the database, the versions, six tables, three views");
    assert_eq!(script.matches("ON CLUSTER 'builds'").count(), creates);
    assert_eq!(script.matches("ENGINE = ").count(), script.matches("ENGINE = Replicated").count());
    assert!(variant(None, false).keep("log_streams").contains("toDateTime(last_received)"));
    assert!(variant(Some("builds"), false).keep("logs").starts_with("ALTER TABLE logs ON CLUSTER 'builds' MODIFY TTL"));
}

#[test]
fn a_migration_never_destroys() {
    for script in [variant(None, false).script(0), variant(Some("c"), true).script(0)] {
        for word in ["DROP ", "TRUNCATE ", "DELETE ", "RENAME ", "DETACH ", "REPLACE ", "MODIFY COLUMN"] {
            assert!(!script.to_uppercase().contains(word), "{word}");
        }
        let creates = script.matches("CREATE ").count();
        assert_eq!(script.matches("IF NOT EXISTS").count(), creates, "each may be executed again");
    }
}

#[test]
fn a_script_from_an_older_version_has_only_what_is_missing() {
    let variant = variant(None, false);
    assert_eq!(variant.migrations(0).len(), VERSION as usize);
    assert_eq!(variant.migrations(1).iter().map(|one| one.version).collect::<Vec<_>>(), [2, 3]);
    assert!(variant.migrations(VERSION).is_empty() && variant.migrations(VERSION + 7).is_empty());
    let script = variant.script(2);
    assert!(!script.contains("CREATE DATABASE") && !script.contains("EXISTS logs\n") && script.contains("EXISTS log_hours\n"));
    assert!(script.contains("VALUES (3, 'views')"));
}

#[test]
fn nothing_is_left_to_fill_in() {
    for variant in [variant(None, false), variant(Some("c"), true)] {
        for statement in variant.migrations(0).into_iter().flat_map(|migration| migration.statements) {
            let rest =
                ["{shard}", "{database}", "{table}", "{replica}"].iter().fold(statement, |text, own| text.replace(own, ""));
            assert!(!rest.contains('{') && !rest.contains('}'), "{rest}");
        }
    }
}
