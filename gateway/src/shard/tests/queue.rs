//! The queue in front of a shard, and shards with their threads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::queue::SLOTS;
use super::super::{ShardThreads, Shards};
use super::*;
use crate::store::disk::sim::SimDisk;
use crate::store::index::memory::MemoryIndex;
use crate::store::lines::by_hand::{dir, options};
use crate::store::lines::{LineStore, LineThreads};

struct Running {
    store: Arc<LineStore>,
    disk: SimDisk,
    shards: Arc<Shards>,
    threads: (ShardThreads, LineThreads),
}

fn start(settings: ShardSettings) -> Running {
    let disk = SimDisk::new(1);
    let index = Arc::new(MemoryIndex::default());
    let (store, appender, lines) =
        LineStore::open(Arc::new(disk.clone()), dir(), options(1, 1 << 20), index, 1, Duration::from_millis(5)).unwrap();
    let (shards, threads) = Shards::start(&appender, settings).unwrap();
    Running { store, disk, shards: Arc::new(shards), threads: (threads, lines) }
}

impl Running {
    fn end(self) -> Arc<LineStore> {
        self.store.close();
        self.shards.close();
        self.threads.0.join();
        self.threads.1.join();
        self.store
    }
}

#[tokio::test]
async fn a_full_queue_gives_batches_back_or_holds_their_senders() {
    let queue = Queue::new();
    for n in 0..SLOTS as u64 {
        queue.push(counted_here("s", n, "x\n"), Some(Duration::ZERO)).await.unwrap();
    }
    let back = queue.push(counted_here("s", 9999, "x\n"), Some(Duration::from_millis(1))).await.unwrap_err();
    assert_eq!(back.numbering, Numbering::Gateway { fingerprint: 9999 });
    assert_eq!(queue.len(), SLOTS);
    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.push(counted_here("s", 5000, "x\n"), None).await.is_ok() }
    });
    tokio::task::yield_now().await;
    assert_eq!(queue.pop().unwrap().numbering, Numbering::Gateway { fingerprint: 0 });
    assert!(waiting.await.unwrap());
    assert_eq!(queue.len(), SLOTS);
}

#[tokio::test]
async fn a_closed_queue_takes_nothing_and_lets_out_what_is_inside() {
    let queue = Queue::new();
    for n in 0..SLOTS as u64 {
        queue.push(counted_here("s", n, "x\n"), None).await.unwrap();
    }
    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.push(counted_here("s", 5000, "x\n"), None).await.is_err() }
    });
    tokio::task::yield_now().await;
    queue.close();
    assert!(waiting.await.unwrap());
    assert!(queue.push(counted_here("s", 1, "x\n"), None).await.is_err());
    for _ in 0..SLOTS {
        assert!(!queue.is_drained());
        queue.pop().unwrap();
    }
    assert!(queue.is_drained());
}

/// Whatever is accepted by a queue that closes meanwhile is taken out of it, and no wake-up is lost.
#[test]
fn senders_race_with_the_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    for round in 0..200 {
        let queue = Queue::new();
        let taken = Arc::new(AtomicU64::new(0));
        let worker = std::thread::spawn({
            let (queue, taken) = (Arc::clone(&queue), Arc::clone(&taken));
            move || {
                while !queue.is_drained() {
                    match queue.pop() {
                        Some(_) => drop(taken.fetch_add(1, Ordering::SeqCst)),
                        None => queue.sleep(Instant::now() + Duration::from_secs(60)),
                    }
                }
            }
        });
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                runtime.spawn(async move {
                    let mut accepted = 0;
                    while queue.push(counted_here("s", 1, "x\n"), None).await.is_ok() {
                        accepted += 1;
                        tokio::task::yield_now().await;
                    }
                    accepted
                })
            })
            .collect();
        wait_until(|| taken.load(Ordering::SeqCst) > round);
        queue.close();
        let accepted: u64 = senders.into_iter().map(|sender| runtime.block_on(sender).unwrap()).sum();
        worker.join().unwrap();
        assert_eq!(taken.load(Ordering::SeqCst), accepted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_answered_is_stored_at_the_end() {
    let running = start(ShardSettings { shards: 3, write_interval: Duration::from_millis(1) });
    let senders: Vec<_> = (0..8)
        .map(|sender: u64| {
            let shards = Arc::clone(&running.shards);
            tokio::spawn(async move {
                for n in 0..200 {
                    let (reply, answer) = oneshot::channel();
                    let batch = Submission { reply, ..counted_here(&format!("s{sender}"), n, &format!("{n}\n")) };
                    shards.submit(batch, None).await.unwrap();
                    assert_eq!(answer.await.unwrap().unwrap().next_line, n + 2);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let shards = Arc::clone(&running.shards);
    let store = tokio::task::spawn_blocking(move || running.end()).await.unwrap();
    for sender in 0..8 {
        let tail = store.tail(&id(&format!("s{sender}"))).unwrap();
        assert_eq!((tail.next_written(), tail.next_durable()), (201, 201));
        assert_eq!(tail.snapshot().blocks().count(), 0, "all is indexed");
    }
    assert!(shards.submit(counted_here("s", 1, "x\n"), None).await.is_err(), "closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_senders_back_until_there_is_room() {
    let running = start(ShardSettings { shards: 1, write_interval: Duration::ZERO });
    running.disk.enospc(true);
    let mut accepted = 0_u64;
    let patience = Some(Duration::from_millis(20));
    while running.shards.submit(counted_here("s", accepted, &format!("{accepted}\n")), patience).await.is_ok() {
        accepted += 1;
    }
    assert!(accepted >= SLOTS as u64 && running.store.accepts().is_ok());
    running.disk.enospc(false);
    let tail = running.store.tail(&id("s")).unwrap();
    tokio::task::spawn_blocking(move || wait_until(|| tail.next_durable() == accepted + 1)).await.unwrap();
    tokio::task::spawn_blocking(move || running.end()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_keep_the_gateway_from_ending() {
    let running = start(ShardSettings { shards: 1, write_interval: Duration::ZERO });
    running.disk.enospc(true);
    for n in 0..100 {
        running.shards.submit(counted_here("s", n, "x\n"), None).await.unwrap();
    }
    let end = tokio::task::spawn_blocking(move || running.end());
    let store = tokio::time::timeout(Duration::from_secs(10), end).await.unwrap().unwrap();
    assert!(store.accepts().is_err(), "what it lost makes it no clean end");
}

#[tokio::test]
async fn a_worker_that_dies_tells_its_senders() {
    let log = ByHand::new(1);
    let queue = Queue::new();
    let worker = Worker::new(Arc::clone(&queue), log.appender.clone(), SETTINGS);
    let (reply, answer) = oneshot::channel();
    queue.push(Submission { reply, ..counted_here("s", 1, "x\n") }, None).await.unwrap();
    drop(worker);
    assert!(answer.await.is_err());
    assert!(queue.push(counted_here("s", 1, "x\n"), None).await.is_err());
}
