//! How a run is shown: on a terminal in place, else a line a change; or as JSON.

use std::io::{self, IsTerminal, Stdout, Write};

use arcgate_api::steprun::v1::StepRunStatus;
use serde_json::{Value, json};

use super::super::args::WatchArgs;
use super::super::words::{run_status, shown_millis, step_status};
use super::super::{Done, error};
use super::logs::{Line, What};
use super::screen::{Screen, clean};
use super::tree::{Job, Place, Step, Tree};

/// How a run is shown.
pub(super) enum View {
    Screen(Box<Screen>),
    Lines(Stdout),
    Json(Stdout),
}

impl View {
    pub(super) fn new(options: &WatchArgs) -> Self {
        let out = io::stdout();
        if options.json {
            Self::Json(out)
        } else if options.plain || !out.is_terminal() {
            Self::Lines(out)
        } else {
            Self::Screen(Box::new(Screen::new(out, options.lines)))
        }
    }

    /// Whether it shows logs from their first line, and not only their ends.
    pub(super) fn wants_all_lines(&self) -> bool {
        !matches!(self, Self::Screen(_))
    }

    pub(super) fn changed(&mut self, tree: &Tree, place: Place) -> Done {
        match self {
            Self::Screen(screen) => screen.changed(),
            Self::Lines(out) => writeln!(out, "{}", in_words(tree, place))?,
            Self::Json(out) => writeln!(out, "{}", as_json(tree, place))?,
        }
        Ok(())
    }

    pub(super) fn line(&mut self, tree: &Tree, line: &Line) -> Done {
        let id = &line.step_run_id;
        let (job, step) = names(tree, id);
        match (self, &line.what) {
            (Self::Screen(screen), what) => screen.line(id, what),
            (Self::Lines(out), What::Text { text, .. }) => writeln!(out, "{job}/{step} | {text}")?,
            (Self::Lines(_), What::Note(note)) => error::note(&format!("{job}/{step}: {note}")),
            (Self::Json(out), What::Text { number, text, stream }) => {
                let line = json!({ "type": "log", "job": job, "step": step, "step_run_id": id, "line_number": number, "stream": stream,
                    "content": text });
                writeln!(out, "{line}")?;
            }
            (Self::Json(_), What::Note(note)) => error::note(&format!("{job}/{step}: {note}")),
        }
        Ok(())
    }

    /// Some time has passed.
    pub(super) fn tick(&mut self, tree: &Tree) -> Done {
        match self {
            Self::Screen(screen) => Ok(screen.tick(tree)?),
            Self::Lines(_) | Self::Json(_) => Ok(()),
        }
    }

    /// Something for people.
    pub(super) fn note(&mut self, text: &str) {
        match self {
            Self::Screen(screen) => screen.note(text),
            Self::Lines(_) | Self::Json(_) => error::note(text),
        }
    }

    pub(super) fn end(&mut self, tree: &Tree) -> Done {
        match self {
            Self::Screen(screen) => Ok(screen.end(tree)?),
            Self::Lines(out) | Self::Json(out) => Ok(out.flush()?),
        }
    }
}

/// The job and the step of a step run.
fn names<'t>(tree: &'t Tree, step_run_id: &str) -> (&'t str, &'t str) {
    for job in &tree.jobs {
        if let Some(step) = job.steps.iter().find(|step| step.told.step_run_id == step_run_id) {
            return (&job.name, &step.told.step_name);
        }
    }
    // An attempt that another has followed meanwhile.
    ("-", "-")
}

pub(super) fn job_status(job: &Job) -> &'static str {
    if job.is_skipped() { "skipped" } else { run_status(job.status()) }
}

/// What is worth saying of a step beside its status.
pub(super) fn about(step: &Step) -> String {
    let told = &step.told;
    let mut words = String::new();
    if step.attempt() > 1 {
        words = format!(", attempt {}", step.attempt());
    }
    if told.status() == StepRunStatus::Running && !told.agent_id.is_empty() {
        words.push_str(&format!(", on agent {}", clean(&told.agent_id)));
    }
    if step.is_over() && told.status() != StepRunStatus::Success {
        if told.exit_code > 0 {
            words.push_str(&format!(", exit code {}", told.exit_code));
        }
        if !told.error_message.is_empty() {
            words.push_str(&format!(": {}", clean(&told.error_message)));
        }
    }
    words
}

fn took(millis: i64) -> String {
    if millis > 0 { format!(" after {}", shown_millis(millis)) } else { String::new() }
}

fn in_words(tree: &Tree, place: Place) -> String {
    match place {
        Place::Run => {
            let run = &tree.run;
            format!("run {}: {}{}", run.run_id, run_status(run.status()), took(run.duration))
        }
        Place::Job(at) => {
            let job = &tree.jobs[at];
            format!("{}: {}{}", job.name, job_status(job), took(job.told.as_ref().map_or(0, |told| told.duration)))
        }
        Place::Step(job, at) => {
            let (job, step) = (&tree.jobs[job], &tree.jobs[job].steps[at]);
            let told = &step.told;
            format!("{}/{}: {}{}{}", job.name, told.step_name, step_status(told.status()), took(told.duration), about(step))
        }
    }
}

fn as_json(tree: &Tree, place: Place) -> Value {
    match place {
        Place::Run => {
            let run = &tree.run;
            json!({ "type": "run", "run_id": run.run_id, "pipeline": tree.pipeline, "status": run_status(run.status()), "at": run.timestamp,
                "duration_ms": run.duration, "total_jobs": run.total_jobs, "completed_jobs": run.completed_jobs,
                "failed_jobs": run.failed_jobs })
        }
        Place::Job(at) => {
            let job = &tree.jobs[at];
            let (timestamp, duration) = job.told.as_ref().map_or((0, 0), |told| (told.timestamp, told.duration));
            json!({ "type": "job", "job": job.name, "status": job_status(job), "at": timestamp, "duration_ms": duration })
        }
        Place::Step(job, at) => {
            let (job, step) = (&tree.jobs[job], &tree.jobs[job].steps[at]);
            let told = &step.told;
            let exit_code = Some(told.exit_code).filter(|code| *code >= 0);
            json!({ "type": "step", "job": job.name, "step": told.step_name, "step_run_id": told.step_run_id,
                "status": step_status(told.status()), "attempt": step.attempt(), "agent_id": told.agent_id, "exit_code": exit_code,
                "error": told.error_message, "at": told.timestamp, "duration_ms": told.duration })
        }
    }
}

#[cfg(test)]
mod tests {
    use arcgate_api::pipeline::v1::PipelineStatus;

    use super::super::tree::tests::{job, step, tree};
    use super::*;

    #[test]
    fn changes_are_told_in_words_and_as_json() {
        let mut tree = tree();
        tree.take(step("a.s", "1", StepRunStatus::Running));
        tree.take(step("a.s", "1", StepRunStatus::Failed));
        tree.jobs[0].steps[0].told.exit_code = 2;
        tree.jobs[0].steps[0].told.error_message = "no\u{1b}[2J room".into();
        tree.jobs[0].steps[0].told.duration = 1_250;
        assert_eq!(in_words(&tree, Place::Step(0, 0)), "a/s: failed after 1.2s, exit code 2: no room");
        assert_eq!(as_json(&tree, Place::Step(0, 0))["exit_code"], 2);
        tree.take(step("a.s", "2", StepRunStatus::Running));
        assert_eq!(in_words(&tree, Place::Step(0, 0)), "a/s: running, attempt 2");
        tree.take(job("a", PipelineStatus::Cancelled));
        assert_eq!(in_words(&tree, Place::Job(0)), "a: cancelled");
    }
}
