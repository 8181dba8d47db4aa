//! Requests that other replicas forward: answered by the code that answers those that come here.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::{
    Inner, SseServerTransport,
    answer::{self, Refused},
    get::Opening,
};
use crate::{
    admission::{self, Rejection},
    backplane::Host,
    body::Body,
    forwarded::Forwarded,
    id::EventId,
    message::Message,
    session::driver::Common,
};

/// The sessions of a transport, and of those that share them, for other replicas.
#[derive(Debug)]
pub(super) struct Sessions {
    common: Arc<Common>,
    /// The transports, one for each endpoint.
    transports: Mutex<Vec<Weak<Inner>>>,
}

/// The same, for messages to all of them.
#[derive(Debug)]
pub(super) struct All(Weak<Sessions>);

impl Sessions {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { common, transports: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Inner>>> {
        self.transports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is another transport.
    pub(super) fn add(&self, transport: &Arc<Inner>) {
        let mut transports = self.lock();
        transports.retain(|transport| transport.strong_count() > 0);
        transports.push(Arc::downgrade(transport));
    }

    /// The transport whose endpoint the session was opened for that a request names.
    fn transport(&self, request: &Request<Bytes>) -> Option<SseServerTransport> {
        let session = match *request.method() {
            Method::POST => admission::session_id(request.uri().query()).ok()?,
            _ => EventId::parse(request.headers().get("last-event-id")?.to_str().ok()?)?.session,
        };
        let session = self.common.registry.get(session)?;
        if session.endpoint.as_str() != request.uri().path() {
            return None;
        }
        let transports = self.lock();
        let mut transports = transports.iter().filter_map(Weak::upgrade);
        let inner = transports.find(|inner| Arc::ptr_eq(&inner.endpoint, &session.endpoint))?;
        Some(SseServerTransport { inner })
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
        let (parts, body) = request.into_parts();
        let answered = match what {
            Refused::Message => transport.try_post(parts, Full::new(body)).await,
            Refused::Stream | Refused::Other => {
                let opening = Opening { resume_only: true, ..Opening::default() };
                transport.try_open_stream(parts, opening).await.map(|(response, _)| response)
            }
        };
        answered.unwrap_or_else(|rejection| answer::refusal(Some(&self.common), what, rejection))
    }
}

impl Host for Sessions {
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        Box::pin(self.answer(request))
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
            transports.iter().find_map(Weak::upgrade).map(|inner| SseServerTransport { inner })
        });
        let status = match (transport, Message::parse(request.into_body())) {
            (Some(transport), Ok(message)) => {
                // They are sent, even if nobody waits until they are in their queues.
                drop(transport.send_to_all(&message));
                StatusCode::ACCEPTED
            }
            (Some(_), Err(_)) => StatusCode::BAD_REQUEST,
            (None, _) => StatusCode::NOT_FOUND,
        };
        Box::pin(std::future::ready(answer::text(status, "")))
    }
}
