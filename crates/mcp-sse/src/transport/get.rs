//! GET: opens a session with its stream, or resumes a session.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Request, Response, header, request::Parts};

#[cfg(feature = "server")]
use super::elsewhere::Elsewhere;
use super::{Inner, Located, SseServerTransport, answer, keeping, room};
use crate::{
    admission::{self, Admitted, Rejection},
    body::Body,
    bound_headers::BoundHeaders,
    event,
    forwarded::Forwarded,
    id::{EventId, SessionId},
    principal::Principal,
    replica::ReplicaId,
    session::{
        Session,
        driver::{Common, Driver, StartApp},
        facts::SessionFact,
        registry::{Holder, Owner, Standing},
        stream::EventStream,
    },
};

/// What the service that a GET came through allows and adds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Opening<'a> {
    /// The request may only resume a session.
    pub(crate) resume_only: bool,
    /// Starts the app of a new session.
    pub(crate) start_app: Option<&'a StartApp>,
    /// Headers that identify the client of a session.
    pub(crate) bound: &'a [HeaderName],
}

impl SseServerTransport {
    /// Answers a GET and, if it opened a session, returns the session for you to run. It is what
    /// [`connect_sse`](Self::connect_sse) is built on. (For a request that resumes, there is `None`: its
    /// session is running already.)
    ///
    /// Dropping the session ends it. Needs a tokio runtime with time enabled.
    ///
    /// Cancel safe: if the future is dropped before it completes, no session stays open.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::new("/messages/")?;
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let (response, session) = sse.connect(&get).await;
    /// if let Some(mut session) = session {
    ///     tokio::spawn(async move { while session.recv().await.is_some() {} });
    /// }
    /// assert_eq!(response.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect<B>(
        &self,
        request: &Request<B>,
    ) -> impl Future<Output = (Response<Body>, Option<Session>)> + Send + use<B> {
        let (parts, ()) = head(request).into_parts();
        let transport = self.clone();
        async move {
            let (response, opened) = transport.open_stream(parts, Opening::default()).await;
            (response, opened.map(Session::new))
        }
    }

    /// Answers a GET; also returns the session, if it opened one.
    pub(crate) async fn open_stream(
        &self,
        parts: Parts,
        opening: Opening<'_>,
    ) -> (Response<Body>, Option<Arc<Driver>>) {
        if let Some(preflight) = self.preflight(&parts) {
            return (preflight, None);
        }
        let cors = self.cors_headers(&parts);
        let (mut response, opened) = match self.try_open_stream(parts, opening).await {
            Ok(connected) => connected,
            Err(rejection) => {
                let common = Some(&*self.inner.common);
                (answer::refusal(common, answer::Refused::Stream, rejection), None)
            }
        };
        if let Some(cors) = cors {
            cors.add_to(response.headers_mut());
        }
        (response, opened)
    }

    pub(super) async fn try_open_stream(
        &self,
        parts: Parts,
        opening: Opening<'_>,
    ) -> Result<(Response<Body>, Option<Arc<Driver>>), Rejection> {
        let gate = &self.inner.gate;
        let admitted = admission::get(gate.enter(parts).wait().await?, &gate.names)?;
        match admitted.parts().headers.get("last-event-id").filter(|id| !id.is_empty()) {
            Some(id) => {
                let id = id.clone();
                self.resume(admitted, &id, opening).await
            }
            None if opening.resume_only => Err(Rejection::SessionNotFound),
            None => self.open(&admitted, opening).map(|(response, session)| (response, Some(session))),
        }
    }

    /// Whether a request is to resume a stream of another replica.
    #[cfg(feature = "server")]
    pub(crate) fn leads_elsewhere(&self, parts: &Parts) -> bool {
        let id = parts.headers.get("last-event-id").and_then(|id| EventId::parse(id.to_str().ok()?));
        let named = |elsewhere: &Elsewhere| id.and_then(|id| elsewhere.named(id.at)).is_some();
        self.inner.elsewhere.as_ref().is_some_and(named)
    }

    fn open(
        &self,
        admitted: &Admitted,
        opening: Opening<'_>,
    ) -> Result<(Response<Body>, Arc<Driver>), Rejection> {
        let Inner { common, endpoint, .. } = &*self.inner;
        let parts = admitted.parts();
        if common.registry.is_draining() {
            return Err(Rejection::ShuttingDown);
        }
        let id = generate_id()?;
        let owner = Owner::of(&parts.extensions);
        let start_app = opening.start_app.cloned();
        let session =
            Driver::new(id, owner.principal().cloned(), Arc::clone(endpoint), Arc::clone(common), start_app);
        self.admit(&session, &owner, parts, opening, true)?;
        session.show(admitted.grant());
        Ok((self.first_stream(parts, &session), session))
    }

    /// Takes a place for a new session, from where on it is there.
    pub(super) fn admit(
        &self,
        session: &Arc<Driver>,
        owner: &Owner,
        parts: &Parts,
        opening: Opening<'_>,
        silent: bool,
    ) -> Result<(), Rejection> {
        let common = &self.inner.common;
        if !opening.bound.is_empty() {
            let bound = BoundHeaders::new(opening.bound.iter().cloned());
            // It cannot fail: no header has a value yet.
            let _ = bound.check(&parts.headers);
            let _ = session.bound.set(bound);
        }
        let standing = Standing { id: session.id, opened: session.opened, silent, away: None };
        room::open(common, &Holder::Session(Arc::clone(session)), standing, owner)?;
        common.registry.timers.ensure_running();
        if !silent {
            session.set_spoken();
        }
        keeping::ensure_written(common, self.inner.elsewhere.as_ref());
        session.set_first_timer();
        session.tell(SessionFact::Opened);
        Ok(())
    }

    /// The stream that a session begins with.
    pub(super) fn first_stream(&self, parts: &Parts, session: &Arc<Driver>) -> Response<Body> {
        let common = &self.inner.common;
        let at = common.replica.as_ref().map(ReplicaId::as_str);
        let event_id = common.limits.resumes().then_some(EventId { session: session.id, sequence: 0, at });
        self.stream(parts, session, event_id, 0)
    }

    /// Resumes the session that the client names, after the last event that the client has. Returns the session, if it was
    /// revived for that.
    async fn resume(
        &self,
        admitted: Admitted,
        id: &HeaderValue,
        opening: Opening<'_>,
    ) -> Result<(Response<Body>, Option<Arc<Driver>>), Rejection> {
        let id = id.to_str().ok().and_then(EventId::parse).ok_or(Rejection::SessionNotFound)?;
        let elsewhere = match self.locate(&admitted, id.session, id.at)? {
            Located::Here(session) => {
                // Of one that is kept elsewhere by what the client says, its stream here may be dead.
                let is_elsewhere = id.at.is_some() && id.at != self.at();
                let is_here = if session.may_have_moved(is_elsewhere) {
                    self.is_here(&session).await
                } else {
                    Ok(true)
                };
                match is_here {
                    Ok(true) => match self.attach(&admitted, &session, id) {
                        Err(_) if session.has_left() => return Ok((self.later(), None)),
                        attached => return attached.map(|response| (response, None)),
                    },
                    Ok(false) if session.has_left() => return Ok((self.later(), None)),
                    Ok(false) => session.common.replica.clone().ok_or(Rejection::SessionNotFound)?,
                    // Browsers try again after that, and after no other status.
                    Err(_) => return Ok((self.later(), None)),
                }
            }
            Located::Elsewhere(replica) => replica,
            Located::Nowhere if self.is_leaving(&admitted, id.session) => return Ok((self.later(), None)),
            Located::Nowhere => self.lost_here(&admitted, id.at).ok_or(Rejection::SessionNotFound)?,
        };
        // The future is large, and few requests need it.
        Box::pin(self.resume_elsewhere(elsewhere, admitted, id, opening)).await
    }

    /// This replica, as `at` has it.
    pub(super) fn at(&self) -> Option<&str> {
        self.inner.common.replica.as_ref().map(ReplicaId::as_str)
    }

    /// Whether a session has ended here to go on elsewhere, and that is not written yet.
    pub(super) fn is_leaving(&self, admitted: &Admitted, id: SessionId) -> bool {
        let Inner { common, endpoint, .. } = &*self.inner;
        let session = common.keeping.as_ref().and_then(|keeping| keeping.marks.get(id));
        session.is_some_and(|session| {
            session.has_left()
                && Arc::ptr_eq(&session.endpoint, endpoint)
                && session.principal.as_ref() == admitted.parts().extensions.get::<Principal>()
        })
    }

    /// This replica, if it had a session by what the client says that may be elsewhere now.
    pub(super) fn lost_here(&self, admitted: &Admitted, at: Option<&str>) -> Option<ReplicaId> {
        let Common { replica, keeping, .. } = &*self.inner.common;
        let is_final = admitted.parts().extensions.get::<Forwarded>().is_some() || keeping.is_none();
        replica.clone().filter(|replica| !is_final && at == Some(replica.as_str()))
    }

    /// Gives a session that is here a new stream.
    pub(super) fn attach(
        &self,
        admitted: &Admitted,
        session: &Arc<Driver>,
        id: EventId<'_>,
    ) -> Result<Response<Body>, Rejection> {
        // Of one that was revived here, a client that comes back from another replica has seen nothing.
        let sequence = if id.at.is_some() && id.at != self.at() { 0 } else { id.sequence };
        let generation =
            session.with(|core, now| core.resume(sequence, now)).ok_or(Rejection::SessionNotFound)?;
        session.tell(SessionFact::Resumed { after: sequence });
        session.show(admitted.grant());
        // The `endpoint` event has no id here, so that the client's position stays what it was.
        Ok(self.stream(admitted.parts(), session, None, generation))
    }

    fn stream(
        &self,
        parts: &Parts,
        session: &Arc<Driver>,
        id: Option<EventId<'_>>,
        generation: u64,
    ) -> Response<Body> {
        let Inner { endpoint, mount, common, .. } = &*self.inner;
        let uri = endpoint.uri(&mount.prefix(parts), session.id, common.replica.as_ref());
        let mut preamble = BytesMut::with_capacity(128 + uri.len());
        event::endpoint(&mut preamble, id, common.limits.reconnect_delay.as_millis(), &uri);
        let stream = EventStream::new(Arc::clone(session), generation, preamble);
        let mut response = Response::new(Body::stream(stream));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// An id for a new session.
pub(super) fn generate_id() -> Result<SessionId, Rejection> {
    SessionId::generate().map_err(|error| {
        tracing::error!(%error, "the system gave no random bytes for a session id");
        Rejection::NoRandomness
    })
}

/// The head of a request, without its body.
fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    head.method_mut().clone_from(request.method());
    head.uri_mut().clone_from(request.uri());
    *head.version_mut() = request.version();
    head.headers_mut().clone_from(request.headers());
    head.extensions_mut().clone_from(request.extensions());
    head
}
