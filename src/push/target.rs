//! The gateway that is pushed to: its address, its token, connections to it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use arcgate_api::gateway::v1::gateway_service_client::GatewayServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// How long a connection, a call's beginning or an answer may take before the gateway counts as away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a gateway could not be used. All of these are worth another try, since gateways are restarted and settings mended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UplinkError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The gateway refused the call or ended it.
    #[error("{:?}: {}", .0.code(), words_of(.0))]
    Refused(Box<tonic::Status>),
    /// The gateway closed the stream in the middle.
    #[error("the gateway closed the stream")]
    Closed,
    /// No answer in time.
    #[error("no answer within {}s", PATIENCE.as_secs())]
    Silent,
    /// The gateway took nothing, and said why.
    #[error("not accepted: {0}")]
    NotAccepted(String),
}

impl UplinkError {
    /// What to say while lines and events wait for another try.
    #[must_use]
    pub(crate) fn while_waiting(&self) -> String {
        let todo = match self {
            Self::Refused(status) => match status.code() {
                Code::Unimplemented => "what answers there is not the gRPC port of a gateway; check --server",
                Code::Unauthenticated => "the gateway wants a token that it knows; give --token-file",
                Code::PermissionDenied => "the token may not do that; give another --token-file",
                // What else does not speak gRPC breaks the connection; so does a gateway that is killed.
                Code::Unknown => "they go when the gateway is back; if it is there, check that --server is its gRPC port",
                _ => "they go when the gateway is back",
            },
            _ => "they go when the gateway is back",
        };
        format!("lines and events wait: {todo}: {self}")
    }
}

impl From<tonic::Status> for UplinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// A gateway's address and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    endpoint: Endpoint,
    token: Option<MetadataValue<Ascii>>,
}

impl Target {
    /// The gateway at `server` (`http://host:port` or `host:port`), with the first token of `token_file`.
    ///
    /// # Errors
    /// The address cannot be used, or the file holds no token; said in words for people.
    pub(crate) fn new(server: &str, token_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self { endpoint: endpoint(server)?, token: token_file.map(read_token).transpose()? })
    }

    /// The same gateway, with this token.
    ///
    /// # Errors
    /// The token is none that a client could send; said in words for people, without it.
    pub(crate) fn with_token(&self, token: &str) -> Result<Self, String> {
        Ok(Self { endpoint: self.endpoint.clone(), token: Some(bearer(&format!("Bearer {token}"))?) })
    }

    /// Whether `server` is an address at all.
    #[must_use]
    pub(crate) fn is_address(server: &str) -> bool {
        endpoint(server).is_ok()
    }

    /// A client on a new connection.
    ///
    /// # Errors
    /// No connection.
    pub(crate) async fn connect(&self) -> Result<GatewayServiceClient<Channel>, UplinkError> {
        Ok(GatewayServiceClient::new(self.channel().await?))
    }

    /// A new connection, for another client.
    ///
    /// # Errors
    /// No connection.
    pub(crate) async fn channel(&self) -> Result<Channel, UplinkError> {
        self.endpoint.connect().await.map_err(|error| UplinkError::Connect(root_of(&error)))
    }

    /// A request that carries the token.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

fn endpoint(server: &str) -> Result<Endpoint, String> {
    let url = match server.split_once("://") {
        None => format!("http://{server}"),
        Some(("http", _)) => server.to_owned(),
        Some((other, _)) => {
            return Err(format!("--server \"{server}\": \"{other}\" is not spoken; give http://host:port"));
        }
    };
    Endpoint::from_shared(url)
        .map_err(|error| format!("--server \"{server}\" is not an address: {error}; give http://host:port"))?
        .connect_timeout(PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true)
        .user_agent(concat!("arcgate/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| error.to_string())
}

fn read_token(path: &Path) -> Result<MetadataValue<Ascii>, String> {
    bearer(&crate::bearer::header(path).map_err(|error| error.to_string())?)
}

fn bearer(header: &str) -> Result<MetadataValue<Ascii>, String> {
    let mut value = MetadataValue::try_from(header).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a status says; of a broken connection, why it broke.
fn words_of(status: &tonic::Status) -> String {
    if status.source().is_some() { root_of(status) } else { status.message().to_owned() }
}

/// The innermost cause, which is the one that tells people something.
pub(crate) fn root_of(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_scheme() {
        for server in ["http://127.0.0.1:9090", "localhost:9090", "[::1]:1"] {
            assert!(Target::new(server, None).is_ok(), "{server}");
        }
        for server in ["https://a:1", "grpc://a:1", "http://", "", "a b"] {
            assert!(Target::new(server, None).is_err() && !Target::is_address(server), "{server}");
        }
    }

    #[test]
    fn what_waits_is_told_with_what_to_do() {
        let said = |status: tonic::Status| UplinkError::from(status).while_waiting();
        assert!(said(tonic::Status::unimplemented("")).contains("check --server"));
        assert!(said(tonic::Status::unauthenticated("no")).contains("--token-file: Unauthenticated: no"));
        assert!(said(tonic::Status::unavailable("")).contains("is back"));
        assert!(UplinkError::Silent.while_waiting().contains("is back"));
    }

    #[test]
    fn the_token_is_sent_as_bearer_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# ours\nsecret\n").unwrap();
        let target = Target::new("a:1", Some(file.path())).unwrap();
        assert_eq!(target.request(()).metadata().get("authorization").unwrap(), "Bearer secret");
        assert!(!format!("{target:?}").contains("secret"));
        assert!(Target::new("a:1", Some(Path::new("/nowhere"))).is_err());
    }
}
