//! The loop of one sink: cut a batch, save its end, deliver it, save the cursor, and so on.
//!
//! A round on a thread that may block cuts what there is and saves, in one write, the cursor and the ends of the batches that are
//! sent next (`desk`). Each batch (`slot`) is delivered by a task of its own. While nothing goes wrong, all are sent as they come;
//! after a failure only the oldest is tried, with growing pauses (`trouble`), until it is taken. A batch that is refused for good is
//! halved until the records to blame are alone; those are dead letters, durable before the cursor moves.

mod desk;
mod retries;
mod slot;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use self::desk::{Desk, Job, Round};
use self::slot::{Slot, State};
use self::trouble::Trouble;
use super::batch::Batch;
use super::cursor::SinkCursor;
use super::deadletters::{DeadLetter, DeadLetters, LetterId};
use super::delivery::{BatchLimits, Delivery, DeliveryError, MAX_UNDER_WAY, Rejected};
use super::feed::{Cutter, Feed, Weight};
use super::lag::Progress;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::stop::Stop;
use crate::store::disk::Disk;
use crate::store::{Position, StoreError};

/// How long a runner waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The first and the longest pause after a failure.
    pub pauses: (Duration, Duration),
    /// How often it looks for dead letters to be sent again, and shows its lag.
    pub tick: Duration,
    /// How long batches that are being delivered may go on once the sink is to stop.
    pub stop_within: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pauses: (Backoff::FIRST, Backoff::LONGEST), tick: Duration::from_secs(1), stop_within: Duration::from_secs(2) }
    }
}

/// What a runner is made of.
pub struct RunnerParts<F, D> {
    /// The sink's name.
    pub name: &'static str,
    /// What it reads.
    pub feed: F,
    /// Where that goes.
    pub delivery: D,
    /// Where it is.
    pub cursor: SinkCursor,
    /// Who is told how far it is.
    pub progress: Arc<Progress>,
    /// The store's epoch.
    pub epoch: u32,
    /// The file system of the store, for dead letters.
    pub disk: Arc<dyn Disk>,
    /// The time of day.
    pub clock: Clock,
    /// How long it waits.
    pub pace: Pace,
}

/// See the module.
pub struct Runner<F, D> {
    name: &'static str,
    feed: F,
    delivery: Arc<D>,
    limits: BatchLimits,
    progress: Arc<Progress>,
    clock: Clock,
    pace: Pace,
    /// `None` only while it is lent to a thread that may block.
    desk: Option<Desk<F>>,
    slots: VecDeque<Slot<F>>,
    next_id: u64,
    tasks: JoinSet<Done>,
    ready: Ready,
    /// At the other end.
    trouble: Trouble,
    /// At this one.
    disk_trouble: Trouble,
    /// All before is confirmed.
    reached: Position,
    /// Something was confirmed that is not saved.
    unsaved: bool,
    /// Since when there are records behind the last batch.
    open: Option<Instant>,
    /// The log is closed: nothing more comes.
    closed: bool,
    retrying: HashSet<LetterId>,
}

/// Whether the other end is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    No,
    Preparing,
    Yes,
}

/// A task that has ended.
struct Done {
    what: What,
    outcome: Result<Vec<Rejected>, DeliveryError>,
}

enum What {
    Prepare,
    /// The first part of the slot of that number.
    Part(u64),
    Letter(Box<DeadLetter>),
}

/// The runner cannot go on: a defect, already told.
struct Broken;

impl<F: Feed, D: Delivery<Batch = Batch<F>>> Runner<F, D> {
    /// A runner at what `cursor` says. `store` is the store's folder.
    #[must_use]
    pub fn new(parts: RunnerParts<F, D>, store: &Path) -> Self {
        let RunnerParts { name, feed, delivery, cursor, progress, epoch, disk, clock, pace } = parts;
        let wanted = delivery.limits();
        let limits = BatchLimits {
            records: wanted.records.max(1),
            bytes: wanted.bytes.max(1),
            under_way: wanted.under_way.clamp(1, MAX_UNDER_WAY),
            ..wanted
        };
        let reached = cursor.saved().map_or(0, |saved| saved.cursor);
        let desk = Desk {
            feed: feed.clone(),
            limits,
            epoch,
            cutter: Cutter::new(feed.clone(), limits, reached, epoch),
            cursor,
            letters: DeadLetters::new(disk, store, name),
            #[cfg(test)]
            saves_early: false,
        };
        Self {
            name,
            feed,
            delivery: Arc::new(delivery),
            limits,
            progress,
            clock,
            desk: Some(desk),
            slots: VecDeque::new(),
            next_id: 0,
            tasks: JoinSet::new(),
            ready: Ready::No,
            pace,
            trouble: Trouble::new(pace.pauses),
            disk_trouble: Trouble::new(pace.pauses),
            reached,
            unsaved: false,
            open: None,
            closed: false,
            retrying: HashSet::new(),
        }
    }

