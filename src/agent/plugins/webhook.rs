//! `webhook`: calls an address over HTTP or HTTPS. Anything but a 2xx answer fails the step.
//!
//! | argument | |
//! |---|---|
//! | `url` | the address |
//! | `method` | POST if absent |
//! | `headers` | names and values |
//! | `body` (or `payload`) | a text, or anything else as JSON |

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{Work, args};
use crate::agent::step::Ending;
use crate::push::spool::Stream;

/// How long the call may take, its answer included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of an answer is shown.
const ANSWER_BYTES: usize = 16 << 10;

pub(super) async fn run(work: &Work<'_>) -> Ending {
    let request = match request(&work.args) {
        Ok(request) => request,
        Err(why) => return Ending::failed(why),
    };
    let called = async {
        if request.uri().scheme_str() == Some("https") {
            call(Client::builder(TokioExecutor::new()).build(over_tls()?), request).await
        } else {
            call(Client::builder(TokioExecutor::new()).build_http(), request).await
        }
    };
    match timeout(PATIENCE, called).await {
        Err(_) => Ending::failed(format!("the address did not answer within {}s", PATIENCE.as_secs())),
        Ok(Err(why)) => Ending::failed(why),
        Ok(Ok((status, body))) => {
            if !body.is_empty() {
                work.log.write(Stream::Stdout, &body);
            }
            if status.is_success() { Ending::Succeeded } else { Ending::failed(format!("the address answered {status}")) }
        }
    }
}

async fn call<C>(client: Client<C, Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<(http::StatusCode, String), String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let failed = |error: &dyn std::error::Error| format!("cannot call the address: {}", crate::push::target::root_of(error));
    let answer = client.request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status();
    // An answer that is longer, or breaks, is not shown: its status is what counts.
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The call that the arguments ask for.
pub(super) fn request(args: &Map<String, Value>) -> Result<Request<Full<Bytes>>, String> {
    let url = args::text(args, "url").ok_or("there is no address to call; give args.url")?;
    let uri: Uri = url.parse().map_err(|error| format!("args.url is no address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err("args.url is no address; write http://host/path or https://host/path".to_owned());
    }
    let method = args::text(args, "method").unwrap_or_else(|| "POST".to_owned()).to_ascii_uppercase();
    let method: Method = method.parse().map_err(|_| format!("args.method {method:?} is no method of HTTP"))?;
    let body = args.get("body").or_else(|| args.get("payload"));
    let mut request = Request::builder().method(method).uri(uri);
    if body.is_some_and(|body| !body.is_string()) {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in args.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        request = request.header(name, value);
    }
    let body = match body {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    request.body(Full::new(Bytes::from(body))).map_err(|error| format!("args.headers cannot be sent: {error}"))
}

fn over_tls() -> Result<hyper_rustls::HttpsConnector<HttpConnector>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this agent's system has no certificates of authorities; install them (the package ca-certificates)".to_owned()
        );
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build())
}
