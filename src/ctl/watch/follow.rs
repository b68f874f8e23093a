//! The changes of a run, from three streams of the gateway; after a break it comes back, and hears anew how things are.

use std::time::Duration;

use arcgate_api::stream::v1 as pb;
use arcgate_gateway::backoff::Backoff;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::super::Done;
use super::super::args::{GatewayArgs, WatchArgs};
use super::super::error::CtlError;
use super::super::link::{Link, target};
use super::Outcome;
use super::tree::Change;

/// How many changes may wait to be shown; more wait at the gateway.
const QUEUE: usize = 256;

type Changes = BoxStream<'static, Result<Change, tonic::Status>>;

/// What comes of the streams. The queue ends with the run.
#[derive(Debug)]
pub(super) enum Heard {
    Change(Change),
    /// Something for people.
    Note(String),
    /// The last one: there is no more to hear.
    Failed(CtlError),
}

/// Reads the changes of one run.
struct Follower {
    run_id: String,
    gateway: GatewayArgs,
    give_up: Duration,
    heard: mpsc::Sender<Heard>,
    /// When something was heard last.
    last: Instant,
    over: bool,
}

/// Begins to follow the run.
pub(super) fn follow(link: Link, options: &WatchArgs) -> mpsc::Receiver<Heard> {
    let (heard, receiver) = mpsc::channel(QUEUE);
    let (run_id, gateway, give_up) = (options.run.clone(), options.gateway.clone(), options.give_up);
    let follower = Follower { run_id, gateway, give_up, heard, last: Instant::now(), over: false };
    tokio::spawn(follower.run(link));
    receiver
}

impl Follower {
    async fn run(mut self, link: Link) {
        let mut backoff = Backoff::default();
        let (mut link, mut told) = (Some(link), false);
        loop {
            let before = self.last;
            let Err(why) = self.once(link.take()).await else { return };
            if self.last != before {
                (backoff, told) = (Backoff::default(), false);
            }
            if !why.is_passing() {
                return self.tell(Heard::Failed(why)).await;
            }
            if self.last.elapsed() >= self.give_up {
                return self.tell(Heard::Failed(CtlError::GaveUp(self.give_up, Box::new(why)))).await;
            }
            if !std::mem::replace(&mut told, true) {
                self.tell(Heard::Note(format!("{why}; trying again"))).await;
            }
            sleep(backoff.wait().min(self.give_up.saturating_sub(self.last.elapsed()))).await;
        }
    }

    async fn tell(&self, heard: Heard) {
        // Whoever does not listen any more has ended.
        let _ = self.heard.send(heard).await;
    }

    /// Tells what one connection brings. `Ok` is the end of the run.
    async fn once(&mut self, link: Option<Link>) -> Done {
        let link = match link {
            Some(link) => link,
            None => Link::to(target(&self.gateway)?).await?,
        };
        let mut changes = changes(&link, &self.run_id).await?;
        while let Some(change) = changes.next().await {
            let change = change?;
            self.last = Instant::now();
            if let Change::Run(run) = &change {
                self.over = Outcome::of(run.status()).is_some();
            }
            self.tell(Heard::Change(change)).await;
        }
        if self.over { Ok(()) } else { Err(tonic::Status::unavailable("it ended the streams before the run was over").into()) }
    }
}

/// All that changes in a run: first how everything is.
async fn changes(link: &Link, run_id: &str) -> Done<Changes> {
    let runs = pb::StreamPipelineStatusRequest { pipeline_run_ids: vec![run_id.to_owned()], ..Default::default() };
    let jobs = pb::StreamJobStatusRequest { pipeline_run_id: run_id.to_owned(), ..Default::default() };
    let steps = pb::StreamStepRunStatusRequest { pipeline_run_id: run_id.to_owned(), ..Default::default() };
    let mut streams = link.streams();
    let jobs = streams.stream_job_status(link.follow(jobs)).await?.into_inner();
    let steps = streams.stream_step_run_status(link.follow(steps)).await?.into_inner();
    let runs = streams.stream_pipeline_status(link.follow(runs)).await?.into_inner();
    let all = [
        jobs.map(|one| one.map(Change::Job)).boxed(),
        steps.map(|one| one.map(Change::Step)).boxed(),
        runs.map(|one| one.map(Change::Run)).boxed(),
    ];
    Ok(select_all(all).boxed())
}