    /// Runs until it is to `stop`; returns within [`Pace::stop_within`] and a write to the disk after that.
    pub async fn run(mut self, mut stop: Stop) {
        if self.run_until(&mut stop).await.is_err() {
            tracing::error!(sink = self.name, "the sink has ended by a defect; nothing more is delivered until a restart");
        }
    }

    async fn run_until(&mut self, stop: &mut Stop) -> Result<(), Broken> {
        if !self.resume(stop).await? {
            // What the file says of batches under way is not known here, and must stay.
            return Ok(());
        }
        self.follow(stop).await?;
        self.finish().await
    }

    async fn follow(&mut self, stop: &mut Stop) -> Result<(), Broken> {
        let mut tick = interval(self.pace.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.settle();
            self.round().await?;
            self.send();
            let wake = self.wake();
            tokio::select! {
                () = stop.asked() => return Ok(()),
                Some(Ok(done)) = self.tasks.join_next() => {
                    self.take(done, stop).await?;
                    // One save for all that are confirmed by now.
                    while let Some(Ok(done)) = self.tasks.try_join_next() {
                        self.take(done, stop).await?;
                    }
                }
                closed = wake => self.closed |= closed,
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    /// Takes up the batches of an earlier run. Says whether it did before it was to stop.
    async fn resume(&mut self, stop: &mut Stop) -> Result<bool, Broken> {
        loop {
            match self.at_desk(|desk| desk.letters.count().and_then(|_| desk.resume())).await? {
                Ok(batches) => {
                    let mut slots =
                        batches.into_iter().zip(self.next_id..).map(|(batch, id)| Slot::new(id, batch, State::Waiting));
                    self.slots.extend(&mut slots);
                    self.next_id += self.slots.len() as u64;
                    self.disk_works();
                    return Ok(true);
                }
                Err(error) => self.disk_fails(&error),
            }
            tokio::select! {
                () = stop.asked() => return Ok(false),
                () = until(self.disk_trouble.until()) => {}
            }
        }
    }

    /// Moves on past what is confirmed.
    fn settle(&mut self) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.state == State::Confirmed) {
            let extent = slot.batch.extent();
            self.reached = self.reached.max(extent.to);
            self.unsaved = true;
            self.progress.confirmed(extent.to, Weight { records: extent.records, bytes: extent.bytes });
            if let Some(began) = slot.began {
                metrics::histogram!("arcgate_sink_batch_seconds", "sink" => self.name).record(began.elapsed());
            }
        }
    }

    /// How many more batches may be under way.
    fn room(&self) -> usize {
        self.limits.under_way.saturating_sub(self.slots.len())
    }

    /// When the batch that is not full is due.
    fn due(&self) -> Option<Instant> {
        self.open.map(|since| since + self.limits.age)
    }

    /// Once this much of the log is synced, it is worth another look.
    fn worth_a_look(&self) -> Position {
        let looked = self.desk.as_ref().map_or(0, |desk| desk.cutter.looked());
        // A batch is filling: its age will have it cut, unless much more comes.
        looked + if self.open.is_some() { (self.limits.bytes / 8).max(1) } else { 1 }
    }

    /// Cuts and saves, if there is something to cut or to save.
    async fn round(&mut self) -> Result<(), Broken> {
        let aged = self.due().is_some_and(|due| due <= Instant::now());
        let more = *self.feed.synced().borrow() >= self.worth_a_look();
        let room = if aged || more { self.room() } else { 0 };
        let start = self.feed.log().start();
        let is_clipped = |slot: &&Slot<F>| slot.state == State::Waiting && slot.batch.extent().from < start;
        let clipped: Vec<_> = self.slots.iter().filter(is_clipped).map(|slot| (slot.id, slot.end())).collect();
        let cut = self.slots.iter().any(|slot| slot.state == State::Cut);
        if !self.disk_trouble.may_try() || (room == 0 && clipped.is_empty() && !self.unsaved && !cut) {
            return Ok(());
        }
        let ends = self.slots.iter().map(Slot::end).collect();
        let job = Job { room, aged, reached: self.reached, ends, clipped };
        let Round { batches, clipped, open, reached, error, saved } = self.at_desk(|desk| desk.round(job)).await?;
        for (id, left) in clipped {
            if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
                slot.clip(left);
            }
        }
        for batch in batches {
            self.slots.push_back(Slot::new(self.next_id, batch, State::Cut));
            self.next_id += 1;
            self.open = None;
        }
        match open {
            Some(true) => drop(self.open.get_or_insert_with(Instant::now)),
            Some(false) => self.open = None,
            None => {}
        }
        self.reached = reached;
        if saved {
            self.unsaved = false;
            self.progress.moved(reached);
            self.slots.iter_mut().filter(|slot| slot.state == State::Cut).for_each(|slot| slot.state = State::Waiting);
        }
        match error {
            Some(error) => self.disk_fails(&error),
            None => self.disk_works(),
        }
        Ok(())
    }

