//! After a restart all readers come at once: the archive is asked for a few of their step runs at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::protocol::{BOUND, Server, settings};
use crate::access::AllowAll;
use crate::id::StepRunId;
use crate::lookup::NoLookup;
use crate::replay::ReplaySettings;
use crate::replay::archive::{ArchiveError, ArchivedStream, LineArchive, Stretch, Wanted};

/// Look-ups at a time, as the module has it.
const MOST: usize = 16;
const READERS: usize = 3 * MOST;

/// Knows no step run, and says so once it is allowed to.
struct Slow {
    may_answer: Semaphore,
    asked: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl LineArchive for Slow {
    fn stream<'a>(&'a self, _: &'a StepRunId) -> BoxFuture<'a, Result<Option<Arc<ArchivedStream>>, ArchiveError>> {
        async {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.may_answer.acquire().await.unwrap().forget();
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(None)
        }
        .boxed()
    }

    fn read(&self, Wanted { from, until, .. }: Wanted) -> BoxFuture<'_, Result<Stretch, ArchiveError>> {
        async move { Ok(Stretch { from, until, blocks: Vec::new(), older: false, stream: None }) }.boxed()
    }
}

async fn reaches(counter: &AtomicUsize, count: usize) {
    let reached = async {
        while counter.load(Ordering::SeqCst) < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, reached).await.expect("look-ups");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_readers_that_come_at_once_ask_the_archive_a_few_at_a_time_and_all_are_answered() {
    let archive = Arc::new(Slow {
        may_answer: Semaphore::new(0),
        asked: AtomicUsize::new(0),
        under_way: AtomicUsize::new(0),
        most_under_way: AtomicUsize::new(0),
    });
    let settings = ReplaySettings { archive: Some(Arc::clone(&archive) as _), ..settings() };
    let server = Server::with(settings, None, Arc::new(AllowAll), Arc::new(NoLookup)).await;
    let mut clients = Vec::new();
    for reader in 0..READERS {
        let mut client = server.connect().await;
        client.subscribe(&format!("s-{reader}"), json!({})).await;
        clients.push(client);
    }
    reaches(&archive.asked, MOST).await;
    // One that is answered makes room for one.
    for answered in 1..=READERS - MOST {
        archive.may_answer.add_permits(1);
        reaches(&archive.asked, MOST + answered).await;
    }
    archive.may_answer.add_permits(MOST);
    for client in &mut clients {
        client.expect("subscribed").await;
    }
    assert_eq!(archive.most_under_way.load(Ordering::SeqCst), MOST);
}
