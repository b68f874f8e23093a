//! Registration: the agent's process begins. Once a process; what it had started before is lost from then on.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use arcgate_api::agent::v1::agent_service_client::AgentServiceClient;
use arcgate_api::agent::v1::{RegisterRequest, RegisterResponse, UnregisterRequest};
use arcgate_gateway::backoff::Backoff;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::diary::Diary;
use super::state::{Own, StateFolder};
use crate::push::target::{PATIENCE, Target, UplinkError};

/// Where a registration token is, if no file is named.
const VARIABLE: &str = "ARCGATE_REGISTRATION_TOKEN";
/// The longest pause before another try.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the agent says of itself.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) name: String,
    pub(super) labels: HashMap<String, String>,
    pub(super) most: usize,
}

/// An agent that is registered.
pub(super) struct Registered {
    pub(super) own: Own,
    /// How often it is to give a sign of life.
    pub(super) interval: Duration,
}

/// Registers, with the token that was kept or else with a registration token. Tries until it is answered.
///
/// # Errors
/// In words for people: the token is refused, or needed and not there, or the answer cannot be kept.
pub(super) async fn register(
    target: &Target,
    folder: &StateFolder,
    registration_file: Option<&Path>,
    who: &Introduction,
    diary: &Diary,
) -> Result<Registered, String> {
    let own = folder.own()?;
    let mut request = introduce(who);
    match &own {
        Some(own) => (request.agent_id, request.token) = (own.agent_id.clone(), own.token.clone()),
        None => request.registration_token = registration_token(registration_file)?,
    }
    let answer = ask(target, request, diary).await.map_err(|status| refused(&status, own.is_some(), folder))?;
    if !answer.success || answer.agent_id.is_empty() {
        return Err(format!("the control plane did not register this agent: {}", answer.message));
    }
    let own = match own.filter(|_| answer.auth_token.is_empty()) {
        Some(own) => own,
        None => {
            let own = Own { agent_id: answer.agent_id, token: answer.auth_token };
            let file = folder.own_file();
            folder.keep(&own).map_err(|error| format!("cannot keep this agent's token in {}: {error}", file.display()))?;
            own
        }
    };
    if answer.pending_approval {
        diary.say(&format!("agent {} waits for somebody's approval; it gets no work until then", own.agent_id));
    }
    Ok(Registered { own, interval: interval(answer.heartbeat_interval) })
}

/// How often to give a sign of life, from how it was said: in seconds.
pub(super) fn interval(seconds: i64) -> Duration {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).unwrap_or(60);
    Duration::from_secs(seconds.min(3_600))
}

/// Signs off: what the agent still has is given to others, or has failed, at once.
pub(super) async fn unregister(target: &Target, own: &Own, reason: &str) -> Result<(), UplinkError> {
    let request = UnregisterRequest { agent_id: own.agent_id.clone(), reason: reason.to_owned() };
    let call = async {
        AgentServiceClient::new(target.channel().await?).unregister(target.request(request)).await?;
        Ok(())
    };
    timeout(PATIENCE, call).await.unwrap_or(Err(UplinkError::Silent))
}

fn introduce(who: &Introduction) -> RegisterRequest {
    RegisterRequest {
        agent_name: who.name.clone(),
        // As Go writes them, which pipelines' selectors are written for.
        os: std::env::consts::OS.to_owned(),
        arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        max_concurrent_step_runs: i32::try_from(who.most).unwrap_or(i32::MAX),
        labels: who.labels.clone(),
        ..RegisterRequest::default()
    }
}

/// Asks until there is an answer.
async fn ask(target: &Target, request: RegisterRequest, diary: &Diary) -> Result<RegisterResponse, tonic::Status> {
    let mut backoff = Backoff::between(Backoff::FIRST, LONGEST_WAIT);
    loop {
        let call = async {
            let mut client = AgentServiceClient::new(target.channel().await?);
            // Without the token as metadata: the call is open to all, and the request carries what it needs.
            Ok::<_, UplinkError>(client.register(request.clone()).await?.into_inner())
        };
        match timeout(PATIENCE, call).await.unwrap_or(Err(UplinkError::Silent)) {
            Ok(answer) => return Ok(answer),
            Err(UplinkError::Refused(status)) if is_final(status.code()) => return Err(*status),
            Err(why) => {
                diary.say(&format!("cannot register yet: {why}; trying again"));
                sleep(backoff.wait()).await;
            }
        }
    }
}

/// Whether another try would be answered in the same way.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition
    )
}

fn refused(status: &tonic::Status, known: bool, folder: &StateFolder) -> String {
    let what = format!("the control plane refuses this agent: {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound if known => {
            let file = folder.own_file();
            format!("{what}; to register it as a new agent, remove {} and give --registration-token-file", file.display())
        }
        Code::Unauthenticated => format!("{what}; give another --registration-token-file"),
        Code::InvalidArgument if !known => format!(
            "{what}; for the first start give --registration-token-file, or {VARIABLE}: `arcgate token create --role agent` makes a token"
        ),
        _ => what,
    }
}

/// The token to register with; empty where none is given, which is enough for a gateway that asks nobody who they are.
fn registration_token(file: Option<&Path>) -> Result<String, String> {
    let Some(file) = file else {
        let token = std::env::var(VARIABLE).unwrap_or_default();
        return Ok(token.trim().to_owned());
    };
    let bearer = crate::bearer::header(file).map_err(|error| error.to_string())?;
    Ok(bearer.trim_start_matches("Bearer ").to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signs_of_life_have_a_sane_interval() {
        assert_eq!([-1, 0, 5, 1 << 40].map(|seconds| interval(seconds).as_secs()), [60, 60, 5, 3_600]);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::take(root.path()).unwrap();
        let status = tonic::Status::unauthenticated("invalid token");
        assert!(refused(&status, true, &folder).contains("agent.json"));
        assert!(refused(&status, false, &folder).contains("another --registration-token-file"));
    }
}