    /// Begins what may be begun.
    fn send(&mut self) {
        if !self.trouble.may_try() {
            return;
        }
        if self.ready == Ready::No {
            self.ready = Ready::Preparing;
            let delivery = Arc::clone(&self.delivery);
            self.spawn(What::Prepare, async move { delivery.prepare().await.map(|()| Vec::new()) });
        }
        if self.ready != Ready::Yes {
            return;
        }
        let sending = self.slots.iter().any(|slot| slot.state == State::Sending);
        let at_a_time = match (self.trouble.is_on(), sending) {
            (false, _) => usize::MAX,
            (true, false) => 1,
            (true, true) => 0,
        };
        let waiting = self.slots.iter_mut().filter(|slot| slot.state == State::Waiting).take(at_a_time);
        let mut begun = Vec::new();
        for slot in waiting {
            slot.state = State::Sending;
            slot.began.get_or_insert_with(Instant::now);
            begun.extend(slot.parts.front().map(|part| (slot.id, part.clone(), slot.refused.clone())));
        }
        for (id, part, refused) in begun {
            let delivery = Arc::clone(&self.delivery);
            match refused {
                // Called here, in the order of the batches.
                None => self.spawn(What::Part(id), delivery.deliver(part)),
                Some(why) => self.spawn(What::Part(id), async move { delivery.reject(part, why).await }),
            }
        }
    }

