//! Arcgate's gRPC contract: the messages, clients and servers of the Buf module in this crate's folder.
//!
//! The modules bear the names of the proto packages. What a message, a field or a call means is said in the protos and
//! copied here. [`ingest`] is the gateway's service once more, for a server that wants events as they came.

/// The agents' side: lifecycle, step runs to execute, results.
pub mod agent {
    /// Package `agent.v1`.
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("agent.v1");
    }
}

/// The data plane: logs and events in.
pub mod gateway {
    /// Package `gateway.v1`.
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("gateway.v1");
    }
}

/// Pipelines and their runs.
pub mod pipeline {
    /// Package `pipeline.v1`.
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("pipeline.v1");
    }
}

/// Step runs: one execution of a step each.
pub mod steprun {
    /// Package `steprun.v1`.
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("steprun.v1");
    }
}

/// Statuses and events as streams.
pub mod stream {
    /// Package `stream.v1`.
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("stream.v1");
    }
}

pub mod ingest;

/// All protos of the module and what they import, as an encoded `google.protobuf.FileDescriptorSet`: for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
