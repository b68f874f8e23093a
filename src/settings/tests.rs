#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use super::table::{self, KEYS};
use super::*;

fn flags(assignments: &[&str]) -> Sources {
    // A file is named so that no arcgate.toml of the folder the tests run in is read.
    Sources {
        file: Some("/dev/null".into()),
        flags: assignments.iter().map(|text| from_flag(text).unwrap()).collect(),
        ..Sources::default()
    }
}

fn problems_of(assignments: &[&str]) -> String {
    load(flags(assignments)).unwrap_err().to_string()
}

#[test]
fn every_default_is_valid_and_every_name_is_unique() {
    let loaded = load(flags(&[])).unwrap();
    assert_eq!(loaded.given.len(), KEYS.len());
    assert_eq!(loaded.settings.grpc.listen.0.to_string(), "127.0.0.1:9090");
    assert_eq!(loaded.settings.grpc.max_message, 104_857_600);
    assert_eq!(loaded.settings.store.segment_bytes, 256 << 20);
    assert_eq!(loaded.settings.store.retention_bytes, Room::Percent(80));
    assert_eq!(loaded.settings.events.dedup_window, Duration::from_secs(7 * 86_400));
    assert_eq!(loaded.settings.limits.memory, 512 << 20);
    assert!(loaded.settings.stock_agents());
}

#[test]
fn later_sources_win_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    std::fs::write(
        &file,
        "[grpc]\nlisten = \"127.0.0.1:1\"\n[logs]\nmax_line = 65536\n[log]\nlevel = [\"info\", \"fjall=warn\"]\n",
    )
    .unwrap();
    let loaded = load(Sources {
        file: Some(file.clone()),
        env: vec![
            ("ARCGATE_GRPC__LISTEN".into(), "127.0.0.1:2".into()),
            ("ARCGATE_HTTP__LISTEN".into(), "localhost:3".into()),
            ("ARCGATE_SERVICE_HOST".into(), "10.0.0.1".into()),
        ],
        flags: vec![from_flag("http.listen = [::1]:4").unwrap()],
    })
    .unwrap();
    assert_eq!(loaded.settings.grpc.listen.0.port(), 2);
    assert_eq!(loaded.settings.http.listen.0.port(), 4);
    assert_eq!(loaded.settings.logs.max_line, 65_536);
    assert_eq!(loaded.settings.log.level, "info,fjall=warn");
    assert_eq!(loaded.given["grpc.listen"].place, Place::Env("ARCGATE_GRPC__LISTEN".into()));
    assert_eq!(loaded.given["logs.max_line"].place, Place::File(file, 4));
    assert_eq!(loaded.given["shutdown.grace"].place, Place::Default);
}

#[test]
fn unknown_keys_name_the_nearest_with_file_and_line() {
    let given = source::from_toml(Path::new("x.toml"), "# head\n[grpc]\nlisten = \"127.0.0.1:1\"\nlisen = 1\n").unwrap();
    let error = load(Sources { flags: given, file: Some("/dev/null".into()), ..Sources::default() }).unwrap_err();
    assert_eq!(error.to_string(), "x.toml:4: there is no setting \"grpc.lisen\"; did you mean \"grpc.listen\"?");
    assert!(table::unknown("store.retention").contains("store.retention_"));
    assert!(table::unknown("zzz").contains("lists all"));
}

#[test]
fn a_broken_file_is_an_error_with_its_line() {
    let problem = source::from_toml(Path::new("x.toml"), "[grpc]\nlisten = \n").unwrap_err();
    assert!(matches!(problem.place, Place::File(_, 2)), "{problem}");
    let error = load(Sources { file: Some("/nowhere/a.toml".into()), ..Sources::default() }).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/a.toml: cannot read"), "{error}");
}

