//! The command line: what can be said (`args`), and who does it.
//!
//! Data go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage; `push -- command` ends with the
//! command's own code, `run watch` with 3 or 4 if the run failed or was cancelled.

mod args;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;

pub use args::{Arcgate, ClickHouseCommand, Command, DeadLettersCommand, LetterArgs, SettingsArgs, StoreCommand};

use crate::settings::{Loaded, Settings, SettingsError, Sources, as_markdown, as_toml, check, load};
use crate::{agent, ctl, deadletters, push, serve, store, tail};

/// Wrong usage, wrong settings included.
const USAGE: u8 = 2;

/// Reads the process's command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match args::parse(&words) {
        Ok(arcgate) => run(arcgate.command),
        Err(error) => {
            // Whoever is not there to read it needs no other answer.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(settings) => with_settings(settings.into(), |loaded| outcome(serve::run(&loaded.settings))),
        Command::Push(options) => push::run((*options).into()),
        Command::Agent(options) => agent::run((*options).into()),
        Command::Tail(options) => tail::run(&(*options).into()),
        Command::Pipeline(command) => ctl::pipeline(command),
        Command::Run(command) => ctl::run(command),
        Command::Agents(options) => loaded(load(options.settings.into()), |loaded| ctl::agents(&loaded.settings, options.json)),
        Command::Token(ctl::TokenCommand::Create(mut options)) => {
            let settings = std::mem::take(&mut options.settings);
            loaded(load(settings.into()), |loaded| ctl::new_token(&loaded.settings, &options))
        }
        Command::Config(options) if options.table => print(&as_markdown()),
        Command::Config(options) => loaded(load(options.settings.into()), |loaded| print(&as_toml(loaded))),
        Command::Validate(options) => with_settings(options.into(), |loaded| {
            let file = loaded.file.as_deref().map_or("the default settings".into(), |file| file.display().to_string());
            print(&format!("{file}: ok\n"))
        }),
        Command::Store(StoreCommand::Verify(settings)) => {
            loaded(load(settings.into()), |loaded| match store::verify(&loaded.settings, &mut io::stdout().lock()) {
                Ok(false) => ExitCode::FAILURE,
                sound => looked_after(sound.map(drop)),
            })
        }
        Command::Store(StoreCommand::Ls { json, events, dead_letters, settings }) => {
            let what = match (events, dead_letters) {
                (_, true) => store::What::DeadLetters,
                (true, _) => store::What::Events,
                _ => store::What::Streams,
            };
            let list = |loaded: &Loaded| store::list(&loaded.settings, what, json, &mut io::stdout().lock());
            loaded(load(settings.into()), |loaded| looked_after(list(loaded)))
        }
        Command::Store(StoreCommand::Reindex(settings)) => {
            loaded(load(settings.into()), |loaded| looked_after(store::reindex(&loaded.settings, &mut io::stdout().lock())))
        }
        Command::ClickHouse(ClickHouseCommand::Schema { from, settings }) => {
            loaded(load(settings.into()), |loaded| print(&loaded.settings.clickhouse.all().variant().script(from)))
        }
        Command::DeadLetters(command) => dead_letters(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arcgate::command(), "arcgate", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

fn dead_letters(command: DeadLettersCommand) -> ExitCode {
    let with = |settings: SettingsArgs, act: &dyn Fn(&Settings) -> Result<(), deadletters::CommandError>| {
        loaded(load(settings.into()), |loaded| outcome(act(&loaded.settings)))
    };
    let out = || io::stdout().lock();
    match command {
        DeadLettersCommand::Ls { json, sink, settings } => {
            with(settings, &|settings| deadletters::list(settings, sink.as_deref(), json, &mut out()))
        }
        DeadLettersCommand::Show { sink, letter, settings } => {
            with(settings, &|settings| deadletters::show(settings, &sink, &letter, &mut out()))
        }
        DeadLettersCommand::Retry(LetterArgs { sink, letters, all, settings }) => {
            with(settings, &|settings| deadletters::retry(settings, &sink, &which(&letters, all), &mut out()))
        }
        DeadLettersCommand::Drop(LetterArgs { sink, letters, all, settings }) => {
            with(settings, &|settings| deadletters::remove(settings, &sink, &which(&letters, all), &mut out()))
        }
    }
}

fn which(letters: &[String], all: bool) -> deadletters::Which<'_> {
    if all { deadletters::Which::All } else { deadletters::Which::These(letters) }
}

/// Does something with settings that a gateway could start with.
fn with_settings(sources: Sources, act: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
    loaded(load(sources).and_then(|loaded| check(&loaded).map(|()| loaded)), act)
}

fn loaded(settings: Result<Loaded, SettingsError>, act: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
    match settings {
        Ok(loaded) => act(&loaded),
        Err(error) => {
            complain(&error);
            ExitCode::from(USAGE)
        }
    }
}

fn print(text: &str) -> ExitCode {
    looked_after(io::stdout().write_all(text.as_bytes()).map_err(store::CommandError::Output))
}

/// As [`outcome`], but a reader who has all he wants, as in `… | head`, is no failure.
fn looked_after(done: Result<(), store::CommandError>) -> ExitCode {
    match done {
        Err(store::CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        done => outcome(done),
    }
}

fn outcome<E: std::error::Error>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says on stderr what is wrong, a line at a time. A stderr that is gone is no reason to panic.
fn complain(error: &dyn std::error::Error) {
    for line in error.to_string().lines() {
        let _ = writeln!(io::stderr(), "arcgate: {line}");
    }
}
