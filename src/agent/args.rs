//! What can be said of an agent on the command line.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;

use super::Options;

/// The most step runs at once: each takes some threads.
const MOST_STEP_RUNS: u16 = 256;

/// `arcgate agent`
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The gateway's gRPC address
    #[arg(long, value_name = "URL", env = "ARCGATE_SERVER", default_value = "http://127.0.0.1:9090")]
    server: String,
    /// What this agent is, as os=linux,arch=amd64; steps select agents by it
    #[arg(long, value_name = "KEY=VALUE,...", env = "ARCGATE_AGENT_LABELS", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Its name for people [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A file with a registration token, for the first start at a gateway that wants one [default: the variable
    /// ARCGATE_REGISTRATION_TOKEN holds the token]
    #[arg(long, value_name = "FILE", env = "ARCGATE_REGISTRATION_TOKEN_FILE")]
    registration_token_file: Option<PathBuf>,
    /// The folder for its id, its token, events that wait, and workspaces; one agent a folder [default:
    /// $XDG_STATE_HOME/arcgate/agent or ~/.local/state/arcgate/agent]
    #[arg(long, value_name = "DIR", env = "ARCGATE_AGENT_STATE")]
    state: Option<PathBuf>,
    /// How many step runs it executes at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_STEP_RUNS)))]
    max_step_runs: u16,
    /// The folder of plugins: executables named NAME or NAME@VERSION
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// The folder where the plugin `artifacts` keeps files; jobs at other agents find them if those share it
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write labels as key=value,key=value".to_owned()),
    }
}

impl From<AgentArgs> for Options {
    fn from(args: AgentArgs) -> Self {
        Self {
            server: args.server,
            labels: args.labels.into_iter().collect::<HashMap<_, _>>(),
            name: args.name,
            registration_token_file: args.registration_token_file,
            state: args.state,
            max_step_runs: usize::from(args.max_step_runs),
            plugins: args.plugins,
            artifacts: args.artifacts,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AgentArgs,
    }

    fn parse(words: &[&str]) -> Result<Options, clap::Error> {
        Line::try_parse_from([&["agent"], words].concat()).map(|line| line.args.into())
    }

    #[test]
    fn labels_are_pairs() {
        let options = parse(&["--labels", "os=linux, arch = amd64,gpu="]).unwrap();
        let expected = [("os", "linux"), ("arch", "amd64"), ("gpu", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options.labels, HashMap::from(expected));
        for wrong in ["os", "=linux", "os=linux,"] {
            assert!(parse(&["--labels", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn capacity_has_a_bound() {
        assert_eq!(parse(&["--max-step-runs", "256"]).unwrap().max_step_runs, 256);
        assert!(parse(&["--max-step-runs", "0"]).is_err() && parse(&["--max-step-runs", "257"]).is_err());
    }
}
