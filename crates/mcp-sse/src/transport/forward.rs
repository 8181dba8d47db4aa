//! Having another replica answer a request, and answering for another.

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request::Parts};
use http_body_util::Full;

use super::{
    Inner, SseServerTransport,
    answer::{self, Refused},
    body_reader::BodyReader,
    elsewhere::{Calling, Elsewhere, Held, Of, PART, SESSIONS},
    get::Opening,
    host::Hosted,
    revive,
};
use crate::{
    admission::{self, Admitted, Rejection},
    backplane::NotForwarded,
    body::Body,
    client_ip::ClientIp,
    endpoint::EndpointPath,
    forwarded::Forwarded,
    id::EventId,
    message::Message,
    replica::ReplicaId,
};

impl SseServerTransport {
    /// Has another replica answer a POST.
    pub(super) async fn forward_post<B: http_body::Body>(
        &self,
        to: &ReplicaId,
        admitted: Admitted,
        body: BodyReader<'_, B>,
    ) -> Result<Response<Body>, Rejection> {
        let (id, parts) = (admitted.session_id()?, admitted.into_parts());
        let original = self.keeping().is_some().then(|| parts.clone());
        let (parts, known) = self.in_own_words(parts)?;
        let mut forwarding = self.forwarding(to, SESSIONS, &parts, &known)?;
        if let Some(original) = &original
            && self.inner.common.replica.as_ref() == Some(to)
        {
            // It was here, if there was one.
            let known = match forwarding.place() {
                Some(_place) => self.is_known(id, original).await,
                None => Err(Rejection::ReplicaBusy),
            };
            let body = match known {
                Ok(()) => forwarding.read_on(body).await?,
                Err(rejection) => {
                    body.discard().await?;
                    return Err(rejection);
                }
            };
            let followed = self.follow(to, true, id, original, &body).await;
            return followed.unwrap_or(Err(Rejection::SessionNotFound));
        }
        let body = match forwarding.read(&parts, &known, body).await? {
            Ok(body) => body,
            Err(refused) => return Ok(refused),
        };
        let Some(original) = original else { return forwarding.send(parts, known, body).await };
        let answered = forwarding.send(parts, known, body.clone()).await;
        let Some(gone) = revive::is_nowhere(&answered) else { return answered };
        self.follow(to, gone, id, &original, &body).await.unwrap_or(answered)
    }

    /// A place among the requests for other replicas.
    pub(super) fn place(&self, to: &ReplicaId, parts: &Parts) -> Option<Calling> {
        self.forwarding(to, SESSIONS, parts, &self.known(parts)).ok()?.place()
    }