#[test]
fn a_variable_with_one_underscore_names_the_right_one() {
    let env = |name: &str| Sources { env: vec![(name.into(), "127.0.0.1:2".into())], ..flags(&[]) };
    let error = load(env("ARCGATE_GRPC_LISTEN")).unwrap_err();
    assert_eq!(error.to_string(), "ARCGATE_GRPC_LISTEN: is not read; write ARCGATE_GRPC__LISTEN, with two underscores");
    // What clusters set for each service, and what the other commands read.
    for name in ["ARCGATE_GRPC_PORT", "ARCGATE_SERVICE_HOST", "ARCGATE_SERVER", "ARCGATE_TOKEN_FILE", "ARCGATE_SPOOL"] {
        assert!(load(env(name)).is_ok(), "{name}");
    }
}

#[test]
fn a_level_that_is_none_names_the_nearest() {
    let data = tempfile::tempdir().unwrap();
    let checked = |level: &str| {
        check(&load(flags(&[&format!("log.level={level}"), &format!("store.path={}", data.path().display())])).unwrap())
    };
    for level in ["info", "WARN", "off", "info,arcgate_gateway=debug", "arcgate=trace", "warn,fjall=off"] {
        assert!(checked(level).is_ok(), "{level}");
    }
    for (level, words) in [
        ("inof", "\"inof\"; did you mean \"info\"?"),
        ("info,arcgate=debgu", "did you mean \"debug\"?"),
        ("", "write one of error, warn"),
        ("info,", "write one of error, warn"),
        ("info, warn", "names no level"),
        ("arcgate_gateway", "names no level"),
    ] {
        let error = checked(level).unwrap_err().to_string();
        assert!(error.contains(words), "{level}: {error}");
    }
}

