//! `/metrics` for Prometheus; `/livez` (the process answers) and `/readyz` (it takes input) for whoever watches over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arcgate_gateway::gateway::Gateway;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the buckets of all histograms of seconds: from an empty queue to a stuck disk.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Of all histograms of bytes.
const BYTES: [f64; 8] = [1e3, 1e4, 1e5, 5e5, 1e6, 4e6, 1.6e7, 6.4e7];
/// Of all other histograms: they count things (events a commit, lines a batch).
const COUNTS: [f64; 8] = [1.0, 10.0, 50.0, 100.0, 500.0, 1e3, 5e3, 1e4];
/// How often histograms are put in order while nobody asks for them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Whether the gateway takes input. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether it does from now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Begins to count. Called once, inside the runtime, before anything is counted.
///
/// # Errors
/// Something else counts already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)?
        .install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// The routes of this module.
pub fn router(metrics: PrometheusHandle, readiness: Readiness, gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state((readiness, gateway)))
        .route("/metrics", get(render).with_state(metrics))
}

async fn readyz(State((readiness, gateway)): State<(Readiness, Arc<Gateway>)>) -> impl IntoResponse {
    match (readiness.is_ready(), gateway.ready()) {
        (true, Ok(())) => (StatusCode::OK, "ready\n".to_owned()),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n".to_owned()),
        (_, Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn render(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}