    /// The same for a message that was read.
    pub(super) async fn forward_message(
        &self,
        to: &ReplicaId,
        parts: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Rejection> {
        let (parts, known) = self.in_own_words(parts)?;
        self.forwarding(to, SESSIONS, &parts, &known)?.send(parts, known, body).await
    }

    /// What a request for another replica needs here.
    fn forwarding<'a>(
        &'a self,
        to: &'a ReplicaId,
        service: &'static str,
        parts: &Parts,
        known: &Forwarded,
    ) -> Result<Forwarding<'a>, Rejection> {
        let Some(elsewhere) = self.inner.elsewhere.as_ref() else { return Err(Rejection::SessionNotFound) };
        // A loopback address may be that of a proxy, for many clients.
        let address = known.client_ip.filter(|ip| !ip.is_loopback()).map(ClientIp::network);
        let of = elsewhere.of(address, &named_session(parts));
        let held = elsewhere.room(of.clone());
        Ok(Forwarding { elsewhere, to, service, of, held })
    }

    /// Has another replica answer a request for a service of your own, which is bound there by
    /// [`Backplane::bind`](crate::Backplane::bind). The body is read within the bounds for messages
    /// ([`Builder::max_body_bytes`](crate::Builder::max_body_bytes)) and those of [`Builder::backplane`](crate::Builder::backplane);
    /// the other replica gets the request as it is here, and the same answers are given as for a message.
    ///
    /// Without a backplane, there is no other replica: 404.
    pub async fn forward<B: http_body::Body>(
        &self,
        to: &ReplicaId,
        service: &'static str,
        request: Request<B>,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let limits = &self.inner.common.limits;
        let forwarded = async {
            let known = self.known(&parts);
            name_host(&mut parts);
            let mut forwarding = self.forwarding(to, service, &parts, &known)?;
            let body = pin!(body);
            let body = BodyReader::new(body, limits.body_bytes, limits.body_timeout)?;
            match forwarding.read(&parts, &known, body).await? {
                Ok(body) => forwarding.send(parts, known, body).await,
                Err(refused) => Ok(refused),
            }
        };
        let answered = forwarded.await;
        answered.unwrap_or_else(|rejection| {
            answer::refusal(Some(&self.inner.common), answer::Refused::Other, rejection)
        })
    }

    /// Has another replica resume a stream.
    pub(super) async fn forward_get(
        &self,
        to: &ReplicaId,
        parts: &Parts,
    ) -> Result<Response<Body>, Rejection> {
        let (parts, known) = self.in_own_words(parts.clone())?;
        match self.forwarding(to, SESSIONS, &parts, &known)?.send(parts, known, Bytes::new()).await {
            // Browsers try again after that, and after no other status.
            Err(rejection @ (Rejection::ReplicaBusy | Rejection::ReplicaAway | Rejection::ReplicaSilent)) => {
                tracing::debug!(replica = %to, reason = rejection.text(), "a stream cannot be resumed now");
                Ok(self.later())
            }
            answered => answered,
        }
    }

    /// A stream that says when to come again.
    pub(super) fn later(&self) -> Response<Body> {
        let delay = self.inner.common.limits.reconnect_delay.as_millis();
        let mut response = Response::new(Body::from(format!("retry: {delay}\n\n")));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        response
    }

    /// What is known of a request here.
    fn known(&self, parts: &Parts) -> Forwarded {
        Forwarded {
            principal: parts.extensions.get().cloned(),
            client_ip: ClientIp::of(&parts.extensions),
            mount_prefix: self.inner.mount.prefix(parts),
        }
    }

    /// The head for the host, which knows the endpoint by its own path, wherever it is mounted here; and what is known of
    /// the request.
    fn in_own_words(&self, mut parts: Parts) -> Result<(Parts, Forwarded), Rejection> {
        let known = self.known(&parts);
        name_host(&mut parts);
        let query = parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
        let uri = format!("{}{query}", self.inner.endpoint.as_str()).parse();
        parts.uri = uri.map_err(|_| Rejection::SessionNotFound)?;
        Ok((parts, known))
    }
}

/// A request on its way to another replica.
struct Forwarding<'a> {
    elsewhere: &'a Elsewhere,
    to: &'a ReplicaId,
    service: &'static str,
    of: Vec<Of>,
    /// Given back when there is an answer.
    held: Held,
}

