//! Agents that hold a channel open, and the task that pushes work and cancellations to them.
//!
//! One task does it for all channels, in order: it follows the engine's changes, and when a step became ready, a place became free or an
//! agent came, it asks the engine once for all that can be handed out now. So nothing is asked for while nothing happens, and what an
//! agent is told about a step run comes in the order in which it happened.
//!
//! Each channel has a bounded queue. An agent that does not read is cut off; when it comes again it hears again of what it has.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arcgate_api::agent::v1 as pb;
#[expect(clippy::disallowed_types, reason = "held for a look-up or a try_send; logs do not come this way")]
use parking_lot::Mutex;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::row::AgentRow;
use crate::Millis;
use crate::engine::{AgentMoved, Engine, EngineError, Moved, Offered, Update, Wish};

/// How many messages may wait for an agent.
const QUEUE: usize = 256;
/// How many openings and requests for work may wait; more wait outside.
const ASKED: usize = 1_024;
/// How many changes are looked at before what follows from them is done.
const AT_ONCE: usize = 1_024;
/// How long is waited before the engine is asked again after it failed.
const PAUSE: Duration = Duration::from_millis(200);
/// The most steps a wish without a number is for.
const ALL: usize = 1_000;

/// A message to an agent.
#[derive(Debug)]
pub(crate) enum Down {
    /// A step run to execute, or that there is none. `answers`, here and below: the request that it answers; may be empty.
    Work { step: Option<Box<pb::StepRun>>, answers: String },
    /// A step run to end, or not to start.
    Stop { step_run_id: String, reason: String, answers: String },
    /// New settings.
    Config { most: Option<i64> },
    /// A sign of life was heard.
    Heard { answers: String, now: Millis },
    /// What was said is done.
    Yes { answers: String },
}

/// Why a channel ended; absent: it just did.
pub(crate) type Closed = oneshot::Receiver<Status>;

/// What somebody asks of the task.
#[derive(Debug)]
pub(crate) enum Asked {
    Opened { agent_id: String },
    Work { agent_id: String, most: usize, answers: String },
}

#[derive(Debug)]
struct Open {
    number: u64,
    down: mpsc::Sender<Down>,
    close: oneshot::Sender<Status>,
    /// How many step runs the agent was told that it may have.
    allowed: Option<i64>,
}

/// The open channels, by agent.
#[derive(Debug)]
pub(crate) struct Channels {
    #[expect(clippy::disallowed_types, reason = "see above")]
    open: Mutex<HashMap<String, Open>>,
    asked: mpsc::Sender<Asked>,
    numbers: AtomicU64,
}

/// A channel that was opened. It closes when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    channels: Arc<Channels>,
    agent_id: String,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.channels.close(&self.agent_id, self.number, None);
    }
}

impl Held {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Channels {
    pub(super) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (asked, receiver) = mpsc::channel(ASKED);
        (Self { open: Default::default(), asked, numbers: AtomicU64::new(1) }, receiver)
    }

    /// Opens an agent's channel; one that it had open before is closed. The first message tells the settings.
    pub(crate) fn open(self: &Arc<Self>, row: &AgentRow) -> (Held, mpsc::Sender<Down>, mpsc::Receiver<Down>, Closed) {
        let (down, receiver) = mpsc::channel(QUEUE);
        let (close, closed) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let allowed = row.allowed_step_runs;
        // The queue is empty.
        let _ = down.try_send(Down::Config { most: allowed });
        let open = Open { number, down: down.clone(), close, allowed };
        if let Some(old) = self.open.lock().insert(row.agent_id.clone(), open) {
            let why = format!("agent {} opened another channel, which takes this one's place", row.agent_id);
            let _ = old.close.send(Status::aborted(why));
        }
        let held = Held { channels: self.clone(), agent_id: row.agent_id.clone(), number };
        (held, down, receiver, closed)
    }

    pub(crate) async fn ask(&self, asked: Asked) {
        // The task ends only with the engine.
        let _ = self.asked.send(asked).await;
    }

    /// Closes a channel, if it is still that one.
    pub(crate) fn close(&self, agent_id: &str, number: u64, why: Option<Status>) {
        let mut open = self.open.lock();
        if open.get(agent_id).is_some_and(|open| open.number == number)
            && let Some(open) = open.remove(agent_id)
            && let Some(why) = why
        {
            let _ = open.close.send(why);
        }
    }

    /// Closes whatever channel an agent has open.
    fn cut_off(&self, agent_id: &str, why: Status) {
        if let Some(open) = self.open.lock().remove(agent_id) {
            let _ = open.close.send(why);
        }
    }

    fn agents(&self) -> Vec<String> {
        self.open.lock().keys().cloned().collect()
    }

    pub(crate) fn is_open(&self, agent_id: &str) -> bool {
        self.open.lock().contains_key(agent_id)
    }

    fn send(&self, agent_id: &str, down: Down) {
        let full = match self.open.lock().get(agent_id) {
            Some(open) => matches!(open.down.try_send(down), Err(mpsc::error::TrySendError::Full(_))),
            None => false,
        };
        if full {
            let why =
                format!("agent {agent_id} does not read its channel; it should connect again, and will hear again of its work");
            self.cut_off(agent_id, Status::resource_exhausted(why));
        }
    }

