//! POST: takes a message into its session's queue.

use std::{pin::pin, sync::Arc};

use http::{HeaderMap, request::Parts};

use super::{Inner, SseServerTransport};
use crate::{
    Message, MessageKind,
    admission::{self, Admitted, Rejection, body::BodyReader},
    session::{core::Refusal, shared::Shared},
};

/// What an inbound message counts beside its bytes and its headers.
const MESSAGE_OVERHEAD: usize = 512;
/// How much of a body of undeclared length is read before it has room in its session's queue. About what
/// the server buffers for a connection anyway.
const UNDECLARED_BYTES: usize = 64 * 1024;

impl SseServerTransport {
    pub(super) async fn try_post<B: http_body::Body>(&self, parts: Parts, body: B) -> Result<(), Rejection> {
        let Inner { limits, names, registry, .. } = &*self.inner;
        let admitted = admission::admit_post(&parts, names)?;
        let body = pin!(body);
        let mut body = BodyReader::new(body, limits.body_bytes, limits.body_timeout)?;
        let session = match self.find_for_post(&admitted, &parts) {
            Ok(session) => session,
            Err(rejection) => {
                // A body over the limit comes before a wrong session in the order of the checks.
                body.discard().await?;
                return Err(rejection);
            }
        };
        let head = head_bytes(&parts);
        let length = match body.declared() {
            Some(length) => length,
            // Most undeclared bodies are short: then their length is known before there is room for them.
            None if body.read_up_to(UNDECLARED_BYTES).await? => body.length(),
            None => limits.body_bytes,
        };
        let mut wait = limits.post_wait;
        let room = session.reserve(head + length, &mut wait).await;
        let room = room.map_err(|refusal| refused(&session, refusal))?;
        let json = body.read().await?;
        tracing::trace!(session = %session.id, message = %String::from_utf8_lossy(&json), "message from the client");
        let cost = head + json.len();
        let message = Message::parse(json).map_err(|error| {
            tracing::debug!(session = %session.id, %error, "message refused");
            Rejection::InvalidMessage
        })?;
        // A session whose turn in the spread of a shutdown has not come takes no new requests either.
        if registry.is_draining() && matches!(message.kind(), MessageKind::Request { .. }) {
            return Err(Rejection::ShuttingDown);
        }
        room.accept(message, parts, cost, &mut wait).await.map_err(|refusal| refused(&session, refusal))
    }

    fn find_for_post(&self, _: &Admitted, parts: &Parts) -> Result<Arc<Shared>, Rejection> {
        self.find(admission::session_id(parts.uri.query())?, parts)
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

/// What the head of a request keeps in memory while its message waits, roughly.
fn head_bytes(parts: &Parts) -> usize {
    let headers: usize =
        HeaderMap::iter(&parts.headers).map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
    MESSAGE_OVERHEAD + headers + parts.uri.path().len() + parts.uri.query().map_or(0, str::len)
}
