//! A run on a terminal: a tree that is drawn again over itself, never higher than the terminal; at the end the whole tree, once.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal, Stdout, Write};

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_gateway::clock::Clock;

use super::super::words::{run_status, shown_millis, step_status};
use super::logs::What;
use super::tree::{Job, Step, Tree};
use super::view::{about, job_status};
use crate::style;

/// A terminal that does not say how high it is.
const ROWS: usize = 24;
/// Longer lines are cut before they are sent; the terminal cuts what is wider than it is.
const LONGEST: usize = 400;

/// A terminal, and what is on it.
pub(super) struct Screen {
    out: Stdout,
    coloured: bool,
    /// How many lines of a log are shown.
    lines: usize,
    /// The last lines of step runs.
    logs: HashMap<String, VecDeque<String>>,
    note: String,
    /// How many rows were drawn.
    drawn: usize,
    dirty: bool,
    /// The second that was drawn.
    second: i64,
}

impl Screen {
    pub(super) fn new(out: Stdout, lines: usize) -> Self {
        let coloured = style::coloured(out.is_terminal());
        Self { out, coloured, lines, logs: HashMap::new(), note: String::new(), drawn: 0, dirty: true, second: 0 }
    }

    pub(super) fn changed(&mut self) {
        self.note.clear();
        self.dirty = true;
    }

    pub(super) fn line(&mut self, step_run_id: &str, what: &What) {
        let (What::Text { text, .. } | What::Note(text)) = what;
        let lines = self.logs.entry(step_run_id.to_owned()).or_default();
        lines.push_back(clean(text));
        if lines.len() > self.lines.max(1) {
            lines.pop_front();
        }
        self.dirty = true;
    }

    pub(super) fn note(&mut self, text: &str) {
        self.note = clean(text);
        self.dirty = true;
    }

    /// Draws, if there is something new, or a second has passed.
    pub(super) fn tick(&mut self, tree: &Tree) -> io::Result<()> {
        let now = Clock::system().now();
        if !std::mem::take(&mut self.dirty) && now / 1000 == self.second {
            return Ok(());
        }
        self.second = now / 1000;
        // Of a step that is over nothing more is shown.
        self.logs.retain(|id, _| running(tree).any(|step| step.told.step_run_id == *id));
        // The line below the last one is the cursor's.
        let rows = rows().saturating_sub(1).max(1);
        let mut text = fitting(tree, &self.logs, now, self.lines, rows - usize::from(!self.note.is_empty() && rows > 1));
        if !self.note.is_empty() && rows > 1 {
            text.push(Row::plain(format!("arcgate: {}", self.note)));
        }
        self.draw(&text)
    }

    /// Draws the whole tree for the last time.
    pub(super) fn end(&mut self, tree: &Tree) -> io::Result<()> {
        let text = rows_of(tree, &HashMap::new(), Clock::system().now(), &Detail { logs: 0, steps: Steps::All });
        self.draw(&text)
    }

    fn draw(&mut self, rows: &[Row]) -> io::Result<()> {
        let mut text = String::from("\x1b[?7l");
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}F\x1b[J", self.drawn));
        }
        for row in rows {
            row.write(&mut text, self.coloured);
        }
        text.push_str("\x1b[?7h");
        self.drawn = rows.len();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// What a row says, and in which colour.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    text: String,
    colour: &'static str,
}

impl Row {
    fn plain(text: String) -> Self {
        Self { text, colour: "" }
    }

    fn write(&self, out: &mut String, coloured: bool) {
        let cut: String = self.text.chars().take(LONGEST).collect();
        if coloured && !self.colour.is_empty() {
            out.push_str(&format!("\x1b[{}m{cut}\x1b[0m\n", self.colour));
        } else {
            out.push_str(&format!("{cut}\n"));
        }
    }
}

/// The colour of a status.
fn colour(word: &str) -> &'static str {
    match word {
        "success" => "32",
        "failed" | "timeout" => "31",
        "running" => "36",
        "cancelled" | "paused" => "33",
        _ => "2",
    }
}

/// Which steps are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    All,
    OfRunningJobs,
    Running,
}

/// How much is shown.
#[derive(Debug)]
struct Detail {
    logs: usize,
    steps: Steps,
}

fn running(tree: &Tree) -> impl Iterator<Item = &Step> {
    let steps = tree.jobs.iter().flat_map(|job| &job.steps);
    steps.filter(|step| step.told.status() == StepRunStatus::Running)
}

/// The tree in at most `most` rows: first without some of the logs, then without some of the steps, then cut.
fn fitting(tree: &Tree, logs: &HashMap<String, VecDeque<String>>, now: i64, lines: usize, most: usize) -> Vec<Row> {
    let less_logs = (0..=lines).rev().map(|logs| Detail { logs, steps: Steps::All });
    let less_steps = [Steps::OfRunningJobs, Steps::Running].map(|steps| Detail { logs: lines.min(1), steps });
    let mut text = Vec::new();
    for detail in less_logs.chain(less_steps) {
        text = rows_of(tree, logs, now, &detail);
        if text.len() <= most {
            return text;
        }
    }
    let hidden = text.len() - most + 1;
    text.truncate(most.saturating_sub(1));
    text.push(Row::plain(format!("  … and {hidden} more")));
    text
}

