//! The HTTP client for remote servers.

use std::{path::PathBuf, time::Duration};

use reqwest::redirect::Policy;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Redirects that are followed, within one origin, or from http to https.
const REDIRECTS: usize = 5;

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificates to trust beside the system's, in PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// Trust anybody.
    pub(crate) insecure: bool,
}

/// A client; an error says which setting is wrong.
pub(crate) fn client(tls: &Tls) -> Result<reqwest::Client, String> {
    // The second call finds the first one's provider, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .user_agent(concat!("mcp-sse/", env!("CARGO_PKG_VERSION")))
        // To another host the headers must not follow.
        .redirect(Policy::custom(|attempt| {
            let to = attempt.url();
            let same = attempt.previous().first().is_some_and(|from| {
                from.origin() == to.origin() || (from.host() == to.host() && to.scheme() == "https")
            });
            if same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
        }));
    if let Some(file) = &tls.ca_file {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|error| format!("--ca-file {shown}: {error}"))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("--ca-file {shown}: expected certificates in PEM: {error}"))?;
        if certificates.is_empty() {
            return Err(format!("--ca-file {shown}: expected certificates in PEM, found none"));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if tls.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|error| super::transport::chain(&error))
}
