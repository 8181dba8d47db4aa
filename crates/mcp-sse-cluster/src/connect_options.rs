//! What a connection to an engine needs beside its URL.

use std::path::PathBuf;

/// Files for a connection to an engine: whom to trust, and who this client is. A user and a password, or a token, are
/// parts of the URL.
///
/// The files are read once, when the connection is made for the first time.
///
/// ```
/// use mcp_sse_cluster::ConnectOptions;
///
/// let options = ConnectOptions::new()
///     .ca_file("/etc/mcp-sse/ca.pem")
///     .client_certificate("/etc/mcp-sse/replica.pem", "/etc/mcp-sse/replica.key");
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until they are given to `connect_with`"]
pub struct ConnectOptions {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) credentials_file: Option<PathBuf>,
}

impl ConnectOptions {
    /// No files: the system's authorities are trusted, and the URL says who this client is.
    pub fn new() -> Self {
        Self::default()
    }

    /// A PEM file of certificates to trust in addition to the system's, for TLS.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// PEM files of the certificate that this client shows, with what leads to its authority, and of its key, for TLS.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// A credentials file of NATS (`.creds`): a user's JWT and the seed of its key. Only for [`Nats`](crate::Nats).
    pub fn credentials_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.credentials_file = Some(file.into());
        self
    }
}
