//! `arcgate push`: sends the output of a command, a file or stdin to a gateway, and never harms a build.
//!
//! `command` runs the command and `pipes` pass its output on, or `input` reads; both put whole `lines` into the `spool`,
//! which counts them and never makes a command wait. The `uplink`, a thread of its own, delivers: lines by `session`, events by
//! `events` from the `outbox` on disk. At the end the uplink is given some time, and what did not arrive is said on stderr.

mod command;
mod event;
mod events;
mod family;
mod input;
mod lines;
mod notes;
mod outbox;
mod pipes;
mod session;
mod shared;
mod signals;
mod spool;
pub(crate) mod target;
mod uplink;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use command::Ended;
use event::{Identity, Outcome, Pending};
use input::Input;
use notes::Notes;
use outbox::Shelf;
use shared::{SharedSpool, now};
use signals::Signals;
use target::Target;
use uplink::{Undelivered, Uplink};

/// The longest identifier that gateways accept, in bytes.
const MAX_ID_BYTES: usize = 256;

/// What `arcgate push` was asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's gRPC address.
    pub server: String,
    /// A file with a token for it.
    pub token_file: Option<PathBuf>,
    /// The step run; generated if not given.
    pub step_run: Option<String>,
    /// The pipeline; empty if unknown.
    pub pipeline: String,
    /// The agent; one of its own for each push if not given.
    pub agent_id: Option<String>,
    /// How long to wait at the end.
    pub drain: Duration,
    /// The folder for what must outlive the process.
    pub state: Option<PathBuf>,
    /// Whether to say nothing but failures.
    pub quiet: bool,
    /// What is pushed.
    pub what: What,
}

/// What is pushed.
#[derive(Debug, Clone)]
pub enum What {
    /// The output of this command.
    Command(Vec<OsString>),
    /// This file, or stdin.
    Input(Option<PathBuf>),
}

/// Runs `arcgate push`. The exit code is the command's; for a file or stdin 0 if all arrived, else 1, and 2 if the options are
/// unfit. With a command, unfit options are told and the command runs all the same.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    let notes = Notes::default();
    let (about, unfit_id) = identify(&options);
    let target = Target::new(&options.server, options.token_file.as_deref());
    for problem in unfit_id.iter().chain(target.as_ref().err()) {
        notes.say(problem);
        if matches!(options.what, What::Input(_)) {
            return ExitCode::from(2);
        }
    }
    if !options.quiet {
        notes.say(&format!("step run {0}; watch it with: arcgate tail {0}", about.step_run_id));
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(push(options, about, target.ok(), notes));
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => without_us(&options.what, &notes, &error),
    }
}

async fn push(options: Options, about: Identity, target: Option<Target>, notes: Notes) -> u8 {
    let signals = if matches!(options.what, What::Command(_)) { Signals::all() } else { Signals::ending() };
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            without_us(&options.what, &notes, &error);
            return 1;
        }
    };
    let input = match &options.what {
        What::Command(_) => None,
        What::Input(path) => match Input::open(path.as_deref()) {
            Ok(input) => Some(input),
            Err(error) => {
                notes.conclude(&format!("cannot read {}: {error}", input_name(&options.what)));
                return 2;
            }
        },
    };
    let spool = SharedSpool::new(spool::SPOOL_BYTES);
    // No push will ever reach an address that is none: what is meant for it is not kept.
    let shelf = Target::is_address(&options.server).then(|| Shelf::new(state_folder(options.state), &options.server));
    let uplink = Uplink::start(target, about.clone(), spool.clone(), shelf, notes.clone());
    uplink.event(Pending::started(&about, now()));

    let start = Instant::now();
    let ended = match (&options.what, input) {
        (What::Command(words), _) => command::run(words, &spool, &mut signals, &notes).await,
        (What::Input(_), None) => Ended { code: 2, why: "nothing to read".into() },
        (What::Input(_), Some(input)) => match input.read(&spool, options.drain, &mut signals).await {
            Ok(None) => Ended { code: 0, why: String::new() },
            Ok(Some(signal)) => {
                Ended { code: 128u8.saturating_add(u8::try_from(signal).unwrap_or(0)), why: format!("signal {signal}") }
            }
            Err(error) => {
                let why = format!("cannot read all of {}: {error}; what was read is pushed", input_name(&options.what));
                notes.conclude(&why);
                Ended { code: 1, why }
            }
        },
    };
    spool.end();
    let counted = spool.with(|spool| spool.counted());
    let outcome = Outcome { exit_code: ended.code, error: ended.why.clone(), took: start.elapsed(), lines: counted };
    uplink.event(Pending::finished(&about, now(), &outcome));

    let is_command = matches!(options.what, What::Command(_));
    let interrupted = async {
        signals.end().await;
    };
    let left = uplink.drain(options.drain, !is_command, interrupted).await;
    if let Some(report) = report(left, counted, &options.server) {
        notes.conclude(&report);
    }
    if ended.code == 0 && !is_command && !left.is_nothing() { 1 } else { ended.code }
}

