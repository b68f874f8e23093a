//! A delivery in memory: what the contract promises, and all the ways in which it may fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
#[expect(clippy::disallowed_types, reason = "for tests only")]
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::sink::{BatchLimits, DeadLetter, Delivery, DeliveryError, EventBatch, Rejected};
use crate::store::Position;

/// How the other end behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It takes everything.
    Well,
    /// It takes nothing for now.
    Down,
    /// It is not prepared, and cannot be.
    Missing,
    /// It never answers.
    Silent,
    /// Anything may happen.
    Erratic,
}

/// The other end. It outlives the gateway.
#[derive(Clone)]
pub(super) struct Fake {
    #[expect(clippy::disallowed_types, reason = "for tests only")]
    state: Arc<Mutex<State>>,
    pub(super) changes: Arc<watch::Sender<u64>>,
    under_way: Arc<AtomicUsize>,
    pub(super) most_under_way: Arc<AtomicUsize>,
    limits: BatchLimits,
}

pub(super) struct State {
    rng: StdRng,
    pub(super) mood: Mood,
    /// Whether a bad record has its whole batch refused.
    pub(super) refuses_batches: bool,
    /// How often each record was taken.
    pub(super) taken: BTreeMap<u64, u64>,
    /// Records of which the sink was told that they are taken.
    pub(super) confirmed: BTreeSet<u64>,
    /// Where the batches that were sent begin and end, and their tokens.
    pub(super) sent: BTreeMap<Position, (Position, String)>,
    pub(super) calls: u64,
    pub(super) prepared: u64,
    /// What the contract forbids and happened.
    pub(super) wrong: Vec<String>,
}

/// Every number that ends in 7 will never be taken.
pub(super) fn is_bad(record: u64) -> bool {
    record % 10 == 7
}

struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Fake {
    pub(super) fn new(seed: u64, mood: Mood) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            mood,
            refuses_batches: false,
            taken: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            sent: BTreeMap::new(),
            calls: 0,
            prepared: 0,
            wrong: Vec::new(),
        };
        let limits = BatchLimits { records: 8, bytes: 1 << 20, age: Duration::from_millis(1), under_way: 3 };
        Self {
            state: Arc::new(state.into()),
            changes: Arc::default(),
            under_way: Arc::default(),
            most_under_way: Arc::default(),
            limits,
        }
    }

    pub(super) fn limited(mut self, limits: BatchLimits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.state.lock());
        self.changes.send_modify(|changes| *changes += 1);
        done
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, mut is_so: impl FnMut(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !is_so(&self.state.lock()) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it does not happen");
    }

    fn numbers(batch: &EventBatch) -> Result<Vec<(Position, u64)>, DeliveryError> {
        batch
            .events()
            .map(|event| event.map(|event| (event.position, u64::from_le_bytes(event.raw[..8].try_into().unwrap()))))
            .collect::<Result<_, _>>()
            .map_err(DeliveryError::from)
    }

    /// The same batch again is the same batch; another one shares nothing with it.
    fn note(state: &mut State, batch: &EventBatch) {
        state.calls += 1;
        let extent = *batch.extent();
        if extent.partial {
            return;
        }
        let token = batch.token();
        let before = state.sent.range(..extent.to).next_back().map(|(from, (to, token))| (*from, *to, token.clone()));
        match before {
            Some((from, to, known)) if from == extent.from && to == extent.to && known == token => {}
            Some((from, to, known)) if to > extent.from => {
                state.wrong.push(format!("{from}..{to} ({known}) was sent, now {}..{} ({token})", extent.from, extent.to));
            }
            _ => drop(state.sent.insert(extent.from, (extent.to, token))),
        }
    }

    fn rejected(position: Position, record: u64, reason: &str) -> Rejected {
        let record = Bytes::from(format!("{{\"number\":{record}}}"));
        Rejected { position, reason: reason.to_owned(), record, ..Rejected::default() }
    }
}

impl Delivery for Fake {
    type Batch = EventBatch;

    async fn prepare(&self) -> Result<(), DeliveryError> {
        self.with(|state| {
            state.prepared += 1;
            match state.mood {
                Mood::Missing => Err(DeliveryError::not_ready("the topic is missing")),
                Mood::Erratic if state.rng.random_bool(0.2) => Err(DeliveryError::not_ready("not yet")),
                _ => Ok(()),
            }
        })
    }

    async fn deliver(self: Arc<Self>, batch: EventBatch) -> Result<Vec<Rejected>, DeliveryError> {
        let now = self.under_way.fetch_add(1, SeqCst) + 1;
        let _leaving = Leaving(Arc::clone(&self.under_way));
        self.most_under_way.fetch_max(now, SeqCst);
        let (mood, steps, fate) = self.with(|state| {
            Self::note(state, &batch);
            let erratic = state.mood == Mood::Erratic;
            let steps = if erratic { state.rng.random_range(0..20) } else { 0 };
            (state.mood, steps, if erratic { state.rng.random_range(0..12) } else { 12 })
        });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        match mood {
            Mood::Silent => std::future::pending().await,
            Mood::Down => return Err(DeliveryError::transient("it is down")),
            Mood::Missing => return Err(DeliveryError::not_ready("the topic is missing")),
            _ => {}
        }
        match fate {
            0 => return Err(DeliveryError::transient("it does not answer")),
            1 => return Err(DeliveryError::not_ready("the table is gone")),
            2 => panic!("a planted defect"),
            _ => {}
        }
        let records = Self::numbers(&batch)?;
        if records.len() as u64 != batch.extent().records {
            self.with(|state| state.wrong.push(format!("{batch:?} holds {} records", records.len())));
        }
        if self.with(|state| state.refuses_batches) && records.iter().any(|(_, record)| is_bad(*record)) {
            return Err(DeliveryError::permanent("one of them is bad"));
        }
        let (bad, good): (Vec<_>, Vec<_>) = records.into_iter().partition(|(_, record)| is_bad(*record));
        self.with(|state| good.iter().for_each(|(_, record)| *state.taken.entry(*record).or_default() += 1));
        if fate == 3 {
            return Err(DeliveryError::transient("the confirmation is lost"));
        }
        self.with(|state| state.confirmed.extend(good.iter().map(|(_, record)| *record)));
        Ok(bad.into_iter().map(|(position, record)| Self::rejected(position, record, "it is bad")).collect())
    }

    async fn reject(&self, batch: EventBatch, reason: String) -> Result<Vec<Rejected>, DeliveryError> {
        let records = Self::numbers(&batch)?;
        if !records.iter().all(|(_, record)| is_bad(*record)) || records.len() != 1 {
            self.with(|state| state.wrong.push(format!("{records:?} became dead letters")));
        }
        Ok(records.into_iter().map(|(position, record)| Self::rejected(position, record, &reason)).collect())
    }

    async fn redeliver(&self, letter: &DeadLetter) -> Result<(), DeliveryError> {
        self.with(|state| {
            state.calls += 1;
            match state.mood {
                Mood::Well if state.refuses_batches => Err(DeliveryError::permanent("it is still bad")),
                Mood::Well => {
                    state.confirmed.insert(letter.position);
                    Ok(())
                }
                Mood::Missing => Err(DeliveryError::not_ready("the topic is missing")),
                _ => Err(DeliveryError::transient("it is down")),
            }
        })
    }

    fn limits(&self) -> BatchLimits {
        self.limits
    }
}
