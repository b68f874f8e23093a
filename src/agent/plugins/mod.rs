//! What `uses` names: a plugin of this program, or an executable in the plugin folder.
//!
//! | `uses` | `action` (the first is the default) | what it does |
//! |---|---|---|
//! | `shell` | `script` | runs `args.run`, `script`, `command` or `commands` with `sh -e` |
//! | `artifacts` | `upload`, `download` | keeps files for later jobs of the run |
//! | `stdout` | `send` | writes `args.message` into the log |
//! | `webhook` | `send` | calls an address |
//! | `git` | `clone` | brings a repository into the workspace |
//! | another | its own | `NAME@VERSION` or `NAME` in the plugin folder, given its args as JSON on stdin |

mod args;
mod artifacts;
mod copy;
mod env;
mod external;
mod git;
mod shell;
mod stdout;
#[cfg(test)]
mod tests;
mod webhook;

use std::path::{Path, PathBuf};

use arcgate_api::agent::v1::StepRun;
use serde_json::{Map, Value};

use self::external::External;
pub(super) use self::git::sources;
use super::Shared;
use super::events::About;
use super::step::{Ending, Program, StepLog};
use super::stop::Stop;

/// The plugins of this program, for messages.
const BUILT_IN: &str = "artifacts, git, shell, stdout, webhook";

/// What does a step's work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    Artifacts(artifacts::Action),
    Git,
    Shell,
    Stdout,
    Webhook,
    External(External),
}

/// What a plugin works on.
pub(super) struct Work<'s> {
    step: &'s StepRun,
    /// The step's arguments, secrets filled in.
    args: Map<String, Value>,
    /// The environment of programs.
    env: Vec<(String, String)>,
    /// The workspace.
    folder: &'s Path,
    about: &'s About,
    log: &'s StepLog,
    shared: &'s Shared,
}

impl<'s> Work<'s> {
    /// Prepares a step's arguments and environment.
    ///
    /// # Errors
    /// In words for people: they would become too long.
    pub(super) fn new(
        shared: &'s Shared,
        step: &'s StepRun,
        folder: &'s Path,
        about: &'s About,
        log: &'s StepLog,
    ) -> Result<Self, String> {
        let args = args::filled(step)?;
        let mut env = env::of(step, std::env::vars_os())?;
        env.push(("ARCGATE_WORKSPACE".into(), folder.display().to_string()));
        Ok(Self { step, args, env, folder, about, log, shared })
    }

    /// Runs a program in the workspace.
    async fn program(&self, words: &[&str], input: Option<PathBuf>, more: Vec<(String, String)>, stop: &mut Stop) -> Ending {
        let program = Program {
            words: words.iter().map(Into::into).collect(),
            input,
            env: self.env.iter().cloned().chain(more).collect(),
            folder: self.folder.to_owned(),
        };
        super::step::run(&program, self.log, stop).await
    }
}

/// The plugin that a step uses.
///
/// # Errors
/// In words for people: there is none of that name, it is another file than it should be, or it has no such action.
pub(super) fn find(step: &StepRun, folder: Option<&Path>) -> Result<Plugin, String> {
    let name = step.uses.split('@').next().unwrap_or_default();
    let action = step.action.as_str();
    let built_in = match name {
        "artifacts" => match action {
            "" | "upload" => Plugin::Artifacts(artifacts::Action::Upload),
            "download" => Plugin::Artifacts(artifacts::Action::Download),
            _ => return Err(no_action(name, action, "upload and download")),
        },
        "git" if matches!(action, "" | "clone") => Plugin::Git,
        "git" => return Err(no_action(name, action, "clone")),
        "shell" if matches!(action, "" | "script") => Plugin::Shell,
        "shell" => return Err(no_action(name, action, "script")),
        "stdout" if matches!(action, "" | "send") => Plugin::Stdout,
        "stdout" => return Err(no_action(name, action, "send")),
        "webhook" if matches!(action, "" | "send") => Plugin::Webhook,
        "webhook" => return Err(no_action(name, action, "send")),
        _ => return External::find(step, folder).map(Plugin::External),
    };
    Ok(built_in)
}

fn no_action(name: &str, action: &str, known: &str) -> String {
    format!("plugin {name} has no action {action:?}; it has {known}")
}

impl Plugin {
    /// Does the work.
    pub(super) async fn run(&self, work: &Work<'_>, stop: &mut Stop) -> Ending {
        match self {
            Self::Artifacts(action) => artifacts::run(*action, work, stop).await,
            Self::Git => git::run(work, stop).await,
            Self::Shell => shell::run(work, stop).await,
            Self::Stdout => stdout::run(work),
            Self::Webhook => tokio::select! {
                ending = webhook::run(work) => ending,
                why = stop.told() => Ending::Stopped(why),
            },
            Self::External(external) => external.run(work, stop).await,
        }
    }
}
