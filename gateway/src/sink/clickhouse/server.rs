//! The server: a client with password and certificates as they are now, and a bound on how long it may be silent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clickhouse::Client;
use clickhouse::error::Error;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure;
use super::settings::ClickHouseSettings;
use super::tls;
use crate::sink::DeliveryError;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection is kept so long for the next request; the server keeps it 3 s or longer.
const IDLE: Duration = Duration::from_secs(2);

/// A ClickHouse server. Cloning shares it.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the client: it knows the password.
        self.shared.settings.fmt(f)
    }
}

struct Shared {
    settings: ClickHouseSettings,
    client: ArcSwap<Client>,
    preparing: Semaphore,
}

impl Server {
    /// The server that the settings name; nothing is asked of it yet.
    #[must_use]
    pub fn new(settings: ClickHouseSettings) -> Self {
        // Password and certificates come with the first `renew`; a file that cannot be read is no reason not to start.
        let client = ArcSwap::from_pointee(client(&settings, tcp()));
        let server = Self { shared: Arc::new(Shared { settings, client, preparing: Semaphore::new(1) }) };
        if let Err(error) = server.renew() {
            tracing::warn!(%error, "ClickHouse cannot be used yet");
        }
        server
    }

    /// What is set.
    #[must_use]
    pub fn settings(&self) -> &ClickHouseSettings {
        &self.shared.settings
    }

    /// A client whose requests go to the database.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::clone(&self.shared.client.load())
    }

    /// Waits until nobody else of this process gets the server ready.
    pub(super) async fn alone(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.shared.preparing.acquire().await.ok()
    }

    /// Reads the password and the certificates again. Small files, once for each try to get ready.
    ///
    /// # Errors
    /// A file cannot be read, or there are no certificates.
    pub fn renew(&self) -> Result<(), DeliveryError> {
        let settings = &self.shared.settings;
        let mut client = if settings.url.starts_with("https:") {
            let connector = tls::connector(tcp(), settings.tls_ca_file.as_deref()).map_err(DeliveryError::not_ready)?;
            client(settings, connector)
        } else {
            Client::clone(&self.shared.client.load())
        };
        if let Some(path) = &settings.password_file {
            client = client.with_password(read_password(path)?);
        }
        self.shared.client.store(Arc::new(client));
        Ok(())
    }

    /// Waits for an answer, as long as the server may be silent.
    ///
    /// # Errors
    /// What the error means for a delivery.
    pub async fn answer<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, DeliveryError> {
        let limit = self.shared.settings.timeout;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| self.failure(&error)),
            Err(_) => Err(DeliveryError::transient(failure::silent(self.url(), limit))),
        }
    }

    /// What an error of the server means for a delivery.
    #[must_use]
    pub fn failure(&self, error: &Error) -> DeliveryError {
        failure::classify(self.url(), error)
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.settings.url
    }
}

/// Not the crate's own: that one waits for an answer to a small packet before it sends the next.
fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_WITHIN));
    connector.set_keepalive(Some(Duration::from_secs(60)));
    connector
}

fn client<C: Connect + Clone + Send + Sync + 'static>(settings: &ClickHouseSettings, connector: C) -> Client {
    Client::with_http_client(HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector))
        .with_url(&settings.url)
        .with_database(&settings.database)
        .with_user(&settings.user)
        .with_compression(settings.compression.into())
        .with_product_info("arcgate", env!("CARGO_PKG_VERSION"))
}

fn read_password(path: &PathBuf) -> Result<String, DeliveryError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        DeliveryError::not_ready(format!("cannot read {} (clickhouse.password_file): {error}", path.display()))
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
