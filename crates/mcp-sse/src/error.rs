//! What can be wrong with the settings of a transport.

/// Why a transport could not be built.
///
/// ```
/// use mcp_sse::{ConfigError, SseServerTransport};
///
/// # let hosts_from_the_command_line = ["mcp.example.com"];
/// let settings = mcp_sse::TransportSecuritySettings::default()
///     .with_allowed_hosts(hosts_from_the_command_line);
/// match SseServerTransport::builder("/messages/").security(settings).build() {
///     Ok(sse) => drop(sse), // mount it
///     Err(ConfigError::AllowedHost(host)) => eprintln!("--allowed-host {host}: not a host"),
///     Err(error) => eprintln!("cannot start: {error}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The endpoint is not a relative path.
    #[error(
        "the endpoint {endpoint:?} is {why}; expected a relative path such as \"/messages/\": clients post to the origin that they opened the stream on"
    )]
    Endpoint {
        /// The endpoint that was given.
        endpoint: String,
        /// What it is instead, such as "a full URL".
        why: &'static str,
    },
    /// The mount prefix is not a path.
    #[error("the mount prefix {0:?} is not a path; expected one such as \"/api\"")]
    MountPrefix(String),
    /// An entry of `allowed_hosts` is not a host.
    #[error(
        "the allowed host {0:?} is not a host; expected \"mcp.example.com\", \"127.0.0.1:8000\", or \"localhost:*\" for any port"
    )]
    AllowedHost(String),
    /// An entry of `allowed_origins` is not an origin.
    #[error(
        "the allowed origin {0:?} is not an origin; expected \"https://app.example.com\", or \"http://localhost:*\" for any port"
    )]
    AllowedOrigin(String),
    /// A limit is out of its range.
    #[error("{setting} must be {expected}")]
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
        /// The range that it must be in, such as "at least 1".
        expected: &'static str,
    },
    /// Sessions are to be revived at other replicas, and there are none.
    #[error("revive needs a backplane: sessions are revived at other replicas")]
    ReviveWithoutBackplane,
}