#[test]
fn two_listeners_on_one_port_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let checked = |grpc: &str, http: &str| {
        let assignments =
            [format!("grpc.listen={grpc}"), format!("http.listen={http}"), format!("store.path={}", data.path().display())];
        let dangerous = "auth.allow_unauthenticated_on_public_addresses=true";
        check(&load(flags(&[&assignments[0], &assignments[1], &assignments[2], dangerous])).unwrap())
    };
    for (grpc, http) in [("127.0.0.1:9", "127.0.0.1:9"), ("0.0.0.0:9", "127.0.0.1:9")] {
        assert!(checked(grpc, http).unwrap_err().to_string().contains("are one port"));
    }
    for (grpc, http) in [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:9", "127.0.0.2:9"), ("0.0.0.0:8", "127.0.0.1:9")] {
        assert!(checked(grpc, http).is_ok(), "{grpc} {http}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let error = load(flags(&["grpc.listen=9090", "logs.max_line=8MiB", "shutdown.grace=10", "log.format=xml"])).unwrap_err();
    assert_eq!(error.0.len(), 4, "{error}");
}

#[test]
fn bounds_are_named() {
    assert_eq!(problems_of(&["logs.max_line=8MiB"]), "--set logs.max_line: logs.max_line = \"8MiB\" is not between 64B and 4MiB");
    assert!(problems_of(&["store.sync_interval=2h"]).ends_with("is not between 1ms and 1m"));
    assert!(problems_of(&["store.path="]).ends_with("name a path"));
    assert!(problems_of(&["auth.stock_agents=maybe"]).contains("auto"));
}

#[test]
fn sizes_and_times_are_read_as_people_write_them() {
    for (text, bytes) in [("0", 0), ("17", 17), ("1KiB", 1024), ("1kb", 1000), ("512MiB", 512 << 20), ("4 GiB", 4 << 30)] {
        assert_eq!(value::bytes(text), Ok(bytes), "{text}");
    }
    for text in ["", "MiB", "1.5MiB", "1XB", "-1", "99999999999TiB"] {
        assert!(value::bytes(text).is_err(), "{text}");
    }
    for (text, millis) in [("0", 0), ("200ms", 200), ("10s", 10_000), ("1h30m", 5_400_000), ("7d", 604_800_000)] {
        assert_eq!(value::time(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "10", "s", "1s1m", "1.5s", "1w", "-1s", "1s ", "99999999999999999d"] {
        assert!(value::time(text).is_err(), "{text}");
    }
    for text in ["80%", "500GiB"] {
        assert!(value::room(text).is_ok(), "{text}");
    }
    for text in ["0%", "96%", "x%", "%"] {
        assert!(value::room(text).is_err(), "{text}");
    }
    assert_eq!(value::show_bytes(&(256 << 20)), "256MiB");
    assert_eq!(value::show_time(&Duration::from_secs(90)), "90s");
    assert_eq!(Room::Percent(80).of(1000), 800);
}

#[test]
fn other_addresses_need_tokens_or_the_dangerous_setting() {
    let data = tempfile::tempdir().unwrap();
    let data = format!("store.path={}/data", data.path().display());
    let refused = check(&load(flags(&["http.listen=0.0.0.0:8080", &data])).unwrap()).unwrap_err();
    assert_eq!(refused.0.len(), 1);
    assert!(refused.to_string().starts_with("--set http.listen: http.listen = \"0.0.0.0:8080\" can be reached by others"));

    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "# one\nsecret-1\n\n").unwrap();
    let token_file = format!("auth.token_file={}", tokens.path().display());
    check(&load(flags(&["http.listen=0.0.0.0:8080", &token_file, &data])).unwrap()).unwrap();
    check(&load(flags(&["grpc.listen=0.0.0.0:1", "auth.allow_unauthenticated_on_public_addresses=true", &data])).unwrap())
        .unwrap();
    check(&load(flags(&["grpc.listen=[::1]:1", &data])).unwrap()).unwrap();

    let public = load(flags(&["grpc.listen=0.0.0.0:1"])).unwrap().settings;
    assert!(!public.stock_agents(), "existing agents need the setting on a public address");
}

#[test]
fn what_does_not_fit_together_or_the_machine_is_told() {
    let loaded = load(flags(&[
        "limits.memory=64MiB",
        "store.path=/dev/null/x",
        "log.level=a=b=c",
        "auth.token_file=/nowhere",
        "events.ack=kafka",
    ]));
    let error = check(&loaded.unwrap()).unwrap_err().to_string();
    for part in ["limits.memory", "not a folder", "log.level", "/nowhere", "set kafka.brokers"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn delivery_to_kafka_or_clickhouse_needs_more_than_the_least_memory() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("store.path={}", folder.path().display());
    for (sink, least) in
        [("clickhouse.url=http://127.0.0.1:1", true), ("kafka.brokers=127.0.0.1:1", true), ("kafka.brokers=", false)]
    {
        let small = ["grpc.max_message=16MiB", "events.max_event=16MiB"];
        let checked = |memory| check(&load(flags(&[&small[..], &[memory, sink, &data]].concat())).unwrap());
        let error = checked("limits.memory=127MiB").err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error.contains("set at least \"128MiB\""), least, "{sink}: {error}");
        checked("limits.memory=128MiB").unwrap();
    }
}

#[test]
fn the_printed_settings_can_be_read_again() {
    let first = load(flags(&["logs.shards=3", "log.level=info,fjall=warn"])).unwrap();
    let text = as_toml(&first);
    assert!(text.contains("# --set logs.shards"), "{text}");
    let given = source::from_toml(Path::new("again.toml"), &text).unwrap();
    let again = load(Sources { flags: given, file: Some("/dev/null".into()), ..Sources::default() }).unwrap();
    assert_eq!(first.settings, again.settings);
}

#[test]
fn the_readme_has_a_row_for_each_setting() {
    let table = as_markdown();
    assert_eq!(table.lines().count(), KEYS.len() + 2);
    let readme = include_str!("../../README.md");
    assert!(readme.contains(table.trim()), "put what `arcgate config --table` prints into README.md");
    assert_eq!(table::find("grpc.listen").unwrap().env(), "ARCGATE_GRPC__LISTEN");
}