/// Says what did not arrive, if anything.
fn report(left: Undelivered, counted: u64, server: &str) -> Option<String> {
    if left.is_nothing() {
        return None;
    }
    let mut text = format!("{} of {counted} lines and {} of 2 events were not delivered to {server}", left.lines, left.events);
    if left.events > 0 && left.events_kept {
        text.push_str("; the events go with the next push to this server");
    }
    Some(text)
}

/// Who pushes what, and what was wrong with the names that were given: such a name is replaced by a generated one.
fn identify(options: &Options) -> (Identity, Option<String>) {
    let mut problem = None;
    let mut fit = |flag: &str, id: &Option<String>| {
        let id = id.clone().filter(|id| !id.is_empty())?;
        if id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control) {
            return Some(id);
        }
        problem = Some(format!("{flag} must have 1 to {MAX_ID_BYTES} bytes and no control characters"));
        None
    };
    let step_run_id = fit("--step-run", &options.step_run).unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    // A name of its own for each push: that is how a gateway tells two that write one step run, and refuses the second, whose
    // numbers would be those of the first.
    let agent_id = fit("--agent-id", &options.agent_id).unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("push-{host}-{}", uuid::Uuid::new_v4())
    });
    let pipeline_id = fit("--pipeline", &Some(options.pipeline.clone())).unwrap_or_default();
    (Identity { agent_id, step_run_id, pipeline_id }, problem)
}

/// What is read, for people.
fn input_name(what: &What) -> String {
    match what {
        What::Input(Some(path)) => path.display().to_string(),
        _ => "stdin".into(),
    }
}

/// The folder for what must outlive the process: as given, else where the system keeps such things.
fn state_folder(given: Option<PathBuf>) -> PathBuf {
    let of = |name, below: &str| {
        std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| PathBuf::from(value).join(below))
    };
    given
        .or_else(|| of("XDG_STATE_HOME", "arcgate"))
        .or_else(|| of("HOME", ".local/state/arcgate"))
        .unwrap_or_else(|| std::env::temp_dir().join(format!("arcgate-{}", rustix::process::getuid().as_raw())))
}

/// The system gives us nothing to work with: the command runs all the same, in our place.
fn without_us(what: &What, notes: &Notes, error: &std::io::Error) -> ExitCode {
    notes.conclude(&format!("cannot push: {error}"));
    if let What::Command(words) = what
        && let Some((program, arguments)) = words.split_first()
    {
        let error = Command::new(program).args(arguments).exec();
        notes.conclude(&format!("cannot run {}: {error}", program.display()));
        return ExitCode::from(127);
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(step_run: &str) -> Options {
        Options {
            server: "http://127.0.0.1:1".into(),
            token_file: None,
            step_run: Some(step_run.into()),
            pipeline: String::new(),
            agent_id: None,
            drain: Duration::ZERO,
            state: None,
            quiet: true,
            what: What::Input(None),
        }
    }

    #[test]
    fn names_are_made_where_none_are_given_or_they_are_unfit() {
        let (about, problem) = identify(&options("build-7"));
        assert!(about.step_run_id == "build-7" && problem.is_none());
        assert_ne!(about.agent_id, identify(&options("build-7")).0.agent_id, "each push is a writer of its own");
        let (about, problem) = identify(&options(""));
        assert!(about.step_run_id.len() == 36 && problem.is_none());
        let (about, problem) = identify(&options("a\nb"));
        assert!(about.step_run_id.len() == 36 && problem.is_some());
        let named = Options { agent_id: Some("ci".into()), ..options("build-7") };
        assert_eq!(identify(&named).0.agent_id, "ci");
    }

    #[test]
    fn the_report_is_about_what_is_missing() {
        let nothing = Undelivered { lines: 0, events: 0, events_kept: true };
        assert_eq!(report(nothing, 5, "s"), None);
        let some = Undelivered { lines: 3, events: 1, events_kept: true };
        let text = report(some, 5, "s");
        assert_eq!(
            text.as_deref(),
            Some("3 of 5 lines and 1 of 2 events were not delivered to s; the events go with the next push to this server")
        );
    }
}
