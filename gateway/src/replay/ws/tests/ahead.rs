//! Reading ahead in the archive: for those who keep up, and only for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::super::ahead::Ahead;
use super::protocol::{BOUND, Server, settings};
use crate::access::AllowAll;
use crate::block::Block;
use crate::id::StepRunId;
use crate::lookup::NoLookup;
use crate::replay::ReplaySettings;
use crate::replay::archive::{ArchiveError, ArchivedStream, LineArchive, Stretch, Wanted};
use crate::replay::fake::{id, text};
use crate::store::lines::BlockRef;

/// Lines of a stretch that is read ahead.
const STRETCH: u64 = 1000;

/// Has lines `line <number>` up to a last one, and counts how it is read ahead.
#[derive(Default)]
struct Numbered {
    last: u64,
    /// Reading ahead ends before each multiple of this number.
    breaks: u64,
    begun: AtomicUsize,
    under_way: Arc<AtomicUsize>,
    most_under_way: AtomicUsize,
}

impl Numbered {
    fn known(&self) -> Arc<ArchivedStream> {
        Arc::new(ArchivedStream {
            origin: 0,
            first_line: 1,
            next_line: self.last + 1,
            ended: true,
            pipeline_id: "".into(),
            received: None,
        })
    }

    fn stretch(&self, from: u64, until: u64) -> Stretch {
        let lines: Vec<String> = (from..until).map(|number| format!("line {number}")).collect();
        let place = BlockRef { first_line: from, lines: (until - from) as u32, position: 0 };
        let block = Block {
            step_run: id("s"),
            first_line: from,
            lines: place.lines,
            epoch: 0,
            agent_counted: false,
            origin: None,
            content: text(&lines),
        };
        Stretch { from, until, blocks: vec![(place, Arc::new(block))], older: false, stream: Some(self.known()) }
    }
}

/// Counts down also if the future that has it is dropped.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl LineArchive for Numbered {
    fn stream<'a>(&'a self, _: &'a StepRunId) -> BoxFuture<'a, Result<Option<Arc<ArchivedStream>>, ArchiveError>> {
        async { Ok(Some(self.known())) }.boxed()
    }

    fn read(&self, wanted: Wanted) -> BoxFuture<'_, Result<Stretch, ArchiveError>> {
        async move { Ok(self.stretch(wanted.from, wanted.until.min(wanted.from + wanted.most as u64))) }.boxed()
    }

    fn read_ahead(&self, wanted: Wanted, out: Sender<Stretch>) -> BoxFuture<'_, ()> {
        async move {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            let _under_way = UnderWay(Arc::clone(&self.under_way));
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            self.begun.fetch_add(1, Ordering::SeqCst);
            let mut from = wanted.from;
            while from < wanted.until {
                let until = (from + STRETCH).min(wanted.until).min(from.next_multiple_of(self.breaks));
                if until == from || out.send(self.stretch(from, until)).await.is_err() {
                    break;
                }
                from = until;
            }
        }
        .boxed()
    }
}

async fn server(archive: &Arc<Numbered>) -> Server {
    let settings = ReplaySettings { archive: Some(Arc::clone(archive) as _), ..settings() };
    Server::with(settings, None, Arc::new(AllowAll), Arc::new(NoLookup)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_history_that_is_read_ahead_is_seen_once_and_in_order() {
    let last = 200_000;
    let archive = Arc::new(Numbered { last, breaks: 70_000, ..Numbered::default() });
    let server = server(&archive).await;
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    assert_eq!(client.lines(last).await.0, (1..=last).collect::<Vec<_>>());
    // At the start and after each break.
    let begun = archive.begun.load(Ordering::SeqCst);
    assert!(begun >= 3, "{begun}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_nothing_is_read_ahead_for_clients_that_stop_reading() {
    let archive = Arc::new(Numbered { last: 5_000_000, breaks: u64::MAX, ..Numbered::default() });
    let server = server(&archive).await;
    let mut clients = Vec::new();
    for _ in 0..7 {
        let mut client = server.connect().await;
        client.subscribe("s", json!({})).await;
        clients.push(client);
    }
    let ended = async {
        while archive.begun.load(Ordering::SeqCst) == 0 || archive.under_way.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, ended).await.expect("what is read ahead ends with the reading");
    let most = archive.most_under_way.load(Ordering::SeqCst);
    assert!((1..=4).contains(&most), "{most}");
    // Who reads on misses nothing.
    for mut client in clients {
        assert_eq!(client.lines(40_000).await.0[..40_000], (1..=40_000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn reading_ahead_that_gave_nothing_is_known_as_of_no_use() {
    for (breaks, is_futile) in [(1, true), (u64::MAX, false)] {
        let archive = Numbered { last: 10_000, breaks, ..Numbered::default() };
        let stream = Some(archive.known());
        let wanted = Wanted { step_run: id("s"), from: 1, until: 10_001, most: 100, stream };
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut ahead = Ahead::start(Arc::new(archive), wanted.clone(), place);
        assert_eq!(ahead.take(&wanted).await.is_none(), is_futile);
        assert_eq!(ahead.is_futile(), is_futile);
    }
}
