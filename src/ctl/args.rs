//! What can be said to the commands for the control plane.

use std::path::PathBuf;
use std::time::Duration;

use arcgate_api::pipeline::v1::PipelineStatus;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::SettingsArgs;
use crate::settings::value;

/// The gateway that is called.
#[derive(Debug, Clone, Args)]
pub(super) struct GatewayArgs {
    /// The gateway's gRPC address
    #[arg(long, value_name = "URL", env = "ARCGATE_SERVER", default_value = "http://127.0.0.1:9090")]
    pub(super) server: String,
    /// A file with a token for the gateway; `arcgate token create` makes one
    #[arg(long, value_name = "FILE", env = "ARCGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl GatewayArgs {
    /// The file with the token; an empty variable is none.
    pub(super) fn token_file(&self) -> Option<&std::path::Path> {
        self.token_file.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}

/// `arcgate pipeline`
#[derive(Debug, Subcommand)]
pub enum PipelineCommand {
    /// Create a pipeline with a definition; its id goes to stdout
    Create(CreateArgs),
    /// Save another definition of a pipeline; its revision goes to stdout
    Save(SaveArgs),
    /// Check a definition without saving it
    Validate(ValidateArgs),
    /// Begin a run of a pipeline; the run's id goes to stdout
    Trigger(TriggerArgs),
    /// Stop a run
    Stop(StopArgs),
    /// List pipelines, the newest first
    List(ListArgs),
}

/// `arcgate pipeline create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The definition, YAML or JSON; - is stdin
    pub(super) file: PathBuf,
    /// The project that the pipeline belongs to
    #[arg(long, value_name = "ID", default_value = "default")]
    pub(super) project: String,
    /// Its name [default: the definition's namespace]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) description: String,
    /// Where the definition lies in the project's repository [default: the file's name]
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// Print JSON: the pipeline's id and the definition's revision
    #[arg(long)]
    pub(super) json: bool,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate pipeline save`
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// The pipeline
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) pipeline: String,
    /// The definition, YAML or JSON; - is stdin
    pub(super) file: PathBuf,
    /// Only if the current revision is this one
    #[arg(long, value_name = "REVISION", default_value = "", hide_default_value = true)]
    pub(super) expect: String,
    /// What was changed
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub(super) message: String,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate pipeline validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The definition, YAML or JSON; - is stdin
    #[arg(required_unless_present = "pipeline", conflicts_with = "pipeline")]
    pub(super) file: Option<PathBuf>,
    /// Check the definition that this pipeline has
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) pipeline: Option<String>,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate pipeline trigger`
#[derive(Debug, Args)]
pub struct TriggerArgs {
    /// The pipeline
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) pipeline: String,
    /// A variable of the run; may be given often
    #[arg(long = "var", short = 'v', value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) variables: Vec<(String, String)>,
    /// The same request again gives the same run
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(super) request_id: String,
    /// For whom [default: the token's name]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) by: String,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate pipeline stop`
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The run
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) run: String,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate pipeline list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this project
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(super) project: String,
    /// Only those whose name holds this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) name: String,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(super) limit: usize,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate run`
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// List runs, the newest first
    List(RunsArgs),
    /// Follow a run until its end: jobs, steps, and what the running ones write
    #[command(after_help = WATCH_CODES)]
    Watch(Box<WatchArgs>),
}

const WATCH_CODES: &str = "\
Exit codes:
  0  the run succeeded
  1  the run cannot be followed; stderr says why, and what to do
  2  wrong usage
  3  the run failed
  4  the run was cancelled";

/// `arcgate run list`
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only those of this pipeline
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(super) pipeline: String,
    /// Only those that stand so
    #[arg(long)]
    pub(super) status: Option<Status>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Status {
    /// It waits.
    Pending,
    /// It runs.
    Running,
    /// It was paused.
    Paused,
    /// It succeeded.
    Success,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl From<Status> for PipelineStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Paused => Self::Paused,
            Status::Success => Self::Success,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// `arcgate run watch`
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The run
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) run: String,
    /// The gateway's HTTP address, for what the steps write
    #[arg(long, value_name = "URL", env = "ARCGATE_HTTP_SERVER", default_value = "http://127.0.0.1:8080")]
    pub(super) http: String,
    /// On a terminal, show so many of the last lines of each running step
    #[arg(long, short = 'n', value_name = "N", default_value_t = 4)]
    pub(super) lines: usize,
    /// Leave out what the steps write
    #[arg(long)]
    pub(super) no_logs: bool,
    /// Write a line for each change, on a terminal too
    #[arg(long)]
    pub(super) plain: bool,
    /// One JSON object a line, for each change and each line of a log
    #[arg(long)]
    pub(super) json: bool,
    /// How long the gateway may be away before this gives up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = value::time)]
    pub(super) give_up: Duration,
    /// The gateway.
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
}

/// `arcgate agents`. Works on the control plane's database, whether or not a gateway runs on it.
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `arcgate token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it goes to stdout, this once
    Create(TokenArgs),
}

/// `arcgate token create`. Works on the control plane's database, whether or not a gateway runs on it.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What it is for: to look, to run pipelines, to do everything, or to register agents
    #[arg(long)]
    pub(super) role: TokenRole,
    /// Whose it is, or what it is for [default: the role]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(super) name: Option<String>,
    /// How long it can be used [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    pub(super) expires: Option<Duration>,
    /// How many agents it lets in [default: any number]; only with --role agent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(super) max_uses: Option<u32>,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TokenRole {
    /// Look
    Viewer,
    /// Run pipelines, stop what runs
    Operator,
    /// Everything
    Admin,
    /// Register agents
    Agent,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn lasting(text: &str) -> Result<Duration, String> {
    match value::time(text) {
        Ok(time) if time.is_zero() => Err("a token that never is one is of no use; give a time above 0".into()),
        other => other,
    }
}
