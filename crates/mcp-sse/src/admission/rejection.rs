//! Why a request is refused, as data. The transport turns it into a response.

use http::StatusCode;

use crate::auth::Denial;

/// Why a request was refused. Each reason has one status and one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    MethodNotAllowed {
        allow: &'static str,
    },
    InvalidContentType,
    InvalidHost,
    InvalidOrigin,
    /// By the authenticator.
    Denied(Box<Denial>),
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
    /// Too much is under way to the replica that holds the session.
    ReplicaBusy,
    /// It cannot be reached.
    ReplicaAway,
    /// It does not answer.
    ReplicaSilent,
}

impl Rejection {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::InvalidContentType
            | Self::SessionIdRequired
            | Self::InvalidSessionId
            | Self::InvalidMessage
            | Self::DuplicateRequestId
            | Self::BodyUnreadable => StatusCode::BAD_REQUEST,
            Self::InvalidHost => StatusCode::MISDIRECTED_REQUEST,
            Self::Denied(denial) => denial.status(),
            Self::InvalidOrigin | Self::OtherIdentity => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::SessionNotFound => StatusCode::NOT_FOUND,
            Self::SessionBusy
            | Self::TooManySessions
            | Self::TooManySessionsOfAddress
            | Self::ShuttingDown
            | Self::ReplicaBusy
            | Self::ReplicaAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::ReplicaSilent => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed { .. } => "",
            Self::InvalidContentType => "Invalid Content-Type header",
            Self::InvalidHost => "Invalid Host header",
            Self::InvalidOrigin => "Invalid Origin header",
            Self::Denied(denial) => denial.text(),
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
            Self::ReplicaBusy => "Too much is on its way to the replica that holds the session, try again",
            Self::ReplicaAway => "The replica that holds the session cannot be reached now, try again",
            Self::ReplicaSilent => {
                "The replica that holds the session does not answer; it may have taken the message, once"
            }
        }
    }

    /// The reason as one word, for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::InvalidContentType => "invalid_content_type",
            Self::InvalidHost => "invalid_host",
            Self::InvalidOrigin => "invalid_origin",
            Self::Denied(denial) => match denial.status() {
                StatusCode::UNAUTHORIZED => "unauthorized",
                StatusCode::FORBIDDEN => "forbidden",
                _ => "authentication_unavailable",
            },
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyUnreadable => "body_unreadable",
            Self::SessionIdRequired => "session_id_required",
            Self::InvalidSessionId => "invalid_session_id",
            Self::SessionNotFound => "session_not_found",
            Self::OtherIdentity => "other_identity",
            Self::InvalidMessage => "invalid_message",
            Self::DuplicateRequestId => "duplicate_request_id",
            Self::SessionBusy => "session_busy",
            Self::TooManySessions => "too_many_sessions",
            Self::TooManySessionsOfAddress => "too_many_sessions_of_address",
            Self::ShuttingDown => "shutting_down",
            Self::NoRandomness => "no_randomness",
            Self::ReplicaBusy => "replica_busy",
            Self::ReplicaAway => "replica_away",
            Self::ReplicaSilent => "replica_silent",
        }
    }
}
