//! What can be said on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::agent::AgentArgs;
use crate::settings::{Given, Place, Sources, from_flag, value};
use crate::{ctl, push, tail};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; stderr says what, to what, and what to do
  2  wrong usage or wrong settings
  n  `arcgate push -- COMMAND` ends with the command's own code (128 + n after signal n); `arcgate run watch` with 3 if the run
     failed, with 4 if it was cancelled

Data go to stdout, everything else to stderr. NO_COLOR is honoured.";

/// The log and event ingest tier of the Arcentra CI/CD system.
#[derive(Debug, Parser)]
#[command(name = "arcgate", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub struct Arcgate {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a gateway
    #[command(after_help = EXIT_CODES)]
    Serve(SettingsArgs),
    /// Push the output of a command, a file or stdin as the log of a step run
    #[command(after_help = EXIT_CODES)]
    Push(Box<PushArgs>),
    /// Show the log of a step run, what there is and what comes
    #[command(after_help = EXIT_CODES)]
    Tail(Box<TailArgs>),
    /// Execute steps of pipelines: an agent
    #[command(after_help = EXIT_CODES)]
    Agent(Box<AgentArgs>),
    /// Create, check, run, stop and list pipelines
    #[command(subcommand, after_help = EXIT_CODES)]
    Pipeline(ctl::PipelineCommand),
    /// List runs, or follow one until its end
    #[command(subcommand, after_help = EXIT_CODES)]
    Run(ctl::RunCommand),
    /// List the agents that have registered, and what they execute
    #[command(after_help = EXIT_CODES)]
    Agents(ctl::AgentsArgs),
    /// Make tokens for people, scripts and agents
    #[command(subcommand, after_help = EXIT_CODES)]
    Token(ctl::TokenCommand),
    /// Print the effective settings and where each comes from
    Config(ConfigArgs),
    /// Check the settings without starting anything
    Validate(SettingsArgs),
    /// Look after a store that no gateway has open
    #[command(subcommand)]
    Store(StoreCommand),
    /// What ClickHouse needs
    #[command(subcommand, name = "clickhouse")]
    ClickHouse(ClickHouseCommand),
    /// List, show, send again or drop records that a sink will never take
    #[command(subcommand, name = "deadletters")]
    DeadLetters(DeadLettersCommand),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `arcgate store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read everything and say what is damaged; exit code 1 if something is
    Verify(SettingsArgs),
    /// List the step runs that have lines, or the events
    Ls {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// List the events instead
        #[arg(long)]
        events: bool,
        /// List the events that could not be accepted instead, and why
        #[arg(long, conflicts_with = "events")]
        dead_letters: bool,
        /// Where settings come from.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Delete the index and build it anew from the logs
    Reindex(SettingsArgs),
}

/// `arcgate clickhouse`
#[derive(Debug, Subcommand)]
pub enum ClickHouseCommand {
    /// Print the schema that this release needs, as a script for clickhouse-client
    Schema {
        /// Leave out what a database with this version of the schema has already
        #[arg(long, value_name = "VERSION", default_value_t = 0)]
        from: u32,
        /// Where settings come from.
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// `arcgate deadletters`. Works on the data folder, whether or not a gateway runs on it.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List them, those of the sink `ingest` included: events that could not be accepted
    Ls {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Only those of this sink
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
        /// Where settings come from.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Print one as JSON
    Show {
        /// The sink
        sink: String,
        /// The letter, as `ls` names it
        letter: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Have the gateway send some again; it does so within a second, or when it runs next
    Retry(LetterArgs),
    /// Remove some for good
    Drop(LetterArgs),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct LetterArgs {
    /// The sink
    pub sink: String,
    /// The letters, as `ls` names them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub letters: Vec<String>,
    /// All of the sink's
    #[arg(long)]
    pub all: bool,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Where settings come from: the defaults, a file, ARCGATE_SECTION__KEY variables, then these flags.
#[derive(Debug, Default, Args)]
pub struct SettingsArgs {
    /// The settings file [default: arcgate.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "ARCGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The data folder (store.path)
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where agents push (grpc.listen); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc_listen: Option<String>,
    /// Where readers, metrics and health are served (http.listen); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
    /// Any setting, as logs.max_line=2MiB; `arcgate config` lists them
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    set: Vec<Given>,
}

/// `arcgate config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print the table of all settings in Markdown instead
    #[arg(long)]
    pub table: bool,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `arcgate push`
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The gateway's gRPC address
    #[arg(long, value_name = "URL", env = "ARCGATE_SERVER", default_value = "http://127.0.0.1:9090")]
    server: String,
    /// A file with a token for the gateway
    #[arg(long, value_name = "FILE", env = "ARCGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The step run [default: a new one, named on stderr]. One push may write it; another's lines are refused, unless it comes
    /// after the first with the same --agent-id: then it goes on behind the last line
    #[arg(long, value_name = "ID")]
    step_run: Option<String>,
    /// The pipeline that the step run belongs to
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pipeline: String,
    /// Who pushes [default: made of the host's name, another one for each push]. Never give the same to two at one time
    #[arg(long, value_name = "ID")]
    agent_id: Option<String>,
    /// How long to wait at the end for what has not arrived
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = value::time)]
    drain: Duration,
    /// The folder for events that wait for the next push [default: $XDG_STATE_HOME/arcgate or ~/.local/state/arcgate]
    #[arg(long, value_name = "DIR", env = "ARCGATE_SPOOL")]
    spool: Option<PathBuf>,
    /// Say only what went wrong
    #[arg(long, short)]
    quiet: bool,
    /// A file to push [default: stdin]
    #[arg(value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// A command to run; its output is shown here too, and a gateway that is away never holds it up
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `arcgate tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The step run
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    step_run: String,
    /// The gateway's HTTP address
    #[arg(long, value_name = "URL", env = "ARCGATE_HTTP_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// A file with a token for the gateway
    #[arg(long, value_name = "FILE", env = "ARCGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Begin at this line
    #[arg(long, value_name = "N", conflicts_with = "tail", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: Option<u64>,
    /// Begin with the last N lines
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<u64>,
    /// End with what there is now
    #[arg(long)]
    no_follow: bool,
    /// One JSON object a line, gaps included
    #[arg(long)]
    json: bool,
    /// Write what the step wrote to stderr to stderr
    #[arg(long, conflicts_with = "json")]
    stderr_to_stderr: bool,
    /// How long the gateway may be away before this gives up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = value::time)]
    give_up: Duration,
    /// The pipeline that the step run belongs to; the gateway refuses one that it knows to be wrong
    #[arg(long, value_name = "ID", default_value = "-", hide_default_value = true)]
    pipeline: String,
    /// The job that the step run belongs to; likewise
    #[arg(long, value_name = "ID", default_value = "-", hide_default_value = true)]
    job: String,
}

/// Reads a command line.
///
/// # Errors
/// It cannot be read, or asks for help or the version.
pub(super) fn parse(words: &[OsString]) -> Result<Arcgate, clap::Error> {
    let arcgate = Arcgate::try_parse_from(words)?;
    // Words after `--` that are none, as of an empty variable in a script, are no wish to read stdin.
    if let Command::Push(args) = &arcgate.command
        && args.command.is_empty()
        && words.last().is_some_and(|word| word == "--")
    {
        let what = "there is no command after --; name one, or leave the -- out to push stdin";
        return Err(Arcgate::command().error(ErrorKind::MissingRequiredArgument, what));
    }
    Ok(arcgate)
}

fn assignment(text: &str) -> Result<Given, String> {
    from_flag(text).ok_or_else(|| "write it as SECTION.KEY=VALUE".to_owned())
}

impl From<SettingsArgs> for Sources {
    fn from(args: SettingsArgs) -> Self {
        let named = [
            ("store.path", "--data", args.data),
            ("grpc.listen", "--grpc-listen", args.grpc_listen),
            ("http.listen", "--http-listen", args.http_listen),
        ];
        let named = named.into_iter().filter_map(|(key, flag, text)| {
            text.map(|text| Given { key: key.to_owned(), text, place: Place::Flag(flag.to_owned()) })
        });
        let variables = std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        Self { file: args.config, env: variables.collect(), flags: args.set.into_iter().chain(named).collect() }
    }
}

impl From<PushArgs> for push::Options {
    fn from(args: PushArgs) -> Self {
        let what = if args.command.is_empty() { push::What::Input(args.file) } else { push::What::Command(args.command) };
        Self {
            server: args.server,
            token_file: args.token_file.filter(|path| !path.as_os_str().is_empty()),
            step_run: args.step_run,
            pipeline: args.pipeline,
            agent_id: args.agent_id,
            drain: args.drain,
            state: args.spool.filter(|path| !path.as_os_str().is_empty()),
            quiet: args.quiet,
            what,
        }
    }
}

impl From<TailArgs> for tail::Options {
    fn from(args: TailArgs) -> Self {
        Self {
            server: args.server,
            token_file: args.token_file.filter(|path| !path.as_os_str().is_empty()),
            step_run: args.step_run,
            pipeline: args.pipeline,
            job: args.job,
            from_line: args.from_line,
            last: args.tail,
            follow: !args.no_follow,
            json: args.json,
            split: args.stderr_to_stderr,
            give_up: args.give_up,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn parse(words: &[&str]) -> Result<Command, clap::Error> {
        let words: Vec<OsString> = [&["arcgate"], words].concat().iter().map(OsString::from).collect();
        super::parse(&words).map(|arcgate| arcgate.command)
    }

    #[test]
    fn the_command_line_is_sound() {
        Arcgate::command().debug_assert();
        assert!(Arcgate::command().render_long_help().to_string().contains("Exit codes"));
    }

    #[test]
    fn a_push_has_a_command_a_file_or_stdin() {
        let Ok(Command::Push(args)) = parse(&["push", "--drain", "200ms", "--", "make", "-j", "--", "all"]) else { panic!() };
        let options = push::Options::from(*args);
        let push::What::Command(words) = options.what else { panic!() };
        assert_eq!((words, options.drain.as_millis()), (["make", "-j", "--", "all"].map(OsString::from).to_vec(), 200));
        let Ok(Command::Push(args)) = parse(&["push", "a.log"]) else { panic!() };
        assert!(matches!(push::Options::from(*args).what, push::What::Input(Some(_))));
        assert!(parse(&["push", "a.log", "--", "make"]).is_err());
        assert!(parse(&["push", "--drain", "10"]).is_err());
        assert!(parse(&["push", "--"]).is_err() && parse(&["push", "-q", "--"]).is_err(), "no command is not stdin");
        assert!(parse(&["push", "--", "echo", "--"]).is_ok());
    }

    #[test]
    fn named_flags_are_settings() {
        let Ok(Command::Serve(args)) = parse(&["serve", "--data", "d", "--set", "logs.shards=2", "--http-listen=[::1]:0"]) else {
            panic!()
        };
        let sources = Sources::from(args);
        let flags: Vec<_> = sources.flags.iter().map(|given| (given.key.as_str(), given.text.as_str())).collect();
        assert_eq!(flags, [("logs.shards", "2"), ("store.path", "d"), ("http.listen", "[::1]:0")]);
        assert!(parse(&["serve", "--set", "logs.shards"]).is_err());
    }

    #[test]
    fn a_tail_begins_in_one_place() {
        assert!(parse(&["tail", "s", "--from-line", "3", "--json", "--no-follow"]).is_ok());
        assert!(parse(&["tail", "s", "--from-line", "0"]).is_err());
        assert!(parse(&["tail", "s", "--from-line", "3", "--tail", "4"]).is_err());
        assert!(parse(&["tail"]).is_err() && parse(&["tail", ""]).is_err());
    }
}
