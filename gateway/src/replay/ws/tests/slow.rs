//! I7 and I8 with clients that stop reading.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::protocol::{Server, settings};
use crate::access::AllowAll;
use crate::lookup::NoLookup;
use crate::replay::ReplaySettings;

const LINES: u64 = 60_000;

/// I7: readers that stop and readers that do not, with little memory for all, see each line once in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_readers_that_stop_reading_miss_nothing_and_stop_nobody() {
    let settings = ReplaySettings { memory: 1 << 20, ..settings() };
    let server = Server::with(settings, None, Arc::new(AllowAll), Arc::new(NoLookup)).await;
    let writing = tokio::spawn({
        let source = Arc::clone(&server.source);
        async move {
            for (round, last) in (1..=LINES / 50).map(|round| (round, round * 50)) {
                source.numbered("s", last);
                if round % 7 == 0 {
                    source.index("s", 6);
                }
                if round % 20 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
    });
    let mut stopped = Vec::new();
    for from in 0..6 {
        let mut client = server.connect().await;
        client.subscribe("s", json!({ "fromLine": 1 + from * 100 })).await;
        stopped.push((client, 1 + from * 100));
    }
    let mut readers = Vec::new();
    for _ in 0..6 {
        let mut client = server.connect().await;
        readers.push(tokio::spawn(async move {
            client.subscribe("s", json!({})).await;
            client.lines(LINES).await.0
        }));
        sleep(Duration::from_millis(5)).await;
    }
    writing.await.unwrap();
    let all: Vec<u64> = (1..=LINES).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), all);
    }
    for (mut client, first) in stopped {
        assert_eq!(client.lines(LINES).await.0, all[first as usize - 1..]);
    }
}

/// Each page is read from the store once, not once for each chunk, as long as the client keeps up.
#[tokio::test]
async fn a_reader_that_keeps_up_reads_each_block_once() {
    let server = Server::start().await;
    for last in 1..=20 {
        server.source.numbered("s", last * 1000);
    }
    server.source.index("s", 20);
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    assert_eq!(client.lines(20_000).await.0.len(), 20_000);
    let reads = server.source.reads.load(Ordering::SeqCst);
    assert!(reads <= 25, "{reads}");
}
