//! Why a request is not let in.

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
    text: &'static str,
}

impl Denial {
    /// 401: the request has no credentials, or they are not valid. `challenge` is the value of the header
    /// `WWW-Authenticate`, which says how a client can authenticate (RFC 9110, section 11.6.1).
    pub fn unauthorized(challenge: HeaderValue) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, challenge: Some(challenge), text: "Unauthorized" }
    }

    /// The body of the response, in plain text. Default: `Unauthorized`.
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

    pub(crate) fn challenge(&self) -> Option<&HeaderValue> {
        self.challenge.as_ref()
    }
}
