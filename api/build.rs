//! Compiles the Buf module beside this file, without `protoc`: protox reads it, tonic and prost write the Rust code.
//!
//! The gateway's service is written twice: once with the contract's own messages, and once (`raw/`) with the
//! hand-written requests of `src/ingest.rs`, which leave events encoded.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

const PROTOS: [&str; 7] = [
    "agent/v1/agent.proto",
    "gateway/v1/gateway.proto",
    "pipeline/v1/pipeline.proto",
    "pipeline/v1/pipeline_error.proto",
    "pipeline/v1/pipeline_spec.proto",
    "steprun/v1/steprun.proto",
    "stream/v1/stream.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let module = env::var("CARGO_MANIFEST_DIR")?;
    let mut descriptors = protox::compile(PROTOS, [module])?;

    generator(&out).bytes(".").compile_fds(descriptors.clone())?;
    compile_raw_service(&out, descriptors.clone())?;

    // For reflection and the contract's test, which have no use for comments and places.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.binpb"), descriptors.encode_to_vec())?;
    Ok(())
}

/// Clients are made of a channel (`Client::new`): a `Client::connect` would collide with the call `AgentService.Connect`.
fn generator(out: &Path) -> tonic_prost_build::Builder {
    tonic_prost_build::configure().build_transport(false).out_dir(out)
}

/// Writes the gateway's service once more, with raw requests for events. No message is written again: all of them are
/// declared to live elsewhere.
fn compile_raw_service(out: &Path, mut descriptors: tonic_prost_build::FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    descriptors.file.retain(|file| file.package() == "gateway.v1");
    let raw = out.join("raw");
    fs::create_dir_all(&raw)?;
    generator(&raw)
        .extern_path(".gateway.v1", "crate::gateway::v1")
        .extern_path(".gateway.v1.PushEventsRequest", "crate::ingest::PushEventsRequest")
        .compile_fds(descriptors)?;
    Ok(())
}
