//! Who calls, for the calls of the control plane: the token becomes a [`Caller`] in the request's extensions.

use std::task::{Context, Poll};

use arcgate_control::agents::Caller;
use arcgate_gateway::access::{AuthError, bearer};
use arcgate_gateway::stop::Stop;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::auth::{Auth, SharedAuth};
use super::until_stop::UntilStop;

/// The one call that nobody needs a token of their own for: what it brings in itself says who may.
const REGISTER: &str = "/agent.v1.AgentService/Register";
/// What existing agents call without a token.
const OF_STOCK_AGENTS: [&str; 4] = [
    "/agent.v1.AgentService/Heartbeat",
    "/agent.v1.AgentService/ReportJobRunStatus",
    "/agent.v1.AgentService/ReportStepRunStatus",
    "/agent.v1.AgentService/Unregister",
];

/// See the module.
#[derive(Clone)]
pub(super) struct CallerLayer {
    auth: SharedAuth,
    stop: Stop,
}

impl CallerLayer {
    pub(super) fn new(auth: SharedAuth, stop: Stop) -> Self {
        Self { auth, stop }
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = Called<S>;

    fn layer(&self, inner: S) -> Called<S> {
        Called { inner, auth: self.auth.clone(), stop: self.stop.clone() }
    }
}

/// A service that is told who calls.
#[derive(Clone)]
pub(super) struct Called<S> {
    inner: S,
    auth: SharedAuth,
    stop: Stop,
}

impl<S> Service<Request<Body>> for Called<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let (auth, stop) = (self.auth.clone(), self.stop.clone());
        let call = async move {
            match caller(&auth, request.uri().path(), request.headers()).await {
                Ok(Some(caller)) => drop(request.extensions_mut().insert(caller)),
                Ok(None) => {}
                Err(AuthError::Unavailable) => return Ok(Status::unavailable(AuthError::Unavailable.to_string()).into_http()),
                Err(why) => return Ok(Status::unauthenticated(why.to_string()).into_http()),
            }
            let answer = inner.call(request).await?;
            Ok(answer.map(|body| Body::new(UntilStop::new(body, stop))))
        };
        call.boxed()
    }
}

/// Who calls; nobody where nobody has to.
async fn caller(auth: &Auth, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, AuthError> {
    let header = headers.get(AUTHORIZATION).map(|value| value.to_str().map_err(|_| AuthError::Malformed)).transpose()?;
    match (header, auth.caller(header.map(bearer).transpose()?).await) {
        (None, Err(AuthError::Missing)) if path == REGISTER => Ok(None),
        (None, Err(AuthError::Missing)) if auth.lets_stock_agents_in() && OF_STOCK_AGENTS.contains(&path) => {
            Ok(Some(Caller::StockAgent))
        }
        (_, caller) => caller.map(Some),
    }
}
