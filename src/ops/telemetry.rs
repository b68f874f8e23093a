//! The gateway's own log, on stderr: text for people or JSON for machines.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{Log, LogFormat};
use crate::style;

/// Begins to log as `settings` say. Called once, before anything else of the gateway.
///
/// # Errors
/// The level cannot be read, or something else logs already; said in words for people.
pub fn start(settings: &Log) -> Result<(), String> {
    // What the index's library tells of its work is for who asks for it by name.
    let filter = EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{}", settings.level))
        .map_err(|error| format!("log.level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = match settings.format {
        LogFormat::Text => builder.with_ansi(style::coloured(stderr().is_terminal())).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| format!("cannot begin to log: {error}"))
}
