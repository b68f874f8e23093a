//! The control plane over gRPC.

mod pipeline;

pub use self::pipeline::PipelineCalls;
