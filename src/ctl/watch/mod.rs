//! `arcgate run watch`: follows a run until its end.
//!
//! `follow` reads the three streams of changes, and comes back after a break; `tree` is what is known of the run; `logs` reads what the
//! running steps write, a connection a step; `view` shows it: on a terminal redrawn in place (`screen`), else a line a change.

mod follow;
mod logs;
mod screen;
mod tree;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use arcgate_api::pipeline::v1::{GetPipelineRunRequest, PipelineStatus};
use tokio::time::{MissedTickBehavior, interval};

use self::follow::{Heard, follow};
use self::logs::Logs;
use self::tree::{Change, Tree};
use self::view::View;
use super::args::WatchArgs;
use super::error::granted;
use super::link::Link;
use super::{Done, block_on};

/// How a run ended, as the exit code tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failed,
    Cancelled,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Failed => Self::from(3),
            Outcome::Cancelled => Self::from(4),
        }
    }
}

impl Outcome {
    /// Of a run that is over.
    fn of(status: PipelineStatus) -> Option<Self> {
        match status {
            PipelineStatus::Success => Some(Self::Success),
            PipelineStatus::Failed => Some(Self::Failed),
            PipelineStatus::Cancelled => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// How often a terminal is redrawn, at most.
const REDRAW: Duration = Duration::from_millis(100);

pub(super) fn run(options: &WatchArgs) -> Done<Outcome> {
    block_on(watch(options))
}

async fn watch(options: &WatchArgs) -> Done<Outcome> {
    let link = Link::open(&options.gateway).await?;
    let asked = GetPipelineRunRequest { run_id: options.run.clone() };
    let found = link.pipelines().get_pipeline_run(link.ask(asked)).await?.into_inner();
    granted(found.success, &found.message, found.error.as_ref())?;

    let mut tree = Tree::new(found.run.unwrap_or_default());
    let mut view = View::new(options);
    let mut logs = Logs::new(options, view.wants_all_lines());
    let mut changes = follow(link, options);
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = changes.recv() => match heard {
                Some(Heard::Change(change)) => take(&mut tree, &mut view, &mut logs, change)?,
                Some(Heard::Note(note)) => view.note(&note),
                Some(Heard::Failed(error)) => return Err(error),
                None => break,
            },
            Some(line) = logs.next() => view.line(&tree, &line)?,
            _ = ticks.tick() => view.tick(&tree)?,
        }
    }
    // What the last steps wrote may still be on its way.
    while let Some(line) = logs.last().await {
        view.line(&tree, &line)?;
    }
    view.end(&tree)?;
    Ok(Outcome::of(tree.run.status()).unwrap_or(Outcome::Failed))
}

fn take(tree: &mut Tree, view: &mut View, logs: &mut Logs, change: Change) -> Done {
    let Some(place) = tree.take(change) else { return Ok(()) };
    if let Some(step) = tree.step(place) {
        logs.step(step);
    }
    view.changed(tree, place)
}
