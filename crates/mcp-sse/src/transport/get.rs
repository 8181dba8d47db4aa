//! GET: opens a session's stream, or goes on in a session.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderValue, Response, header, request::Parts};

use super::{Inner, SseServerTransport};
use crate::{
    SessionId,
    admission::{self, Admitted, Rejection},
    body::Body,
    event,
    session::{
        id::EventId,
        shared::{Shared, StartApp},
    },
    sessions::Owner,
};

impl SseServerTransport {
    pub(crate) fn connect_with(
        &self,
        parts: &Parts,
        resume_only: bool,
        start_app: Option<StartApp>,
        opened: impl FnOnce(Arc<Shared>),
    ) -> Response<Body> {
        if let Some(preflight) = self.preflight(parts) {
            return preflight;
        }
        let connected = admission::admit_get(parts, &self.inner.names).and_then(|admitted| {
            match parts.headers.get("last-event-id").filter(|id| !id.is_empty()) {
                Some(id) => self.resume(&admitted, id, parts),
                None if resume_only => Err(Rejection::SessionNotFound),
                None => self.open(&admitted, parts, start_app, opened),
            }
        });
        let mut response = connected.unwrap_or_else(|rejection| {
            tracing::debug!(
                status = rejection.status().as_u16(),
                reason = rejection.text(),
                "stream refused"
            );
            rejection.into_response()
        });
        self.finish(parts, &mut response);
        response
    }

    /// The answer to a browser that asks whether a page may use the server.
    pub(super) fn preflight(&self, parts: &Parts) -> Option<Response<Body>> {
        if self.inner.cors { admission::cors::preflight(&self.inner.names, parts) } else { None }
    }

    fn finish(&self, parts: &Parts, response: &mut Response<Body>) {
        if self.inner.cors {
            admission::cors::finish(&self.inner.names, parts, response);
        }
    }

    fn open(
        &self,
        _: &Admitted,
        parts: &Parts,
        start_app: Option<StartApp>,
        opened: impl FnOnce(Arc<Shared>),
    ) -> Result<Response<Body>, Rejection> {
        let Inner { limits, sessions, endpoint, .. } = &*self.inner;
        let registry = &sessions.registry;
        if registry.is_draining() {
            return Err(Rejection::ShuttingDown);
        }
        let id = SessionId::generate().map_err(|error| {
            tracing::error!(%error, "the system gave no random bytes for a session id");
            Rejection::NoRandomness
        })?;
        let owner = Owner::of(&parts.extensions);
        let session = Shared::new(id, owner.principal().cloned(), endpoint, limits, registry, start_app);
        registry.open(&session, &owner, limits)?;
        tracing::info!(session = %id, endpoint = endpoint.as_str(), "session opened");
        let event_id = limits.resumes().then_some(EventId { session: id, sequence: 0 });
        let response = self.stream(parts, &session, event_id, 0);
        opened(session);
        Ok(response)
    }

    /// Goes on in the session that the client names, exactly where it was.
    fn resume(&self, _: &Admitted, id: &HeaderValue, parts: &Parts) -> Result<Response<Body>, Rejection> {
        let id = id.to_str().ok().and_then(EventId::parse).ok_or(Rejection::SessionNotFound)?;
        let session = self.find(id.session, parts)?;
        let generation =
            session.with(|core, now| core.resume(id.sequence, now)).ok_or(Rejection::SessionNotFound)?;
        tracing::info!(session = %session.id, after = id.sequence, "session resumed");
        // Without an id: the client's position stays what it was.
        Ok(self.stream(parts, &session, None, generation))
    }

    fn stream(
        &self,
        parts: &Parts,
        session: &Arc<Shared>,
        id: Option<EventId>,
        generation: u64,
    ) -> Response<Body> {
        let uri = self.inner.endpoint.uri(&self.inner.mount.prefix(parts), session.id);
        let mut preamble = BytesMut::with_capacity(128 + uri.len());
        event::endpoint(&mut preamble, id, self.inner.limits.retry.as_millis(), &uri);
        let mut response = Response::new(Body::stream(Arc::clone(session), generation, preamble));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}
