//! What running steps write: a connection a step, as `arcgate tail` has one, for as long as the step runs and its lines come.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use arcgate_gateway::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::super::args::WatchArgs;
use super::tree::Step;
use crate::tail::connection::{Connection, TailError};
use crate::tail::cursor::{Cursor, Next};
use crate::tail::message::{self, Body, Entry, Head};

/// So many steps are read at a time; what others write is left out, and said so.
const MOST: usize = 32;
/// How many lines may wait to be shown; more wait at the gateway.
const QUEUE: usize = 1_024;
/// After a step's end its lines may be silent for so long before its log counts as over, if nobody ended it.
const LINGER: Duration = Duration::from_secs(2);
/// How long a connection may take to come about.
const OPEN: Duration = Duration::from_secs(10);

/// Something that came of a step's log.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) step_run_id: String,
    pub(super) what: What,
}

/// A line, or something about lines.
#[derive(Debug, Clone)]
pub(super) enum What {
    Text { number: u64, text: String, stream: String },
    Note(String),
}

/// The logs that are read.
pub(super) struct Logs {
    from: From,
    is_off: bool,
    /// Of each step that is read: says that it is over.
    over: HashMap<String, watch::Sender<bool>>,
    /// Absent after the run's end, so that the queue ends with the last reader.
    sender: Option<mpsc::Sender<Line>>,
    lines: mpsc::Receiver<Line>,
}

/// Where logs are read, and how much of them.
#[derive(Debug, Clone)]
struct From {
    server: String,
    token_file: Option<PathBuf>,
    /// Begin with the last so many lines; absent: with the first.
    last: Option<u64>,
}

impl Logs {
    pub(super) fn new(options: &WatchArgs, all: bool) -> Self {
        let (sender, lines) = mpsc::channel(QUEUE);
        let from = From {
            server: options.http.clone(),
            token_file: options.gateway.token_file().map(Into::into),
            last: (!all).then_some(u64::try_from(options.lines).unwrap_or(u64::MAX)),
        };
        let is_off = options.no_logs || (!all && options.lines == 0);
        Self { from, is_off, over: HashMap::new(), sender: Some(sender), lines }
    }

    /// A step has changed: its log is read while it runs.
    pub(super) fn step(&mut self, step: &Step) {
        let id = &step.told.step_run_id;
        if step.is_over() {
            if let Some(over) = self.over.remove(id) {
                over.send_replace(true);
            }
            return;
        }
        let runs = step.told.status() == arcgate_api::steprun::v1::StepRunStatus::Running;
        let Some(sender) = self.sender.clone().filter(|_| runs && !self.is_off && !self.over.contains_key(id)) else { return };
        if self.over.len() >= MOST {
            let what = What::Note(format!("its log is not shown here: {MOST} others are; `arcgate tail {id}` shows it"));
            // If the queue is full, there is more to see than anybody reads.
            let _ = sender.try_send(Line { step_run_id: id.clone(), what });
            return;
        }
        let (over, is_over) = watch::channel(false);
        self.over.insert(id.clone(), over);
        let reader = Reader { step_run_id: id.clone(), from: self.from.clone(), lines: sender, is_over };
        tokio::spawn(reader.run());
    }

    /// The next line. Never nothing while the run goes on.
    pub(super) async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// The next line after the run's end; nothing: there are no more.
    pub(super) async fn last(&mut self) -> Option<Line> {
        self.sender = None;
        for (_, over) in self.over.drain() {
            over.send_replace(true);
        }
        self.lines.recv().await
    }
}

struct Reader {
    step_run_id: String,
    from: From,
    lines: mpsc::Sender<Line>,
    is_over: watch::Receiver<bool>,
}

impl Reader {
    async fn run(mut self) {
        let mut cursor = Cursor::new(None, self.from.last);
        let mut backoff = Backoff::default();
        loop {
            match self.read(&mut cursor).await {
                Ok(()) => return,
                Err(why) if why.is_passing() && !*self.is_over.borrow() => {}
                Err(why) => {
                    return self
                        .tell(What::Note(format!("its log cannot be read at {} (--http): {why}", self.from.server)))
                        .await;
                }
            }
            sleep(backoff.wait()).await;
        }
    }

    async fn tell(&self, what: What) {
        // Nobody listens any more: then nobody is told.
        let _ = self.lines.send(Line { step_run_id: self.step_run_id.clone(), what }).await;
    }

    /// Reads what one connection brings. `Ok` is the end.
    async fn read(&mut self, cursor: &mut Cursor) -> Result<(), TailError> {
        let mut connection = Connection::open(&self.from.server, self.from.token_file.as_deref(), OPEN).await?;
        connection.send(message::subscribe("-", "-", &self.step_run_id, cursor)).await?;
        loop {
            let over = *self.is_over.borrow_and_update();
            let text = if over {
                match timeout(LINGER, connection.next()).await {
                    Ok(text) => text?,
                    Err(_) => return Ok(()),
                }
            } else {
                tokio::select! {
                    text = connection.next() => text?,
                    // Who said so is gone: then it is over too.
                    changed = self.is_over.changed() => if changed.is_ok() { continue } else { return Ok(()) },
                }
            };
            let head: Head<'_> = serde_json::from_str(&text)?;
            match &*head.kind {
                "subscribed" => cursor.subscribed(head.epoch),
                "log" | "log_chunk" => {
                    for entry in serde_json::from_str::<Body<Entry>>(&text)?.data {
                        self.show(entry, cursor).await;
                    }
                }
                "eof" => return Ok(()),
                "error" => return Err(TailError::Refused(head.error.unwrap_or_default().into_owned())),
                _ => {}
            }
        }
    }

    async fn show(&self, entry: Entry, cursor: &mut Cursor) {
        let count = entry.gap.as_ref().map_or(1, |gap| gap.count.unwrap_or(0));
        match cursor.take(entry.line_number, count) {
            Next::Repeat => return,
            Next::Hole(missing) => {
                self.tell(What::Note(format!("lines {} to {} are missing", missing.start, missing.end - 1))).await;
            }
            Next::Expected | Next::Again(_) => {}
        }
        let what = match entry.gap {
            Some(gap) => What::Note(format!("{count} lines are missing: {}", gap.reason)),
            None => What::Text { number: entry.line_number, text: entry.content, stream: entry.stream },
        };
        self.tell(what).await;
    }
}
