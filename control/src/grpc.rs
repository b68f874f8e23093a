//! The control plane over gRPC.

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