    fn spawn(&mut self, what: What, work: impl Future<Output = Result<Vec<Rejected>, DeliveryError>> + Send + 'static) {
        self.tasks.spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            let outcome =
                outcome.unwrap_or_else(|_| Err(DeliveryError::transient("the delivery has panicked; this is a defect")));
            Done { what, outcome }
        });
    }

    /// Takes note of what has ended.
    async fn take(&mut self, done: Done, stop: &mut Stop) -> Result<(), Broken> {
        let Done { what, outcome } = done;
        if let Err(error) = &outcome {
            metrics::counter!("arcgate_sink_errors_total", "sink" => self.name, "kind" => error.kind()).increment(1);
        }
        match what {
            What::Prepare => self.prepared(outcome),
            What::Part(id) => self.delivered(id, outcome, stop).await?,
            What::Letter(letter) => self.redelivered(*letter, outcome).await?,
        }
        Ok(())
    }

    fn prepared(&mut self, outcome: Result<Vec<Rejected>, DeliveryError>) {
        match outcome {
            Ok(_) => {
                self.ready = Ready::Yes;
                // Else the first batch that is taken says so.
                if self.slots.is_empty() {
                    self.works();
                }
            }
            Err(error) => {
                self.ready = Ready::No;
                self.fails(&error);
            }
        }
    }

    async fn delivered(&mut self, id: u64, outcome: Result<Vec<Rejected>, DeliveryError>, stop: &mut Stop) -> Result<(), Broken> {
        let kept = match outcome {
            Ok(rejected) => {
                self.works();
                self.keep(rejected, stop).await?
            }
            Err(ref error) => {
                self.refused_or_failed(id, error);
                return Ok(());
            }
        };
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            // What could not be kept before the stop is delivered again at the next start.
            if kept { slot.pass() } else { slot.state = State::Waiting }
        }
        Ok(())
    }

    fn refused_or_failed(&mut self, id: u64, error: &DeliveryError) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) else { return };
        if let (DeliveryError::Permanent { why }, None) = (error, &slot.refused) {
            slot.refuse(why.clone());
            self.works();
            return;
        }
        slot.state = State::Waiting;
        if matches!(error, DeliveryError::NotReady { .. }) {
            self.ready = Ready::No;
        }
        metrics::counter!("arcgate_sink_retries_total", "sink" => self.name).increment(1);
        self.fails(error);
    }

    /// Makes dead letters of what was rejected. Says whether they are durable: false only if it was to stop first.
    async fn keep(&mut self, rejected: Vec<Rejected>, stop: &mut Stop) -> Result<bool, Broken> {
        if rejected.is_empty() {
            return Ok(true);
        }
        let now = self.clock.now();
        let letters: Arc<[_]> = rejected.into_iter().map(|rejected| DeadLetter::new(self.name, rejected, now)).collect();
        loop {
            let put = Arc::clone(&letters);
            match self.at_desk(move |desk| desk.letters.put(&put)).await? {
                Ok(gone) => {
                    self.disk_works();
                    self.say_letters(&letters, gone);
                    return Ok(true);
                }
                Err(error) => self.disk_fails(&error),
            }
            tokio::select! {
                () = stop.asked() => return Ok(false),
                () = until(self.disk_trouble.until()) => {}
            }
        }
    }

    fn say_letters(&self, letters: &[DeadLetter], gone: usize) {
        metrics::counter!("arcgate_sink_deadletters_total", "sink" => self.name).increment(letters.len() as u64);
        if let Some(first) = letters.first() {
            let (count, letter, reason) = (letters.len(), first.id(), &first.reason);
            tracing::error!(
                sink = self.name,
                count,
                %letter,
                reason,
                "records that the sink will never take are dead letters now; see `arcgate deadletters ls`"
            );
        }
        if gone > 0 {
            metrics::counter!("arcgate_sink_deadletters_dropped_total", "sink" => self.name).increment(gone as u64);
            tracing::error!(sink = self.name, count = gone, "the oldest dead letters had to go: there are too many");
        }
    }

    fn fails(&mut self, error: &DeliveryError) {
        if self.trouble.add(&error.to_string()) {
            tracing::error!(sink = self.name, %error, "the sink does not take what it is sent; it is tried again until it does");
        }
    }

    fn works(&mut self) {
        if let Some(after) = self.trouble.end() {
            tracing::info!(sink = self.name, ?after, "the sink takes what it is sent again");
        }
    }

    fn disk_fails(&mut self, error: &StoreError) {
        if self.disk_trouble.add(&error.to_string()) {
            tracing::error!(sink = self.name, %error, "the sink cannot go on; it is tried again until it can");
        }
    }

    fn disk_works(&mut self) {
        if self.disk_trouble.end().is_some() {
            tracing::info!(sink = self.name, "the sink can go on");
        }
    }

    /// Waits until a round or a send may have something to do; true if the log turns out to be closed.
    fn wake(&self) -> impl Future<Output = bool> + use<F, D> {
        let rests = !self.disk_trouble.may_try();
        let takes = self.room() > 0 && !rests;
        let has_work = self.ready == Ready::No || self.slots.iter().any(|slot| slot.state == State::Waiting);
        let again = self.trouble.until().filter(|_| has_work && !self.trouble.may_try());
        let disk_again = self.disk_trouble.until().filter(|_| rests);
        let due = self.due().filter(|_| takes);
        let at = [again, disk_again, due].into_iter().flatten().min();
        let worth_a_look = self.worth_a_look();
        let mut synced = self.feed.synced().clone();
        let follows = takes && !self.closed;
        async move {
            tokio::select! {
                () = until(at), if at.is_some() => false,
                closed = async { synced.wait_for(|synced| *synced >= worth_a_look).await.is_err() }, if follows => closed,
                else => std::future::pending().await,
            }
        }
    }

    /// Once a second: what others do to the dead letters, and the lag.
    async fn tick(&mut self) -> Result<(), Broken> {
        let idle = self.slots.is_empty() && self.open.is_none() && *self.feed.synced().borrow() < self.worth_a_look();
        let oldest = self.slots.front().map(|slot| slot.batch.extent().received);
        self.progress.show(self.feed.log(), idle, oldest, self.clock.now());
        self.look_for_retries().await
    }

    /// Lets what is being delivered end, within a bound, and saves how far it is.
    async fn finish(&mut self) -> Result<(), Broken> {
        let deadline = Instant::now() + self.pace.stop_within;
        let stopper = crate::stop::Stopper::default();
        let mut stop = stopper.wish();
        stopper.stop();
        while self.slots.iter().any(|slot| slot.state == State::Sending)
            && let Ok(Some(Ok(done))) = timeout_at(deadline, self.tasks.join_next()).await
        {
            self.take(done, &mut stop).await?;
        }
        self.tasks.abort_all();
        self.settle();
        let ends = self.slots.iter().filter(|slot| slot.state != State::Cut).map(Slot::end).collect();
        let job = Job { room: 0, aged: false, reached: self.reached, ends, clipped: Vec::new() };
        let round = self.at_desk(|desk| desk.round(job)).await?;
        match round.error {
            Some(error) => {
                tracing::warn!(sink = self.name, %error, "the sink's cursor could not be saved; it delivers some again at the next start");
            }
            None => self.progress.moved(round.reached),
        }
        Ok(())
    }

    /// Does something that reads or writes the disk.
    async fn at_desk<T: Send + 'static>(&mut self, act: impl FnOnce(&mut Desk<F>) -> T + Send + 'static) -> Result<T, Broken> {
        let mut desk = self.desk.take().ok_or(Broken)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = act(&mut desk);
            (desk, done)
        });
        let (desk, done) = done.await.map_err(|error| {
            tracing::error!(sink = self.name, %error, "the sink's disk thread has panicked");
            Broken
        })?;
        self.desk = Some(desk);
        Ok(done)
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
