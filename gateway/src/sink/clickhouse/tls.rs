//! A connection over TLS: who may vouch for the server.

use std::path::Path;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Connects over TLS to servers that are vouched for by an authority in `ca_file` (PEM), else by one of the system's.
///
/// # Errors
/// In words for an operator: there are no certificates, or none that can be read.
pub(super) fn connector(mut tcp: HttpConnector, ca_file: Option<&Path>) -> Result<HttpsConnector<HttpConnector>, String> {
    let roots = match ca_file {
        Some(path) => from_file(path)?,
        None => from_system()?,
    };
    tcp.enforce_http(false);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(tcp))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let unusable = |what: &dyn std::fmt::Display| {
        format!("clickhouse.tls_ca_file = \"{}\" holds no certificates that can be used (PEM): {what}", path.display())
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err(unusable(&"it is empty")) } else { Ok(roots) }
}

fn from_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this system has no certificates of authorities{why}, so no server can be trusted over TLS; install them (the package \
             ca-certificates), or name a file of them with clickhouse.tls_ca_file"
        ));
    }
    Ok(roots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_told_by_its_name_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authority.pem");
        for content in [None, Some("no certificate"), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let why = connector(HttpConnector::new(), Some(&path)).unwrap_err();
            assert!(why.starts_with("clickhouse.tls_ca_file = \"") && why.contains("authority.pem"), "{why}");
        }
    }
}
