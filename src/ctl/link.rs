//! The gateway that is called.

use arcgate_api::pipeline::v1::pipeline_service_client::PipelineServiceClient;
use arcgate_api::stream::v1::stream_service_client::StreamServiceClient;
use tonic::Request;
use tonic::transport::Channel;

use super::args::GatewayArgs;
use super::error::CtlError;
use crate::push::target::{PATIENCE, Target};

/// The largest answer, in bytes: a definition of the largest size, told in full.
const MAX_ANSWER: usize = 64 << 20;

/// A gateway and a connection to it.
#[derive(Debug)]
pub(super) struct Link {
    target: Target,
    channel: Channel,
}

/// The gateway of these arguments.
pub(super) fn target(gateway: &GatewayArgs) -> Result<Target, CtlError> {
    Target::new(&gateway.server, gateway.token_file()).map_err(CtlError::Target)
}

impl Link {
    pub(super) async fn open(gateway: &GatewayArgs) -> Result<Self, CtlError> {
        Self::to(target(gateway)?).await
    }

    pub(super) async fn to(target: Target) -> Result<Self, CtlError> {
        let channel = target.channel().await?;
        Ok(Self { target, channel })
    }

    pub(super) fn pipelines(&self) -> PipelineServiceClient<Channel> {
        PipelineServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn streams(&self) -> StreamServiceClient<Channel> {
        StreamServiceClient::new(self.channel.clone())
    }

    /// A request that carries the token and is answered soon.
    pub(super) fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = self.target.request(message);
        request.set_timeout(PATIENCE);
        request
    }

    /// A request for a stream, which may be silent.
    pub(super) fn follow<T>(&self, message: T) -> Request<T> {
        self.target.request(message)
    }
}
