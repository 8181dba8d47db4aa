//! What can be wrong with the settings of a transport.

/// Why a transport could not be made.
///
/// ```
/// use mcp_sse::{ConfigError, SseServerTransport};
///
/// let error = SseServerTransport::new("//evil.example/messages/").unwrap_err();
/// assert!(matches!(error, ConfigError::Endpoint { why: "a network-path reference", .. }));
///
/// let error = SseServerTransport::builder("/messages/").max_body_bytes(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "max_body_bytes must be at least 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The endpoint is not a relative path.
    #[error(
        "the endpoint {endpoint:?} is {why}; expected a relative path such as \"/messages/\": clients post to the origin that they opened the stream on"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What it is.
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
        /// The setting.
        setting: &'static str,
        /// Its range.
        expected: &'static str,
    },
}
