//! POST: takes a message into its session's queue.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, request::Parts};

use super::{Inner, SseServerTransport};
use crate::{
    Message, MessageKind, SessionId,
    admission::{self, Admitted, Rejection, body::BodyReader},
    body::Body,
    session::{core::Refusal, head::Head, shared::Shared},
};

/// What an inbound message counts beside its bytes and its headers.
const MESSAGE_OVERHEAD: usize = 512;
/// How much of a body of undeclared length is read before it has room in its session's queue. About what
/// the server buffers for a connection anyway.
const UNDECLARED_BYTES: usize = 64 * 1024;

impl SseServerTransport {
    pub(super) async fn try_post<B: http_body::Body>(
        &self,
        mut parts: Parts,
        body: B,
    ) -> Result<(), Rejection> {
        let Inner { limits, names, .. } = &*self.inner;
        let admitted = admission::admit_post(&parts, names)?;
        let body = pin!(body);
        let mut body = BodyReader::new(body, limits.body_bytes, limits.body_timeout)?;
        let session =
            admission::session_id(parts.uri.query()).and_then(|id| self.find_for_post(&admitted, id, &parts));
        let session = match session {
            Ok(session) => session,
            Err(rejection) => {
                // A body over the limit comes before a wrong session in the order of the checks.
                body.discard().await?;
                return Err(rejection);
            }
        };
        add_bound(&session, &mut parts);
        let head = head_bytes(&parts);
        let length = match body.declared() {
            Some(length) => length,
            // Most undeclared bodies are short: then their length is known before there is room for them.
            None if body.read_up_to(UNDECLARED_BYTES).await? => body.length(),
            None => limits.body_bytes,
        };
        let mut wait = limits.post_wait;
        let room = session.reserve(head.saturating_add(length), &mut wait).await;
        let room = room.map_err(|refusal| refused(&session, refusal))?;
        let json = body.read().await?;
        let cost = head + json.len();
        let message = self.parse(&session, json)?;
        let accepted = room.accept(message, Head::new(parts), cost, &mut wait).await;
        accepted.map_err(|refusal| refused(&session, refusal))
    }

    /// Checks the head of a request once for all that have the same; `length` is that of its body.
    #[cfg(feature = "server")]
    pub(crate) fn check_post(&self, mut parts: Parts, length: usize) -> Result<CheckedPost, Rejection> {
        let admitted = admission::admit_post(&parts, &self.inner.names)?;
        if length > self.inner.limits.body_bytes {
            return Err(Rejection::BodyTooLarge);
        }
        let id = admission::session_id(parts.uri.query())?;
        let session = self.find_for_post(&admitted, id, &parts)?;
        // Asked before they are added: what is decided meanwhile is there for the next message.
        let is_final = session.bound.get().is_none_or(crate::BoundHeaders::are_decided);
        add_bound(&session, &mut parts);
        let session = Arc::downgrade(&session);
        let cost = head_bytes(&parts);
        Ok(CheckedPost { _admitted: admitted, session, is_final, cost, head: Head::new(parts) })
    }

    /// Takes a message whose head was checked and whose body is there whole, if nothing has to be waited
    /// for; else it comes back, for [`post`](Self::post). `head` is the checked one but for its length.
    #[cfg(feature = "server")]
    pub(crate) fn post_at_once(
        &self,
        checked: &CheckedPost,
        head: Head,
        json: Bytes,
    ) -> Result<Result<(), Rejection>, (Head, Bytes)> {
        if json.len() > self.inner.limits.body_bytes {
            return Ok(Err(Rejection::BodyTooLarge));
        }
        let cost = checked.cost + json.len();
        let Some(session) = checked.session.upgrade() else { return Ok(Err(Rejection::SessionNotFound)) };
        let message = match self.parse(&session, json) {
            Ok(message) => message,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut content = Some((message, head));
        let accepted = session.accept_at_once(&mut content, cost);
        match (accepted, content) {
            (None, Some((message, head))) => Err((head, message.into_bytes())),
            (accepted, _) => {
                // It is always one of the two.
                let accepted = accepted.unwrap_or(Err(Refusal::Busy));
                Ok(accepted.map_err(|refusal| refused(&session, refusal)))
            }
        }
    }

    fn find_for_post(&self, _: &Admitted, id: SessionId, parts: &Parts) -> Result<Arc<Shared>, Rejection> {
        self.find(id, parts)
    }

    fn parse(&self, session: &Shared, json: Bytes) -> Result<Message, Rejection> {
        tracing::trace!(session = %session.id, message = %String::from_utf8_lossy(&json), "message from the client");
        let message = Message::parse(json).map_err(|error| {
            tracing::debug!(session = %session.id, %error, "message refused");
            Rejection::InvalidMessage
        })?;
        // A session whose turn in the spread of a shutdown has not come takes no new requests either.
        if matches!(message.kind(), MessageKind::Request { .. }) && self.inner.sessions.registry.is_draining()
        {
            return Err(Rejection::ShuttingDown);
        }
        session.speak()?;
        Ok(message)
    }
}

/// The head of a POST that passed the checks, and what they found.
#[cfg(feature = "server")]
pub(crate) struct CheckedPost {
    _admitted: Admitted,
    /// The registry forgets a session when it closes, and a closed session takes nothing.
    session: std::sync::Weak<Shared>,
    /// Another message may have the same head: other requests will not change what is added to it.
    pub(crate) is_final: bool,
    /// What the head counts in its session's queue.
    cost: usize,
    pub(crate) head: Head,
}

pub(crate) fn answer(posted: Result<(), Rejection>) -> Response<Body> {
    match posted {
        Ok(()) => admission::text(StatusCode::ACCEPTED, "Accepted"),
        Err(rejection) => {
            let (status, reason) = (rejection.status().as_u16(), rejection.text());
            tracing::debug!(status, reason, "message refused");
            rejection.into_response()
        }
    }
}

fn refused(session: &Shared, refusal: Refusal) -> Rejection {
    match refusal {
        Refusal::Closed => Rejection::SessionNotFound,
        Refusal::Draining => Rejection::ShuttingDown,
        Refusal::DuplicateId => Rejection::DuplicateRequestId,
        Refusal::Busy => {
            let (queued, in_flight, before) =
                session.with(|core, _| (core.queued(), core.requests_in_flight(), core.count_refusal()));
            let (inbound, outbound) = queued;
            // Once a session: a flood must not fill the log. The closing line has the count.
            if before == 0 {
                tracing::warn!(session = %session.id, inbound, in_flight, outbound, "message refused: the session is at a bound; its client sends faster than it reads, or its app is slow");
            }
            Rejection::SessionBusy
        }
    }
}

/// The app sees who the client is on each of its messages.
fn add_bound(session: &Shared, parts: &mut Parts) {
    if let Some(bound) = session.bound.get() {
        bound.add_to(&mut parts.headers);
    }
}

/// What the head of a request keeps in memory while its message waits, roughly.
fn head_bytes(parts: &Parts) -> usize {
    let headers: usize =
        HeaderMap::iter(&parts.headers).map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
    MESSAGE_OVERHEAD + headers + parts.uri.path().len() + parts.uri.query().map_or(0, str::len)
}
