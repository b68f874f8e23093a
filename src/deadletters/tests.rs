#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arcgate_gateway::sink::Rejected;

use super::*;
use crate::settings::{Sources, from_flag, load};

struct Folder {
    settings: Settings,
    _dir: tempfile::TempDir,
}

fn folder(records: &[(u64, &str)]) -> Folder {
    let dir = tempfile::tempdir().unwrap();
    let flags = vec![from_flag(&format!("store.path={}", dir.path().display())).unwrap()];
    let settings = load(Sources { file: Some("/dev/null".into()), flags, ..Sources::default() }).unwrap().settings;
    let mut letters = letters_of(&settings, "kafka-logs");
    letters.count().unwrap();
    let letter = |(position, record): &(u64, &str)| {
        let record = record.to_string().into();
        DeadLetter::new(
            "kafka-logs",
            Rejected { position: *position, reason: "too\nwide".into(), record, ..Rejected::default() },
            0,
        )
    };
    letters.put(&records.iter().map(letter).collect::<Vec<_>>()).unwrap();
    Folder { settings, _dir: dir }
}

fn said(act: impl FnOnce(&mut Vec<u8>) -> Result<(), CommandError>) -> String {
    let mut out = Vec::new();
    act(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn letters_are_listed_shown_asked_for_and_dropped() {
    let folder = folder(&[(8, "{\"a\":1}"), (16, "{}"), (24, "{}")]);
    let settings = &folder.settings;
    let table = said(|out| list(settings, None, false, out));
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("8-0 ") && table.contains("too wide"), "{table}");
    let shown: DeadLetter = serde_json::from_str(&said(|out| show(settings, "kafka-logs", "8-0", out))).unwrap();
    assert_eq!((shown.position, &*shown.record), (8, "{\"a\":1}"));

    said(|out| retry(settings, "kafka-logs", &Which::These(&["16-0".into()]), out));
    let rows = said(|out| list(settings, Some("kafka-logs"), true, out));
    let states: Vec<_> = rows
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["kept", "retry", "kept"]);

    assert_eq!(said(|out| remove(settings, "kafka-logs", &Which::These(&["8-0".into()]), out)), "1 dropped\n");
    assert!(remove(settings, "kafka-logs", &Which::These(&["8-0".into()]), &mut Vec::new()).is_err());
    assert_eq!(said(|out| remove(settings, "kafka-logs", &Which::All, out)), "2 dropped\n");
    assert_eq!(said(|out| list(settings, Some("kafka-logs"), true, out)), "");
}

#[test]
fn what_cannot_be_sent_again_is_refused_with_the_reason() {
    let large = "x".repeat(arcgate_gateway::sink::delivery::MAX_KEPT_RECORD + 1);
    let folder = folder(&[(8, &large)]);
    let retry = |sink: &str, letter: &str| {
        retry(&folder.settings, sink, &Which::These(&[letter.into()]), &mut Vec::new()).unwrap_err().to_string()
    };
    assert!(retry("kafka-logs", "8-0").contains("too large"));
    assert!(retry("kafka-logs", "../8").contains("names no dead letter"));
    assert!(retry("kafka-logs", "9-0").contains("there is no dead letter 9-0"));
    assert!(retry("..", "8-0").contains("has no dead letters"));
    assert!(retry(INGEST, "8-0").contains("on their way in"));
}
