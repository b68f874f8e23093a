//! The agent's main loop: one channel at a time, step runs in tasks of their own.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arcgate_api::stream::v1 as pb;
use arcgate_gateway::backoff::Backoff;
use pb::agent_channel_response::Payload;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::desk::{Act, Desk, Report};
use super::link::Link;
use super::register::interval;
use super::step;
use super::stop::Why;
use crate::push::shared::now;
use crate::push::signals::Signals;
use crate::push::target::UplinkError;

/// How many reports may wait for the main loop; more wait in their tasks.
const REPORTS: usize = 64;
/// Beside the step runs that it executes, some may wait for the answer to their report.
const REPORTED: usize = 64;
/// How long an answer may take before the channel counts as broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A channel that lasted this long begins with short pauses again.
const LASTED: Duration = Duration::from_secs(10);

/// How long step runs may take to end with the agent: their grace, and some time for their last lines.
const LEAVING: Duration = Duration::from_secs(18);

type Opening = Pin<Box<dyn Future<Output = (Link, pb::AgentChannelResponse)> + Send>>;

/// Serves until a signal asks to end; then no step run executes any more. Gives the signal.
pub(super) async fn serve(shared: &Arc<Shared>, interval: Duration, signals: &mut Signals) -> Signal {
    let (ended, mut reports) = mpsc::channel(REPORTS);
    let most = shared.options.max_step_runs;
    let desk = Desk::new(most.saturating_mul(2) + REPORTED);
    let steps = Steps { tasks: JoinSet::new(), told: HashMap::new(), ended };
    let mut agent = Agent { shared: shared.clone(), desk, steps, interval, link: None, beat: Instant::now() };
    let mut opening = agent.open(Link::backoff());
    let signal = loop {
        let done = tokio::select! {
            signal = signals.end() => break signal,
            Some(report) = reports.recv() => agent.ended(report),
            opened = &mut opening, if agent.link.is_none() => agent.opened(opened),
            heard = hear(&mut agent.link) => heard.and_then(|message| agent.heard(message)),
            () = sleep_until(agent.beat), if agent.link.is_some() => agent.beat(),
        };
        if let Err(why) = done
            && let Some(link) = agent.link.take()
        {
            shared.connected.send_replace(false);
            shared.diary.say(&format!("the channel to the control plane broke: {why}; steps go on, and it is opened again"));
            let mut backoff = Link::backoff();
            if link.opened.elapsed() < LASTED {
                backoff.wait();
                tokio::time::sleep(backoff.wait()).await;
            }
            opening = agent.open(backoff);
        }
    };
    // Whoever still has a report to hand on need not wait.
    drop(reports);
    agent.leave(signals).await;
    signal
}

async fn hear(link: &mut Option<Link>) -> Result<pb::AgentChannelResponse, UplinkError> {
    match link {
        Some(link) => link.hear().await,
        None => std::future::pending().await,
    }
}

struct Agent {
    shared: Arc<Shared>,
    desk: Desk,
    steps: Steps,
    interval: Duration,
    link: Option<Link>,
    /// When the next sign of life is due.
    beat: Instant,
}

impl Agent {
    fn open(&self, backoff: Backoff) -> Opening {
        let Shared { target, own, diary, .. } = &*self.shared;
        Box::pin(Link::open(target.clone(), own.agent_id.clone(), backoff, diary.clone()))
    }

    /// A new channel: first all that is to be said of step runs, then the first sign of life.
    fn opened(&mut self, (link, first): (Link, pb::AgentChannelResponse)) -> Result<(), UplinkError> {
        self.link = Some(link);
        for say in self.desk.opened() {
            self.act(Act::Say(say))?;
        }
        self.beat()?;
        self.shared.connected.send_replace(true);
        self.heard(first)
    }

    /// A sign of life; and the look whether the other side gives one.
    fn beat(&mut self) -> Result<(), UplinkError> {
        self.shared.workspaces.sweep();
        self.beat = Instant::now() + self.interval;
        let Some(link) = &self.link else { return Ok(()) };
        let silent = link.heard.elapsed();
        if silent > ANSWER_WITHIN.max(self.interval * 2) || (silent > ANSWER_WITHIN && self.desk.is_waiting()) {
            return Err(UplinkError::Silent);
        }
        link.alive(self.desk.executing(), self.shared.options.max_step_runs)
    }

    fn heard(&mut self, message: pb::AgentChannelResponse) -> Result<(), UplinkError> {
        match message.payload {
            Some(Payload::StepRunAssignment(work)) => {
                for step in work.step_runs {
                    if let Some(say) = self.desk.assigned(step) {
                        self.act(Act::Say(say))?;
                    }
                }
                Ok(())
            }
            Some(Payload::StepRunCancelCommand(cancel)) => {
                let act = self.desk.cancelled(&cancel.step_run_id, &message.response_id, &cancel.reason, now());
                self.act(act)
            }
            Some(Payload::ConfigUpdate(config)) => {
                if config.heartbeat_interval > 0 {
                    self.interval = interval(config.heartbeat_interval);
                    self.beat = self.beat.min(Instant::now() + self.interval);
                }
                Ok(())
            }
            Some(Payload::HeartbeatAck(_)) => Ok(()),
            None => {
                let act = self.desk.answered(&message.response_id);
                self.act(act)
            }
        }
    }

    fn act(&mut self, act: Act) -> Result<(), UplinkError> {
        match act {
            Act::Nothing => {}
            Act::Start(step) => self.steps.start(&self.shared, *step),
            Act::Stop { step_run_id, reason } => self.steps.stop(&step_run_id, Why::Cancelled(reason)),
            // Without a channel it is said on the next.
            Act::Say(say) => return self.link.as_ref().map_or(Ok(()), |link| link.say(say)),
        }
        Ok(())
    }

    fn ended(&mut self, report: Report) -> Result<(), UplinkError> {
        self.steps.told.remove(&report.step_run_id);
        while self.steps.tasks.try_join_next().is_some() {}
        let act = self.desk.ended(report);
        self.act(act)
    }

    /// Ends what executes: politely, and at once at a second signal.
    async fn leave(mut self, signals: &mut Signals) {
        // The other side may not give anything new.
        self.link = None;
        if !self.steps.told.is_empty() {
            self.shared.diary.say(&format!("ending {} step runs; a second signal ends them at once", self.steps.told.len()));
        }
        for told in self.steps.told.values() {
            told.send_if_modified(|why| why.is_none().then(|| *why = Some(Why::Leaving)).is_some());
        }
        let all = async { while self.steps.tasks.join_next().await.is_some() {} };
        tokio::select! {
            // What still runs is ended by its guard when this process is.
            _ = tokio::time::timeout(LEAVING, all) => {}
            _ = signals.end() => {}
        }
    }
}

/// The step runs that execute.
struct Steps {
    tasks: JoinSet<()>,
    told: HashMap<String, watch::Sender<Option<Why>>>,
    ended: mpsc::Sender<Report>,
}

impl Steps {
    fn start(&mut self, shared: &Arc<Shared>, step: arcgate_api::agent::v1::StepRun) {
        let (told, stop) = watch::channel(None);
        self.told.insert(step.step_run_id.clone(), told);
        self.tasks.spawn(step::live(shared.clone(), step, stop, self.ended.clone()));
    }

    /// The first reason counts.
    fn stop(&self, step_run_id: &str, why: Why) {
        if let Some(told) = self.told.get(step_run_id) {
            told.send_if_modified(|said| said.is_none().then(|| *said = Some(why)).is_some());
        }
    }
}
