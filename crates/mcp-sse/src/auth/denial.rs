//! Why a request is not let in.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

/// Why a request is not let in, as the client is told.
///
/// ```
/// use http::HeaderValue;
/// use mcp_sse::Denial;
///
/// let denial = Denial::unauthorized(HeaderValue::from_static("Bearer")).with_text("the key has expired");
/// assert_eq!(denial.status(), 401);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    status: StatusCode,
    challenge: Option<HeaderValue>,
    retry_after: Option<Duration>,
    text: &'static str,
}

impl Denial {
    /// 401: the request has no credentials, or they are not valid. `challenge` is the value of the header
    /// `WWW-Authenticate`, which says how a client can authenticate (RFC 9110, section 11.6.1).
    pub fn unauthorized(challenge: HeaderValue) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(challenge),
            retry_after: None,
            text: "Unauthorized",
        }
    }

    /// 403: the credentials are valid, but not enough. `challenge` says what would be, as with the scope of RFC 6750,
    /// section 3.1.
    pub fn forbidden(challenge: HeaderValue) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            challenge: Some(challenge),
            retry_after: None,
            text: "Forbidden",
        }
    }

    /// 503 with `Retry-After`: the credentials cannot be checked now. `retry_after` counts in whole seconds, at least
    /// one.
    pub fn unavailable(retry_after: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            challenge: None,
            retry_after: Some(retry_after),
            text: "Service Unavailable",
        }
    }

    /// The body of the response, in plain text. Default: the name of the status.
    #[must_use]
    pub fn with_text(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn text(&self) -> &'static str {
        self.text
    }

    /// Seconds for the header `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.retry_after.map(|time| time.as_secs().max(1))
    }

    pub(crate) fn challenge(&self) -> Option<&HeaderValue> {
        self.challenge.as_ref()
    }
}