    fn settings(&self, agent: &AgentRow) {
        let mut open = self.open.lock();
        let Some(open) = open.get_mut(&agent.agent_id).filter(|open| open.allowed != agent.allowed_step_runs) else { return };
        // A full queue is found by the next message.
        if open.down.try_send(Down::Config { most: agent.allowed_step_runs }).is_ok() {
            open.allowed = agent.allowed_step_runs;
        }
    }
}

/// What is to be asked of the engine next.
#[derive(Debug, Default)]
struct Todo {
    /// All agents with an open channel may have room for something.
    all: bool,
    /// These have: whether they have just come.
    agents: BTreeMap<String, bool>,
    /// Who asked for how much, by which request.
    asked: Vec<(String, usize, String)>,
}

impl Todo {
    fn is_empty(&self) -> bool {
        !self.all && self.agents.is_empty() && self.asked.is_empty()
    }

    fn note(&mut self, channels: &Channels, update: &Update) {
        match &update.what {
            Moved::Ready => self.all = true,
            Moved::Stop { agent_id, step_run_id, reason } => {
                channels.send(
                    agent_id,
                    Down::Stop { step_run_id: step_run_id.clone(), reason: reason.clone(), answers: String::new() },
                );
            }
            Moved::Step { step, .. } if crate::engine::rows::is_over(step.status) && channels.is_open(&step.agent_id) => {
                self.agents.entry(step.agent_id.clone()).or_default();
            }
            Moved::Agent { what: AgentMoved::Unregistered | AgentMoved::Offline, agent, reason, .. } => {
                let why = format!("agent {} counts as gone: {reason}; it should connect again", agent.agent_id);
                channels.cut_off(&agent.agent_id, Status::unavailable(why));
            }
            Moved::Agent { agent, .. } if channels.is_open(&agent.agent_id) => {
                channels.settings(agent);
                self.agents.entry(agent.agent_id.clone()).or_default();
            }
            _ => {}
        }
    }

    fn ask(&mut self, asked: Asked) {
        match asked {
            Asked::Opened { agent_id } => {
                self.agents.insert(agent_id, true);
            }
            Asked::Work { agent_id, most, answers } => self.asked.push((agent_id, most, answers)),
        }
    }

    /// Some changes were missed: everybody hears again of everything.
    fn lagged(&mut self, channels: &Channels) {
        self.agents.extend(channels.agents().into_iter().map(|agent_id| (agent_id, true)));
    }

    fn wishes(&mut self, channels: &Channels) -> Vec<Wish> {
        if std::mem::take(&mut self.all) {
            for agent_id in channels.agents() {
                self.agents.entry(agent_id).or_default();
            }
        }
        let agents = std::mem::take(&mut self.agents);
        let asked = self.asked.iter().map(|(agent_id, most, _)| Wish { agent_id: agent_id.clone(), most: *most, anew: false });
        asked.chain(agents.into_iter().map(|(agent_id, anew)| Wish { agent_id, most: ALL, anew })).collect()
    }
}

/// Pushes work and cancellations to agents on channels, until the engine ends.
pub(super) async fn dispatch(engine: Engine, channels: Arc<Channels>, mut asked: mpsc::Receiver<Asked>) {
    let mut changes = engine.changes();
    let mut todo = Todo::default();
    loop {
        if todo.is_empty() {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(update) => todo.note(&channels, &update),
                    Err(RecvError::Lagged(_)) => todo.lagged(&channels),
                    Err(RecvError::Closed) => return,
                },
                Some(one) = asked.recv() => todo.ask(one),
                () = engine.ended() => return,
            }
        }
        for _ in 0..AT_ONCE {
            match changes.try_recv() {
                Ok(update) => todo.note(&channels, &update),
                Err(TryRecvError::Lagged(_)) => todo.lagged(&channels),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        // More wait outside while the engine cannot answer these.
        while todo.asked.len() < ASKED
            && let Ok(one) = asked.try_recv()
        {
            todo.ask(one);
        }
        let wishes = todo.wishes(&channels);
        if wishes.is_empty() {
            continue;
        }
        match engine.offer(wishes.clone()).await {
            Ok(offered) => {
                let asked = std::mem::take(&mut todo.asked);
                // The engine stops in the middle if there is much: then it is asked again.
                todo.all = offered.iter().map(|offered| offered.work.len()).sum::<usize>() >= crate::engine::MOST_AT_ONCE;
                deliver(&channels, offered, &asked);
            }
            Err(EngineError::Ended) => return,
            Err(error) => {
                tracing::warn!(%error, agents = wishes.len(), "no work can be handed out for now; trying again");
                todo.agents = wishes[todo.asked.len()..].iter().map(|wish| (wish.agent_id.clone(), wish.anew)).collect();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The first of `offered` are the answers to `asked`.
fn deliver(channels: &Channels, offered: Vec<Offered>, asked: &[(String, usize, String)]) {
    for (at, Offered { agent_id, work, stops }) in offered.into_iter().enumerate() {
        let answers = asked.get(at).map(|(_, _, answers)| answers.clone());
        if work.is_empty()
            && let Some(answers) = answers.clone()
        {
            channels.send(&agent_id, Down::Work { step: None, answers });
        }
        // One message each, since one of all of them could be too long.
        for step in work {
            let answers = answers.clone().unwrap_or_default();
            channels.send(&agent_id, Down::Work { step: Some(Box::new(step)), answers });
        }
        for (step_run_id, reason) in stops {
            channels.send(&agent_id, Down::Stop { step_run_id, reason, answers: String::new() });
        }
    }
}
