//! The channel to the control plane: `StreamService.AgentChannel`, as a thing that is said to and heard from.

use std::time::Duration;

use arcgate_api::agent::v1::AgentStatus;
use arcgate_api::stream::v1 as pb;
use arcgate_api::stream::v1::stream_service_client::StreamServiceClient;
use arcgate_gateway::backoff::Backoff;
use pb::agent_channel_request::Payload;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::desk::Say;
use super::diary::Diary;
use crate::push::shared::now;
use crate::push::target::{PATIENCE, Target, UplinkError};

/// How many messages may wait for the network: a sign of life, and one for each step run that an agent may have.
const QUEUE: usize = 2_048;
/// The longest pause before another try.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// An open channel.
pub(super) struct Link {
    agent_id: String,
    up: mpsc::Sender<pb::AgentChannelRequest>,
    down: Streaming<pb::AgentChannelResponse>,
    /// When it opened,
    pub(super) opened: Instant,
    /// and when something was heard last.
    pub(super) heard: Instant,
}

impl Link {
    /// Opens a channel, however long that takes. The first message of the other side has come when this returns.
    pub(super) async fn open(
        target: Target,
        agent_id: String,
        mut backoff: Backoff,
        diary: Diary,
    ) -> (Self, pb::AgentChannelResponse) {
        loop {
            match timeout(PATIENCE, Self::attempt(&target, &agent_id)).await.unwrap_or(Err(UplinkError::Silent)) {
                Ok(opened) => return opened,
                Err(why) => {
                    diary.say(&format!("no channel to the control plane: {why}; steps go on, and it is tried again"));
                    sleep(backoff.wait()).await;
                }
            }
        }
    }

    /// Pauses between tries.
    pub(super) fn backoff() -> Backoff {
        Backoff::between(Backoff::FIRST, LONGEST_WAIT)
    }

    async fn attempt(target: &Target, agent_id: &str) -> Result<(Self, pb::AgentChannelResponse), UplinkError> {
        let mut client = StreamServiceClient::new(target.channel().await?);
        let (up, messages) = mpsc::channel(QUEUE);
        let mut down = client.agent_channel(target.request(ReceiverStream::new(messages))).await?.into_inner();
        let first = down.message().await?.ok_or(UplinkError::Closed)?;
        let now = Instant::now();
        Ok((Self { agent_id: agent_id.to_owned(), up, down, opened: now, heard: now }, first))
    }

    /// What comes next.
    ///
    /// # Errors
    /// The channel is over. What was not answered is to be said on the next.
    pub(super) async fn hear(&mut self) -> Result<pb::AgentChannelResponse, UplinkError> {
        let message = self.down.message().await?.ok_or(UplinkError::Closed)?;
        self.heard = Instant::now();
        Ok(message)
    }

    /// Says something of a step run.
    ///
    /// # Errors
    /// The channel is over.
    pub(super) fn say(&self, say: Say) -> Result<(), UplinkError> {
        self.send(say.request_id, Payload::StepRunStatus(say.update))
    }

    /// A sign of life.
    ///
    /// # Errors
    /// The channel is over.
    pub(super) fn alive(&self, executing: usize, most: usize) -> Result<(), UplinkError> {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let heartbeat = pb::HeartbeatData {
            timestamp: now() / 1_000,
            status: AgentStatus::Online.into(),
            running_step_runs_count: number(executing),
            max_concurrent_step_runs: number(most),
        };
        self.send("alive".into(), Payload::Heartbeat(heartbeat))
    }

    fn send(&self, request_id: String, payload: Payload) -> Result<(), UplinkError> {
        let request = pb::AgentChannelRequest { agent_id: self.agent_id.clone(), request_id, payload: Some(payload) };
        // A full queue is a network that does not move.
        self.up.try_send(request).map_err(|_| UplinkError::Closed)
    }
}
