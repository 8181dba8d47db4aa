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
    elsewhere::{Held, PART, SESSIONS},
    get::Opening,
    host::Hosted,
};
use crate::{
    admission::{Admitted, Rejection},
    backplane::NotForwarded,
    body::Body,
    client_ip::ClientIp,
    endpoint::EndpointPath,
    forwarded::Forwarded,
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
        let (body, _held) = self.read_for_another(admitted.parts(), body).await?;
        let (parts, known) = self.in_own_words(admitted.into_parts())?;
        self.forward_whole(to, SESSIONS, parts, known, body).await
    }

    /// Reads a body that is for another replica, within the bounds of those.
    async fn read_for_another<B: http_body::Body>(
        &self,
        parts: &Parts,
        mut body: BodyReader<'_, B>,
    ) -> Result<(Bytes, Held), Rejection> {
        let Some(elsewhere) = self.inner.elsewhere.as_ref() else { return Err(Rejection::SessionNotFound) };
        // A loopback address may be that of a proxy, for many clients.
        let address = ClientIp::of(&parts.extensions).filter(|ip| !ip.is_loopback());
        let mut held = elsewhere.room(address.map(ClientIp::network));
        // Before anything is read: what a body declares becomes less as it is.
        let declared = body.declared();
        loop {
            let rest = declared.map_or(PART, |length| length.saturating_sub(body.length()).min(PART));
            if rest == 0 {
                break;
            }
            if !held.more(rest) {
                body.discard().await?;
                return Err(Rejection::ReplicaBusy);
            }
            if body.read_up_to(held.bytes).await? {
                break;
            }
        }
        Ok((body.read().await?, held))
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
            let body = pin!(body);
            let body = BodyReader::new(body, limits.body_bytes, limits.body_timeout)?;
            let (body, _held) = self.read_for_another(&parts, body).await?;
            let known = self.known(&parts);
            name_host(&mut parts);
            self.forward_whole(to, service, parts, known, body).await
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
        admitted: Admitted,
    ) -> Result<Response<Body>, Rejection> {
        let (parts, known) = self.in_own_words(admitted.into_parts())?;
        match self.forward_whole(to, SESSIONS, parts, known, Bytes::new()).await {
            // Browsers try again after that, and after no other status.
            Err(rejection @ (Rejection::ReplicaBusy | Rejection::ReplicaAway | Rejection::ReplicaSilent)) => {
                tracing::debug!(replica = %to, reason = rejection.text(), "a stream cannot be resumed now");
                Ok(self.later())
            }
            answered => answered,
        }
    }

    /// A stream that says when to come again.
    fn later(&self) -> Response<Body> {
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

    async fn forward_whole(
        &self,
        to: &ReplicaId,
        service: &'static str,
        mut parts: Parts,
        known: Forwarded,
        body: Bytes,
    ) -> Result<Response<Body>, Rejection> {
        let Some(elsewhere) = self.inner.elsewhere.as_ref() else { return Err(Rejection::SessionNotFound) };
        let Some(_calling) = elsewhere.call(to) else { return Err(Rejection::ReplicaBusy) };
        parts.extensions = http::Extensions::new();
        parts.extensions.insert(known);
        let answer = elsewhere.backplane.forward(to, service, Request::from_parts(parts, body)).await;
        answer.map_err(|not| match not {
            NotForwarded::Gone => Rejection::SessionNotFound,
            NotForwarded::Unavailable => Rejection::ReplicaAway,
            NotForwarded::Unknown => Rejection::ReplicaSilent,
        })
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
