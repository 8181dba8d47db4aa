//! What a request must pass before it may touch a session. The order and the answers are those of the
//! wire contract; existing clients and tests match on the texts.
//!
//! Passing yields [`Admitted`], which the next step asks for: no path can skip the checks.

mod authority;
pub(crate) mod body;
pub(crate) mod cors;
mod principal;
mod security;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};

#[cfg(fuzzing)]
pub(crate) use self::authority::{Authority, Origin, Pattern};
pub(crate) use self::security::Names;
pub use self::{cors::Guarded, principal::Principal, security::TransportSecuritySettings};
use crate::{body::Body, sessions::Full};

/// A request whose method, content type, host and origin were checked.
#[derive(Debug)]
pub(crate) struct Admitted(());

/// Why a request was refused. Each is one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    MethodNotAllowed { allow: &'static str },
    InvalidContentType,
    InvalidHost,
    InvalidOrigin,
    BodyTooLarge,
    BodyTimeout,
    BodyUnreadable,
    SessionIdRequired,
    InvalidSessionId,
    SessionNotFound,
    OtherIdentity,
    InvalidMessage,
    DuplicateRequestId,
    SessionBusy,
    TooManySessions,
    TooManySessionsOfAddress,
    ShuttingDown,
    NoRandomness,
}

impl Rejection {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidContentType
            | Self::SessionIdRequired
            | Self::InvalidSessionId
            | Self::InvalidMessage
            | Self::DuplicateRequestId
            | Self::BodyUnreadable => StatusCode::BAD_REQUEST,
            Self::InvalidHost => StatusCode::MISDIRECTED_REQUEST,
            Self::InvalidOrigin | Self::OtherIdentity => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::SessionNotFound => StatusCode::NOT_FOUND,
            Self::SessionBusy
            | Self::TooManySessions
            | Self::TooManySessionsOfAddress
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::MethodNotAllowed { .. } => "",
            Self::InvalidContentType => "Invalid Content-Type header",
            Self::InvalidHost => "Invalid Host header",
            Self::InvalidOrigin => "Invalid Origin header",
            Self::BodyTooLarge => "Request body too large",
            Self::BodyTimeout => "Request body took too long",
            Self::BodyUnreadable => "Could not read request body",
            Self::SessionIdRequired => "session_id is required",
            Self::InvalidSessionId => "Invalid session ID",
            Self::SessionNotFound => "Could not find session",
            Self::OtherIdentity => {
                "A header that says who the client is has another value than before in this session; open a session of your own"
            }
            Self::InvalidMessage => "Could not parse message",
            Self::DuplicateRequestId => "A request with this id is still in flight",
            Self::SessionBusy => "Session is busy, try again",
            Self::TooManySessions => "Too many sessions, try again later",
            Self::TooManySessionsOfAddress => "Too many sessions from this address, try again later",
            Self::ShuttingDown => "Server is shutting down",
            Self::NoRandomness => "Could not make a session ID",
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = text(self.status(), self.text());
        let headers = response.headers_mut();
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Full> for Rejection {
    fn from(full: Full) -> Self {
        match full {
            Full::Draining => Self::ShuttingDown,
            Full::Sessions | Full::SilentSessions | Full::SessionsOfPrincipal => Self::TooManySessions,
            Full::SessionsOfAddress | Full::RateOfAddress => Self::TooManySessionsOfAddress,
        }
    }
}

/// A short answer in plain text.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    if !text.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    response
}

/// Checks a request for a stream.
pub(crate) fn admit_get(parts: &Parts, names: &Names) -> Result<Admitted, Rejection> {
    check_method(&parts.method, &Method::GET, "GET")?;
    names.check(&parts.uri, &parts.headers)?;
    Ok(Admitted(()))
}

/// Checks a request for something beside the transport.
pub(crate) fn admit_other(parts: &Parts, names: &Names) -> Result<Admitted, Rejection> {
    names.check(&parts.uri, &parts.headers)?;
    Ok(Admitted(()))
}

/// Checks the head of a request that brings a message.
pub(crate) fn admit_post(parts: &Parts, names: &Names) -> Result<Admitted, Rejection> {
    check_method(&parts.method, &Method::POST, "POST")?;
    check_content_type(&parts.headers)?;
    names.check(&parts.uri, &parts.headers)?;
    Ok(Admitted(()))
}

fn check_method(method: &Method, expected: &Method, allow: &'static str) -> Result<(), Rejection> {
    if method == expected { Ok(()) } else { Err(Rejection::MethodNotAllowed { allow }) }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = values.next().and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
        essence.trim_matches([' ', '\t']).eq_ignore_ascii_case("application/json")
    });
    if is_json && values.next().is_none() { Ok(()) } else { Err(Rejection::InvalidContentType) }
}

/// The `session_id` of a query, still to be read as an id.
pub(crate) fn session_id(query: Option<&str>) -> Result<crate::SessionId, Rejection> {
    let mut values = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name == "session_id")
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None | Some(""), _) => Err(Rejection::SessionIdRequired),
        // Two would let whatever stands in front of us see another session than we do.
        (Some(_), Some(_)) => Err(Rejection::InvalidSessionId),
        (Some(value), None) => crate::SessionId::parse(value).ok_or(Rejection::InvalidSessionId),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_is_json_in_any_case_with_any_parameters() {
        let passes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            check_content_type(&headers).is_ok()
        };
        assert!(passes("application/json") && passes("Application/JSON; charset=utf-8"));
        assert!(passes("application/json ;x") && passes(" application/json"));
        for bad in
            ["application/jsonseq", "application/json-rpc", "text/plain", "", "json", "application/json,"]
        {
            assert!(!passes(bad), "{bad}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_session_id_is_one_parameter_of_the_query() {
        const HEX: &str = "0123456789abcdef0123456789abcdef";
        let id = crate::SessionId::parse(HEX).unwrap();
        assert_eq!(session_id(Some(&format!("session_id={HEX}"))), Ok(id));
        assert_eq!(session_id(Some(&format!("a=b&session_id={HEX}&c"))), Ok(id));
        assert_eq!(session_id(None), Err(Rejection::SessionIdRequired));
        for missing in ["", "session_id", "session_id=", "Session_id=1", "a=session_id"] {
            assert_eq!(session_id(Some(missing)), Err(Rejection::SessionIdRequired), "{missing}");
        }
        for bad in ["session_id=1", "session_id=%30", &format!("session_id={HEX}&session_id={HEX}")] {
            assert_eq!(session_id(Some(bad)), Err(Rejection::InvalidSessionId), "{bad}");
        }
    }
}
