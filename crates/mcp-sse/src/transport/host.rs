//! Requests that other replicas forward: answered by the code that answers those that come here.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::answer::{self, Refused};
use crate::{
    admission::{self, Rejection},
    backplane::Host,
    body::Body,
    endpoint::EndpointPath,
    forwarded::Forwarded,
    id::{EventId, SessionId},
    message::Message,
    session::driver::{Common, Driver},
};

/// A transport, as far as other replicas need it.
pub(super) trait Hosted: Send + Sync {
    fn endpoint(&self) -> &Arc<EndpointPath>;

    /// Answers a request of this kind as if it had come here.
    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        what: Refused,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>> + Send>>;

    fn send_to_all(self: Arc<Self>, message: &Message);
}

/// The sessions of a transport, and of those that share them, for other replicas.
pub(super) struct Sessions {
    common: Arc<Common>,
    /// The transports, one for each endpoint.
    transports: Mutex<Vec<Weak<dyn Hosted>>>,
}

/// The same, for messages to all of them.
#[derive(Debug)]
pub(super) struct All(Weak<Sessions>);

impl Sessions {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { common, transports: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Hosted>>> {
        self.transports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is another transport.
    pub(super) fn add(&self, transport: Weak<dyn Hosted>) {
        let mut transports = self.lock();
        transports.retain(|transport| transport.strong_count() > 0);
        transports.push(transport);
    }

    /// A session that is here, or that has ended here to go on elsewhere.
    fn session(&self, id: SessionId) -> Option<Arc<Driver>> {
        let Common { registry, keeping, .. } = &*self.common;
        let left = || keeping.as_ref()?.marks.get(id).filter(|session| session.has_left());
        registry.get(id).or_else(left)
    }

    /// The transport whose endpoint the session was opened for that a request names.
    fn transport(&self, request: &Request<Bytes>) -> Option<Arc<dyn Hosted>> {
        let session = match *request.method() {
            Method::POST => admission::session_id(request.uri().query()).ok()?,
            _ => EventId::parse(request.headers().get("last-event-id")?.to_str().ok()?)?.session,
        };
        let session = self.session(session)?;
        if session.endpoint.as_str() != request.uri().path() {
            return None;
        }
        let transports = self.lock();
        let mut transports = transports.iter().filter_map(Weak::upgrade);
        transports.find(|transport| Arc::ptr_eq(transport.endpoint(), &session.endpoint))
    }

    /// Whether a message of this length may come now. What is checked here is checked again when it is there.
    async fn has_room(&self, request: &Request<()>, length: u64) -> Result<(), Rejection> {
        let limits = &self.common.limits;
        let length = usize::try_from(length).ok().filter(|length| *length <= limits.body_bytes);
        let length = length.ok_or(Rejection::BodyTooLarge)?;
        let id = admission::session_id(request.uri().query())?;
        let known = request.extensions().get::<Forwarded>();
        let principal = known.and_then(|known| known.principal.as_ref());
        let session = self.session(id).filter(|session| {
            session.endpoint.as_str() == request.uri().path() && session.principal.as_ref() == principal
        });
        let session = session.ok_or(Rejection::SessionNotFound)?;
        let mut wait = limits.queue_timeout;
        let room = session.reserve(length, &mut wait).await;
        room.map(drop).map_err(|refusal| answer::rejection(&session, refusal))
    }

    async fn answer(&self, mut request: Request<Bytes>) -> Response<Body> {
        let what = if request.method() == Method::POST { Refused::Message } else { Refused::Stream };
        let Some(transport) = self.transport(&request) else {
            return answer::refusal(Some(&self.common), what, Rejection::SessionNotFound);
        };
        let extensions = request.extensions_mut();
        if let Some(Forwarded { principal, client_ip, .. }) = extensions.get().cloned() {
            principal.map(|principal| extensions.insert(principal));
            client_ip.map(|address| extensions.insert(address));
        }
        let answered = transport.answer(request, what).await;
        answered.unwrap_or_else(|rejection| answer::refusal(Some(&self.common), what, rejection))
    }
}

impl Host for Sessions {
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        Box::pin(self.answer(request))
    }

    fn may_stream(&self, request: &Request<Bytes>) -> bool {
        *request.method() != Method::POST
    }

    fn refuses(
        &self,
        request: Request<()>,
        length: u64,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send + '_>> {
        Box::pin(async move {
            let refused = self.has_room(&request, length).await.err()?;
            Some(answer::refusal(Some(&self.common), Refused::Message, refused))
        })
    }
}

impl All {
    pub(super) fn new(sessions: &Arc<Sessions>) -> Self {
        Self(Arc::downgrade(sessions))
    }
}

impl Host for All {
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        let transport = self.0.upgrade().and_then(|sessions| {
            let transports = sessions.lock();
            transports.iter().find_map(Weak::upgrade)
        });
        let status = match (transport, Message::parse(request.into_body())) {
            (Some(transport), Ok(message)) => {
                transport.send_to_all(&message);
                StatusCode::ACCEPTED
            }
            (Some(_), Err(_)) => StatusCode::BAD_REQUEST,
            (None, _) => StatusCode::NOT_FOUND,
        };
        Box::pin(std::future::ready(answer::text(status, "")))
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
