//! `arcgate-load`: puts a gateway under load over real sockets and says what it does and what it costs.
//!
//! Each scenario prints what it found on standard error, and rows of a Markdown table on standard output.

mod report;
mod scenario;
mod subject;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use scenario::{alone, control, events, logs, replay, sinks, tail};

/// Load generators for Arcgate over real sockets.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Agents that send lines as fast as they are acked, or at a rate.
    Logs(logs::Arguments),
    /// Agents that send events as fast as they are acked, or at a rate.
    Events(events::Arguments),
    /// Agents and readers: how long a line takes from push to reader.
    Tail(tail::Arguments),
    /// Lines through the gateway into Kafka, ClickHouse or both.
    Sinks(sinks::Arguments),
    /// The same lines into one of them by its client library, without a gateway.
    Alone(alone::Arguments),
    /// History from ClickHouse, through a gateway that has none of it in its own store.
    Replay(replay::Arguments),
    /// Agents, runs and watchers of the control plane.
    Control(control::Arguments),
    /// The head of the table whose rows the scenarios print.
    Head,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(run(arguments.scenario)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("arcgate-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(scenario: Scenario) -> arcgate_load::Outcome<()> {
    let reports = match scenario {
        Scenario::Logs(arguments) => vec![logs::run(arguments).await?],
        Scenario::Events(arguments) => vec![events::run(arguments).await?],
        Scenario::Tail(arguments) => vec![tail::run(arguments).await?],
        Scenario::Sinks(arguments) => vec![sinks::run(arguments).await?],
        Scenario::Alone(arguments) => vec![alone::run(arguments).await?],
        Scenario::Replay(arguments) => replay::run(arguments).await?,
        Scenario::Control(arguments) => control::run(arguments).await?,
        Scenario::Head => {
            println!("{}", report::HEAD);
            return Ok(());
        }
    };
    for report in reports {
        eprint!("{report}");
        println!("{}", report.row());
    }
    Ok(())
}
