//! When lines are written, and which streams stay in memory.

use super::super::worker::{FLUSH_BYTES, IDLE, READER_INTERVAL};
use super::*;

impl Rig {
    /// Writes what is due after `later`.
    fn pass(&mut self, later: Duration) {
        self.now += later;
        self.worker.flush(Some(self.now));
        self.log.write();
    }

    fn written(&self, step_run: &str) -> u64 {
        self.log.store.tail(&id(step_run)).unwrap().next_written() - 1
    }
}

#[test]
fn lines_without_a_reader_wait_for_the_interval_and_no_longer() {
    let mut rig = Rig::new();
    rig.send(counted_here("s", 1, "1\n")).unwrap();
    assert_eq!(rig.worker.next_due(), rig.now + SETTINGS.write_interval);
    rig.pass(SETTINGS.write_interval / 2);
    rig.send(counted_here("s", 2, "2\n")).unwrap();
    assert_eq!(rig.written("s"), 0);
    rig.pass(SETTINGS.write_interval / 2);
    assert_eq!(rig.written("s"), 2, "the later one with the first");
    rig.send(counted_here("s", 3, "3\n")).unwrap();
    rig.pass(SETTINGS.write_interval - Duration::from_millis(1));
    assert_eq!(rig.written("s"), 2, "a new interval begins with the next line");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.written("s"), 3);
}

#[test]
fn lines_with_a_reader_are_written_at_once_almost() {
    let mut rig = Rig::new();
    rig.send(counted_here("s", 1, "1\n")).unwrap();
    rig.send(counted_here("t", 1, "1\n")).unwrap();
    let reader = rig.log.store.tail(&id("s")).unwrap().enter_reader();
    rig.send(counted_here("s", 2, "2\n")).unwrap();
    assert_eq!(rig.worker.next_due(), rig.now + READER_INTERVAL);
    rig.pass(READER_INTERVAL);
    assert_eq!((rig.written("s"), rig.written("t")), (2, 0));
    drop(reader);
    rig.send(counted_here("s", 3, "3\n")).unwrap();
    rig.pass(SETTINGS.write_interval);
    assert_eq!((rig.written("s"), rig.written("t")), (3, 1));
}

#[test]
fn the_end_of_a_log_is_written_at_once_almost() {
    let mut rig = Rig::new();
    rig.send(counted_there("s", 1, "1\n")).unwrap();
    rig.send(Submission { end_of_log: true, ..counted_there("s", 2, "") }).unwrap();
    rig.send(counted_there("t", 1, "1\n")).unwrap();
    rig.pass(READER_INTERVAL);
    assert_eq!((rig.written("s"), rig.written("t")), (1, 0));
    assert!(rig.log.store.tail(&id("s")).unwrap().is_ended());
}

#[test]
fn what_only_the_record_says_is_written_too() {
    let mut rig = Rig::new();
    rig.send(Submission { end_of_log: true, ..counted_here("s", 1, "") }).unwrap();
    assert!(!rig.log.store.tail(&id("s")).unwrap().is_ended());
    rig.pass(SETTINGS.write_interval);
    assert!(rig.log.store.tail(&id("s")).unwrap().is_ended());
}

#[test]
fn much_that_waits_is_not_kept_waiting() {
    let mut log = ByHand::new(1);
    let queue = Queue::new();
    let mut worker = Worker::new(Arc::clone(&queue), log.appender.clone(), SETTINGS);
    worker.settings.write_interval = Duration::from_secs(3600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let text = format!("{}\n", "x".repeat(60_000));
    let enough = (FLUSH_BYTES / text.len()) as u64 + 1;
    for n in 0..enough + 2 {
        runtime.block_on(queue.push(counted_here("s", n, &text), None)).unwrap();
    }
    let thread = std::thread::spawn(move || worker.run());
    let tail = log.store.tail(&id("s")).unwrap();
    let by = Instant::now() + Duration::from_secs(10);
    while tail.next_written() <= enough {
        assert!(Instant::now() < by);
        log.write();
        std::thread::yield_now();
    }
    queue.close();
    thread.join().unwrap();
    log.write();
    assert_eq!(tail.next_written(), enough + 3, "the rest at the end");
}

#[test]
fn idle_streams_leave_memory_and_come_back() {
    let mut rig = Rig::new();
    rig.send(counted_there("s", 1, "1\n2\n")).unwrap();
    rig.send(counted_there("s", 5, "5\n")).unwrap();
    let open = |rig: &Rig| (rig.worker.streams.len(), rig.log.store.open_streams());
    let sweep = |rig: &mut Rig| {
        rig.now += 2 * IDLE;
        rig.worker.release_idle(rig.now);
    };
    sweep(&mut rig);
    assert_eq!(open(&rig), (1, 1), "not while it waits to be written");
    rig.flush();
    sweep(&mut rig);
    assert_eq!(open(&rig), (1, 1), "nor synced");
    rig.log.sync();
    let reader = rig.log.store.tail(&id("s")).unwrap();
    sweep(&mut rig);
    assert_eq!(open(&rig), (1, 1), "nor while somebody reads it");
    drop(reader);
    sweep(&mut rig);
    assert_eq!(open(&rig), (0, 0));
    assert_eq!(rig.counts(counted_there("s", 2, "2\n3\n4\n5\n6\n")), [1, 2, 2, 7]);
    assert_eq!(rig.texts("s"), ["1", "2", "(2)", "5", "6"]);
}
