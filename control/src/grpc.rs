//! The control plane over gRPC.

use tonic::{Request, Status};

use crate::agents::{Caller, Role};

mod agent;
mod pipeline;
mod refused;
mod steprun;
mod stream;
#[cfg(test)]
mod testing;

pub use self::agent::AgentCalls;
pub use self::pipeline::PipelineCalls;
pub use self::steprun::StepRunCalls;
pub use self::stream::StreamCalls;

/// The name of who calls, if it is a person or a script who may do what those with this role may.
fn may<T>(asked: &Request<T>, least: Role) -> Result<String, Status> {
    Caller::of(asked.extensions())?.as_user(least).map(str::to_owned)
}

/// Who wants something, and why.
fn by(who: &str, reason: &str) -> String {
    if reason.is_empty() { format!("by {who}") } else { format!("by {who}: {reason}") }
}