impl Forwarding<'_> {
    /// Reads the body. Before more of it is read than of any body, there has to be room, here and at the host; else its
    /// answer is returned.
    async fn read<B: http_body::Body>(
        &mut self,
        parts: &Parts,
        known: &Forwarded,
        mut body: BodyReader<'_, B>,
    ) -> Result<Result<Bytes, Response<Body>>, Rejection> {
        // Before anything is read: what a body declares becomes less as it is.
        let declared = body.declared();
        if Self::is_short(&mut body).await? {
            return Ok(Ok(body.read().await?));
        }
        let length = declared.unwrap_or_else(|| body.length());
        match self.check(parts, known, length).await {
            Ok(None) => {}
            Ok(Some(refused)) => {
                body.discard().await?;
                return Ok(Err(refused));
            }
            Err(rejection) => {
                body.discard().await?;
                return Err(rejection);
            }
        }
        self.read_rest(declared, body).await.map(Ok)
    }

    /// Whether a body is one that is read without room for it; then it was read, or declares that it is short.
    async fn is_short<B: http_body::Body>(body: &mut BodyReader<'_, B>) -> Result<bool, Rejection> {
        Ok(body.declared().is_some_and(|length| length <= PART) || body.read_up_to(PART).await?)
    }

    /// Reads the body, for which there has to be room here.
    async fn read_on<B: http_body::Body>(&mut self, mut body: BodyReader<'_, B>) -> Result<Bytes, Rejection> {
        let declared = body.declared();
        if Self::is_short(&mut body).await? {
            return body.read().await;
        }
        self.read_rest(declared, body).await
    }

    async fn read_rest<B: http_body::Body>(
        &mut self,
        declared: Option<usize>,
        mut body: BodyReader<'_, B>,
    ) -> Result<Bytes, Rejection> {
        let mut room = body.length();
        loop {
            let more = declared.map_or(PART, |length| length.saturating_sub(body.length()).min(PART));
            if more == 0 {
                break;
            }
            if !self.held.more(more) {
                self.held = self.elsewhere.room(Vec::new());
                body.discard().await?;
                return Err(Rejection::ReplicaBusy);
            }
            room += more;
            if body.read_up_to(room).await? {
                break;
            }
        }
        body.read().await
    }

    /// A place among the requests that are under way.
    fn place(&self) -> Option<Calling> {
        self.elsewhere.call(self.to, &self.of)
    }

    /// The host's answer, if it refuses a body of this length.
    async fn check(
        &self,
        parts: &Parts,
        known: &Forwarded,
        length: usize,
    ) -> Result<Option<Response<Body>>, Rejection> {
        let Some(_calling) = self.elsewhere.call(self.to, &self.of) else {
            return Err(Rejection::ReplicaBusy);
        };
        let mut parts = parts.clone();
        parts.extensions = http::Extensions::new();
        parts.extensions.insert(known.clone());
        let request = Request::from_parts(parts, ());
        let checked = self.elsewhere.backplane.check(self.to, self.service, request, length as u64).await;
        checked.map_err(rejection)
    }

    async fn send(
        &self,
        mut parts: Parts,
        known: Forwarded,
        body: Bytes,
    ) -> Result<Response<Body>, Rejection> {
        let Some(_calling) = self.elsewhere.call(self.to, &self.of) else {
            return Err(Rejection::ReplicaBusy);
        };
        parts.extensions = http::Extensions::new();
        parts.extensions.insert(known);
        let request = Request::from_parts(parts, body);
        self.elsewhere.backplane.forward(self.to, self.service, request).await.map_err(rejection)
    }
}

/// The session that a request names, in one spelling.
fn named_session(parts: &Parts) -> Vec<u8> {
    let header = |name| parts.headers.get(name).map(HeaderValue::as_bytes);
    if let Some(session) = header("mcp-session-id") {
        return session.to_owned();
    }
    let event = header("last-event-id").and_then(|id| EventId::parse(std::str::from_utf8(id).ok()?));
    let session = admission::session_id(parts.uri.query()).ok().or_else(|| event.map(|id| id.session));
    session.map(|session| session.expose_hex().into_bytes()).unwrap_or_default()
}

fn rejection(not: NotForwarded) -> Rejection {
    match not {
        NotForwarded::Gone => Rejection::SessionNotFound,
        NotForwarded::Unavailable => Rejection::ReplicaAway,
        NotForwarded::Unknown => Rejection::ReplicaSilent,
    }
}

/// HTTP/2 has the host in the URI, which is another one from here on.
fn name_host(parts: &mut Parts) {
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.entry(header::HOST).or_insert(host);
    }
}

impl Hosted for Inner {
    fn endpoint(&self) -> &Arc<EndpointPath> {
        &self.endpoint
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        what: Refused,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>> + Send>> {
        let transport = SseServerTransport { inner: self };
        let (parts, body) = request.into_parts();
        Box::pin(async move {
            match what {
                Refused::Message => transport.try_post(parts, Full::new(body)).await,
                Refused::Stream | Refused::Other => {
                    let opening = Opening { resume_only: true, ..Opening::default() };
                    transport.try_open_stream(parts, opening).await.map(|(response, _)| response)
                }
            }
        })
    }

    fn send_to_all(self: Arc<Self>, message: &Message) {
        // They are sent, even if nobody waits until they are in their queues.
        drop(SseServerTransport { inner: self }.send_to_all(message));
    }
}
