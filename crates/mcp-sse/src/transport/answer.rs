//! How rejections and accepted messages become responses: the one place where refusals are reported.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    admission::Rejection,
    body::Body,
    session::{
        core::Refusal,
        driver::{Common, Driver},
        facts::{self, SessionFact},
        registry::Full,
    },
};

/// What kind of request was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    Stream,
    Message,
    /// A request for another service on the same port.
    Other,
}

/// The response to a request that was refused, which observers are told.
pub(crate) fn refusal(common: Option<&Common>, what: Refused, rejection: Rejection) -> Response<Body> {
    let (status, reason) = (rejection.status(), rejection.text());
    if let Some(common) = common {
        common.observers.refused(&facts::Refusal { status, reason: rejection.word() });
    }
    match what {
        Refused::Stream => tracing::debug!(status = status.as_u16(), reason, "stream refused"),
        Refused::Message => tracing::debug!(status = status.as_u16(), reason, "message refused"),
        Refused::Other => tracing::debug!(status = status.as_u16(), reason, "request refused"),
    }
    let mut response = text(status, reason);
    let headers = response.headers_mut();
    match rejection {
        Rejection::MethodNotAllowed { allow } => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        Rejection::Denied(denial) => {
            if let Some(challenge) = denial.challenge() {
                headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
            }
            if let Some(seconds) = denial.retry_after() {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
        }
        _ => {}
    }
    if status == StatusCode::SERVICE_UNAVAILABLE && !headers.contains_key(header::RETRY_AFTER) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The response to a POST that was accepted.
pub(crate) fn accepted() -> Response<Body> {
    text(StatusCode::ACCEPTED, "Accepted")
}

/// The response to a preflight from an allowed origin.
pub(super) fn preflight(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    response
}

/// A short response in plain text.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    if !text.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    response
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

/// Why a session did not accept a message, as a rejection.
pub(super) fn rejection(session: &Driver, refusal: Refusal) -> Rejection {
    match refusal {
        // Where it goes on is not known yet.
        Refusal::Closed if session.has_left() => Rejection::ReplicaAway,
        Refusal::Closed => Rejection::SessionNotFound,
        Refusal::Draining => Rejection::ShuttingDown,
        Refusal::DuplicateId => Rejection::DuplicateRequestId,
        Refusal::Busy => {
            let (queued, in_flight, before) =
                session.with(|core, _| (core.queued(), core.requests_in_flight(), core.count_refusal()));
            let (inbound, outbound) = queued;
            // Once per session, so that a flood does not fill the log. The line of its end has the count.
            if before == 0 {
                session.tell(SessionFact::Busy { inbound, in_flight, outbound });
            }
            Rejection::SessionBusy
        }
    }
}
