//! The commands for the control plane: `arcgate pipeline`, `arcgate run`, `arcgate agents`, `arcgate token`.
//!
//! `args` says what can be said. `pipeline` and `run` (`runs`, `watch`) call a gateway over gRPC (`link`) with a person's token; `agents`
//! and `token` open the control plane's database (`database`), whether or not a gateway runs on it: whoever can do that needs no other
//! right. `definition` reads a pipeline's text, `error` says what went wrong, `table` and `words` write what people read.

mod agents;
mod args;
mod database;
mod definition;
mod error;
mod link;
mod pipelines;
mod runs;
mod table;
mod token;
mod watch;
mod words;

use std::io;
use std::process::ExitCode;

use self::error::CtlError;
use crate::settings::Settings;

pub use self::args::{AgentsArgs, PipelineCommand, RunCommand, TokenArgs, TokenCommand};

/// What a command comes to.
type Done<T = ()> = Result<T, CtlError>;

/// `arcgate pipeline`
#[must_use]
pub fn pipeline(command: PipelineCommand) -> ExitCode {
    ended(pipelines::run(command))
}

/// `arcgate run`. The exit code of `watch` tells how the run ended.
#[must_use]
pub fn run(command: RunCommand) -> ExitCode {
    match command {
        RunCommand::List(options) => ended(runs::list(options)),
        RunCommand::Watch(options) => match watch::run(&options) {
            Ok(outcome) => outcome.into(),
            Err(error) => failed(&error),
        },
    }
}

/// `arcgate agents`
#[must_use]
pub fn agents(settings: &Settings, json: bool) -> ExitCode {
    ended(agents::list(settings, json))
}

/// `arcgate token create`
#[must_use]
pub fn new_token(settings: &Settings, wanted: &TokenArgs) -> ExitCode {
    ended(token::create(settings, wanted))
}

fn ended(done: Done) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &CtlError) -> ExitCode {
    match error {
        // A reader who has all he wants, as in `… | head`, is no failure.
        CtlError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        error => {
            error::complain(error);
            ExitCode::FAILURE
        }
    }
}

/// Does something that waits for sockets and files.
fn block_on<T>(what: impl Future<Output = Done<T>>) -> Done<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CtlError::System)?;
    let done = runtime.block_on(what);
    runtime.shutdown_background();
    done
}
