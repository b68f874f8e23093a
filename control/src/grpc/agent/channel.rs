//! A channel with an agent, whichever of the two it is: what they have in common.
//!
//! - An agent has one channel. If it opens another one, that takes the first one's place.
//! - After it opened one, an agent says of each step run that it still executes that it runs, and then gives its first sign of life. What
//!   had started there before, and was not named by then, is lost, if the sign says that it executes no more than it named.
//! - It hears again of what it was given and did not start, and of what it is to end: both may come twice.
//! - Reports with a request's name are answered with that name: by a message without content, which is the yes, or by a cancellation of
//!   the step run, which is the no. An agent starts a step run only after the yes.
//! - Nothing that was said is lost if the channel breaks before the answer: the agent says it again on the next one.

use std::pin::Pin;

use arcgate_api::agent::v1 as pb;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

use super::status;
use crate::Millis;
use crate::agents::{Agents, Asked, Caller, Closed, Down, Held, Sign};
use crate::engine::{EngineError, Report};

/// How many step runs an agent may name before its first sign of life.
const MOST_TOLD: usize = 10_000;

/// What is sent to an agent.
pub(in crate::grpc) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What an agent says.
#[derive(Debug)]
pub(in crate::grpc) enum Said {
    Alive {
        status: pb::AgentStatus,
        running: i32,
        most: i32,
    },
    Step(Report),
    /// It could not take a step run that was sent to it.
    Refused {
        step_run_id: String,
        message: String,
    },
    Fetch {
        most: i32,
    },
    Nothing,
}

/// One of the two channels.
pub(in crate::grpc) trait Kind: Send + 'static {
    type Up: Send + 'static;
    type Down: Send + 'static;
    /// Who speaks, the message's name, and what it says.
    fn read(up: Self::Up) -> Result<(String, String, Said), Status>;
    /// Nothing: this channel has no word for it.
    fn write(agent_id: &str, down: Down, heartbeat_interval: i64) -> Option<Self::Down>;
}

/// Opens a channel.
pub(in crate::grpc) async fn open<K: Kind>(
    agents: &Agents,
    asked: Request<Streaming<K::Up>>,
) -> Result<Response<Answers<K::Down>>, Status> {
    let agent_id = Caller::of(asked.extensions())?.as_proven_agent("")?;
    agents.note_token_shown(&agent_id);
    let sign = Sign { agent_id: agent_id.clone(), ..Sign::default() };
    let (row, opened) = agents.alive(sign).await.map_err(status)?;
    let (held, up, down, closed) = agents.channels().open(&row);
    agents.channels().ask(Asked::Opened { agent_id: agent_id.clone() }).await;
    let conversation = Conversation { agents: agents.clone(), agent_id: agent_id.clone(), up, opened, told: Some(Vec::new()) };
    let number = held.number();
    let listener = tokio::spawn(async move {
        let channels = conversation.agents.channels().clone();
        let agent_id = conversation.agent_id.clone();
        let why = conversation.listen::<K>(asked.into_inner()).await.err();
        channels.close(&agent_id, number, why);
    });
    let speaker = Speaker {
        agent_id,
        down,
        closed: Some(closed),
        interval: agents.settings().heartbeat_interval,
        _ends: Ends { listener, _held: held },
    };
    Ok(Response::new(Box::pin(futures_util::stream::unfold(speaker, Speaker::next::<K>))))
}

/// What goes down.
struct Speaker {
    agent_id: String,
    down: mpsc::Receiver<Down>,
    /// Absent: it is over.
    closed: Option<Closed>,
    interval: i64,
    _ends: Ends,
}

/// The connection is gone: nobody listens any more, and the channel is closed.
struct Ends {
    listener: JoinHandle<()>,
    _held: Held,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Speaker {
    async fn next<K: Kind>(mut self) -> Option<(Result<K::Down, Status>, Self)> {
        loop {
            let closed = self.closed.as_mut()?;
            tokio::select! {
                biased;
                why = closed => {
                    self.closed = None;
                    return why.ok().map(|why| (Err(why), self));
                }
                down = self.down.recv() => {
                    if let Some(message) = K::write(&self.agent_id, down?, self.interval) {
                        return Some((Ok(message), self));
                    }
                }
            }
        }
    }
}

/// What comes up.
struct Conversation {
    agents: Agents,
    agent_id: String,
    up: mpsc::Sender<Down>,
    opened: Millis,
    /// What it still executes, as it says; absent: it has given its first sign of life.
    told: Option<Vec<String>>,
}

impl Conversation {
    /// Ends when the agent does, or with what is wrong.
    async fn listen<K: Kind>(mut self, mut asked: Streaming<K::Up>) -> Result<(), Status> {
        // A broken connection needs no answer.
        while let Ok(Some(message)) = asked.message().await {
            let (named, request, mut said) = K::read(message)?;
            let own = Caller::Agent(self.agent_id.clone()).as_agent(&named)?;
            if let Said::Step(report) = &mut said {
                report.agent_id = own;
            }
            let Some(answer) = self.hear(request, said).await? else { continue };
            if self.up.send(answer).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn hear(&mut self, request: String, said: Said) -> Result<Option<Down>, Status> {
        match said {
            Said::Alive { status: stands, running, most } => {
                let sign = Sign {
                    agent_id: self.agent_id.clone(),
                    status: stands,
                    running: Some(i64::from(running.max(0))),
                    max_step_runs: Some(i64::from(most)).filter(|most| *most > 0),
                    ..Sign::default()
                };
                let (_, now) = self.agents.alive(sign).await.map_err(status)?;
                if let Some(told) = self.told.take()
                    && usize::try_from(running).unwrap_or(0) <= told.len()
                    && told.len() < MOST_TOLD
                {
                    self.agents.settle(&self.agent_id, told, self.opened).await.map_err(status)?;
                }
                Ok(Some(Down::Heard { answers: request, now }))
            }
            Said::Step(report) => {
                let step_run_id = report.step_run_id.clone();
                if let Some(told) = self.told.as_mut().filter(|told| told.len() < MOST_TOLD) {
                    told.push(step_run_id.clone());
                }
                match self.agents.report(report).await {
                    Ok(_) => Ok(Some(Down::Yes { answers: request })),
                    Err(EngineError::Refused(why)) => {
                        Ok(Some(Down::Stop { step_run_id, reason: why.to_string(), answers: request }))
                    }
                    Err(why) => Err(status(why)),
                }
            }
            Said::Refused { step_run_id, message } => {
                let report = Report {
                    step_run_id,
                    agent_id: self.agent_id.clone(),
                    status: arcgate_api::steprun::v1::StepRunStatus::Failed,
                    message: format!("the agent did not take it: {message}"),
                    ..Report::default()
                };
                match self.agents.report(report).await {
                    Ok(_) | Err(EngineError::Refused(_)) => Ok(None),
                    Err(why) => Err(status(why)),
                }
            }
            Said::Fetch { most } => {
                let most = usize::try_from(most.max(1)).unwrap_or(1);
                self.agents.channels().ask(Asked::Work { agent_id: self.agent_id.clone(), most, answers: request }).await;
                Ok(None)
            }
            Said::Nothing => Ok(None),
        }
    }
}