fn rows_of(tree: &Tree, logs: &HashMap<String, VecDeque<String>>, now: i64, detail: &Detail) -> Vec<Row> {
    let run = &tree.run;
    let status = run_status(run.status());
    let took = since(run.duration, tree.began, run.status() == PipelineStatus::Running, now);
    let (done, total) = (run.completed_jobs + run.failed_jobs, run.total_jobs);
    let head = format!("{} {}  {status}  {done}/{total} jobs  {took}", clean(&tree.pipeline), run.run_id);
    let mut rows = vec![Row { text: head, colour: colour(status) }];
    for job in &tree.jobs {
        rows.push(job_row(job, now));
        for step in job.steps.iter().filter(|step| is_shown(job, step, detail.steps)) {
            rows.push(step_row(step, now));
            let lines = logs.get(&step.told.step_run_id).map(|lines| lines.iter()).into_iter().flatten();
            let skip = lines.clone().count().saturating_sub(detail.logs);
            rows.extend(lines.skip(skip).map(|line| Row { text: format!("      | {line}"), colour: "2" }));
        }
    }
    rows
}

fn is_shown(job: &Job, step: &Step, steps: Steps) -> bool {
    match steps {
        Steps::All => true,
        Steps::OfRunningJobs => job.status() == PipelineStatus::Running,
        Steps::Running => step.told.status() == StepRunStatus::Running,
    }
}

fn job_row(job: &Job, now: i64) -> Row {
    let status = job_status(job);
    let (duration, at) = job.told.as_ref().map_or((0, 0), |told| (told.duration, told.timestamp));
    let took = since(duration, at, job.status() == PipelineStatus::Running, now);
    Row { text: format!("  {:<30} {status:<9} {took}", job.name).trim_end().to_owned(), colour: colour(status) }
}

fn step_row(step: &Step, now: i64) -> Row {
    let told = &step.told;
    let status = step_status(told.status());
    let took = since(told.duration, told.timestamp, told.status() == StepRunStatus::Running, now);
    let text = format!("    {:<28} {status:<9} {took}{}", told.step_name, about(step));
    Row { text: text.trim_end().to_owned(), colour: colour(status) }
}

/// How long something took, or has taken since `began` (seconds) if it is `open`.
fn since(duration: i64, began: i64, open: bool, now: i64) -> String {
    if open && began > 0 {
        shown_millis(now.saturating_sub(began.saturating_mul(1000)).max(0))
    } else if duration > 0 {
        shown_millis(duration)
    } else {
        String::new()
    }
}

/// A text without what would move a terminal's cursor or change its colours.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\x1b' => match chars.next() {
                Some('[') => drop(chars.by_ref().find(|char| ('@'..='~').contains(char))),
                // Ends with BEL or with ESC and a backslash.
                Some(']') if chars.by_ref().find(|char| matches!(char, '\x07' | '\x1b')) == Some('\x1b') => drop(chars.next()),
                _ => {}
            },
            '\t' => clean.push_str("    "),
            '\n' => clean.push(' '),
            char if char.is_control() => {}
            char => clean.push(char),
        }
    }
    clean
}

/// The terminal's height.
fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.ok().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0).unwrap_or(ROWS)
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{job, step, tree};
    use super::*;

    fn texts(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row.text.as_str()).collect()
    }

    fn big() -> (Tree, HashMap<String, VecDeque<String>>) {
        let mut tree = tree();
        tree.take(step("a.one", "1", StepRunStatus::Success));
        tree.take(job("a", PipelineStatus::Success));
        tree.take(step("b.two", "2", StepRunStatus::Running));
        tree.take(step("b.three", "3", StepRunStatus::Pending));
        tree.take(job("b", PipelineStatus::Running));
        let lines = (1..=3).map(|line| format!("line {line}")).collect();
        (tree, [("2".to_owned(), lines)].into())
    }

    #[test]
    fn a_tree_shows_jobs_steps_and_the_ends_of_logs() {
        let (tree, logs) = big();
        assert_eq!(
            texts(&fitting(&tree, &logs, 1_002_500, 2, 40)),
            [
                "build R  unknown  0/2 jobs  ",
                "  a                              success",
                "    one                          success",
                "  b                              running",
                "    two                          running   2.5s",
                "      | line 2",
                "      | line 3",
                "    three                        pending",
            ]
        );
    }

    #[test]
    fn it_is_never_higher_than_the_terminal_and_what_runs_is_shown_longest() {
        let (tree, logs) = big();
        for most in 1..=8 {
            assert!(fitting(&tree, &logs, 0, 3, most).len() <= most, "{most}");
        }
        let seven = fitting(&tree, &logs, 0, 3, 7);
        assert_eq!(texts(&seven)[5], "      | line 3", "logs are shortened first: {seven:?}");
        let five = fitting(&tree, &logs, 0, 3, 5);
        assert!(texts(&five)[3].contains("two") && texts(&five)[4].contains("line 3"), "{five:?}");
        assert_eq!(texts(&fitting(&tree, &logs, 0, 3, 2))[1], "  … and 4 more");
    }

    #[test]
    fn what_a_step_writes_cannot_move_the_cursor() {
        assert_eq!(clean("\x1b[31mred\x1b[0m\r\x1b]0;title\x07\ta\x1b"), "red    a");
    }
}
