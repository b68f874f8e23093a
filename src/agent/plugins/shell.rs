//! `shell`: runs a script with `sh -e`, in the workspace.
//!
//! The script lies in a file that only the agent's user may read, not on a command line, which everybody on the machine could.

use serde_json::{Map, Value};

use super::Work;
use crate::agent::Input;
use crate::agent::step::Ending;
use crate::agent::stop::Stop;

/// How a script may be spelled; the first that is there counts.
const SPELLINGS: [&str; 4] = ["run", "script", "command", "commands"];

pub(super) async fn run(work: &Work<'_>, stop: &mut Stop) -> Ending {
    let Some(script) = script(&work.args) else {
        let what = "there is nothing to run; give args.run, args.script, args.command (a text) or args.commands (a list)";
        return Ending::failed(what);
    };
    let script = match Input::write(&work.shared.folder.inputs(), script.as_bytes()) {
        Ok(script) => script,
        Err(error) => return Ending::failed(format!("this agent cannot write the step's script: {error}")),
    };
    let path = script.0.display().to_string();
    work.program(&["/bin/sh", "-e", &path], None, Vec::new(), stop).await
}

/// The script that the arguments hold: a text, or texts that are run one after the other.
pub(super) fn script(args: &Map<String, Value>) -> Option<String> {
    SPELLINGS
        .iter()
        .find_map(|name| match args.get(*name)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(commands) => {
                let commands = commands.iter().map(|command| match command {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                Some(commands.collect::<Vec<_>>().join("\n"))
            }
            _ => None,
        })
        .filter(|script| !script.trim().is_empty())
}
