//! The HTTP clients: for remote servers, and for authorization servers.

use std::{path::PathBuf, time::Duration};

use reqwest::redirect::Policy;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How many redirects are followed, all within one origin.
const REDIRECTS: usize = 5;

/// Which certificates to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// A PEM file of certificates to trust in addition to the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Accept any certificate.
    pub(crate) insecure: bool,
}

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
enum Redirected {
    #[error(
        "{from} redirects to {to}, which is not followed; if that is intended, configure the URL that it redirects to"
    )]
    Elsewhere { from: String, to: String },
    #[error("it redirects more than {REDIRECTS} times")]
    TooOften,
}

/// A client for remote servers; an error says which setting is wrong.
pub(crate) fn client(tls: &Tls) -> Result<reqwest::Client, String> {
    // The headers are sent to the new URL too, and may be secret.
    let within_one_origin = Policy::custom(|attempt| {
        let from = attempt.previous().first().map(|from| from.origin().ascii_serialization());
        let from = from.unwrap_or_default();
        let to = attempt.url().origin().ascii_serialization();
        if from != to {
            attempt.error(Redirected::Elsewhere { from, to })
        } else if attempt.previous().len() > REDIRECTS {
            attempt.error(Redirected::TooOften)
        } else {
            attempt.follow()
        }
    });
    built(builder(tls, within_one_origin)?)
}

/// Clients for documents of authorization servers, which are where they are said to be: elsewhere, and on this machine.
pub(crate) fn clients_without_redirects(tls: &Tls) -> Result<(reqwest::Client, reqwest::Client), String> {
    let elsewhere = builder(tls, Policy::none())?;
    let here = builder(tls, Policy::none())?.no_proxy();
    Ok((built(elsewhere)?, built(here)?))
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|error| super::transport::chain(&error))
}

fn builder(tls: &Tls, redirects: Policy) -> Result<reqwest::ClientBuilder, String> {
    // Fails from the second call on, because the same provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .user_agent(concat!("mcp-sse/", env!("CARGO_PKG_VERSION")))
        .redirect(redirects);
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
    Ok(builder)
}
