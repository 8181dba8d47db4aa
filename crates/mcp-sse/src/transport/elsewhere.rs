//! Requests for sessions of other replicas: how many may be under way, and what becomes of the answer.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, request::Parts};

use super::{SseServerTransport, answer, body_reader::BodyReader};
use crate::{
    admission::{Admitted, Rejection},
    backplane::{Backplane, NotForwarded},
    body::Body,
    client_ip::ClientIp,
    forwarded::Forwarded,
    replica::ReplicaId,
};

/// The service that answers requests for sessions.
pub(super) const SESSIONS: &str = "sse";
/// The one that sends a message to all sessions of a replica.
pub(super) const ALL: &str = "sse-all";

/// How many bytes of bodies are held for other replicas.
const BYTES: usize = 16 * 1024 * 1024;
/// How many of them for one address, so that a few clients that send half and stop do not hold all. One body may be
/// larger.
const BYTES_OF_ADDRESS: usize = BYTES / 4;
/// How many bytes of a body are read before there has to be room for more.
const PART: usize = 64 * 1024;
/// How many requests are under way to one replica, and to all.
const CALLS_TO_ONE: usize = 256;
const CALLS: usize = 4_096;

/// The other replicas, as a transport sees them.
#[derive(Clone)]
pub(super) struct Elsewhere {
    pub(super) backplane: Arc<dyn Backplane>,
    gate: Arc<Mutex<Gate>>,
}

/// What is under way to other replicas.
#[derive(Debug, Default)]
struct Gate {
    bytes: usize,
    by_address: HashMap<IpAddr, usize>,
    calls: usize,
    by_replica: HashMap<ReplicaId, usize>,
}

impl Elsewhere {
    pub(super) fn new(backplane: Arc<dyn Backplane>) -> Self {
        Self { backplane, gate: Arc::default() }
    }

    /// The other replica that a request names.
    pub(super) fn named(&self, at: Option<&str>) -> Option<ReplicaId> {
        at?.parse().ok().filter(|at| at != self.backplane.id())
    }

    /// Room for a body of a client at this address.
    fn room(&self, address: Option<IpAddr>) -> Held {
        Held { gate: Arc::clone(&self.gate), address, bytes: 0 }
    }

    /// A place among the requests that are under way.
    fn call(&self, to: &ReplicaId) -> Option<Calling> {
        let mut gate = lock(&self.gate);
        let to_one = gate.by_replica.get(to).copied().unwrap_or_default();
        if gate.calls >= CALLS || to_one >= CALLS_TO_ONE {
            return None;
        }
        gate.calls += 1;
        gate.by_replica.insert(to.clone(), to_one + 1);
        Some(Calling { gate: Arc::clone(&self.gate), to: to.clone() })
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are held. Dropping it gives them back.
struct Held {
    gate: Arc<Mutex<Gate>>,
    address: Option<IpAddr>,
    bytes: usize,
}

impl Held {
    /// Holds so many more; whether there was room.
    fn more(&mut self, bytes: usize) -> bool {
        let mut gate = lock(&self.gate);
        let of_address = self.address.map(|address| gate.by_address.entry(address).or_default());
        let others = of_address.as_ref().map_or(0, |of_address| **of_address - self.bytes);
        // What is alone may take more than its part.
        if others > 0 && others + self.bytes + bytes > BYTES_OF_ADDRESS {
            return false;
        }
        if let Some(of_address) = of_address {
            *of_address += bytes;
        }
        gate.bytes += bytes;
        self.bytes += bytes;
        gate.bytes == self.bytes || gate.bytes <= BYTES
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        gate.bytes -= self.bytes;
        if let Some(address) = self.address
            && let Some(of_address) = gate.by_address.get_mut(&address)
        {
            *of_address -= self.bytes;
            if *of_address == 0 {
                gate.by_address.remove(&address);
            }
        }
    }
}

/// A request that is under way. Dropping it gives its place back.
struct Calling {
    gate: Arc<Mutex<Gate>>,
    to: ReplicaId,
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        gate.calls -= 1;
        if let Some(to_one) = gate.by_replica.get_mut(&self.to) {
            *to_one -= 1;
            if *to_one == 0 {
                gate.by_replica.remove(&self.to);
            }
        }
    }
}

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

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("id", self.backplane.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Mutex<Gate>> {
        Arc::default()
    }

    fn held(gate: &Arc<Mutex<Gate>>, address: Option<u8>) -> Held {
        let address = address.map(|last| IpAddr::from([192, 0, 2, last]));
        Held { gate: Arc::clone(gate), address, bytes: 0 }
    }

    #[test]
    fn one_address_holds_a_part_of_the_bytes_and_all_together_no_more_than_there_are() {
        let gate = gate();
        let mut first = held(&gate, Some(1));
        assert!(first.more(BYTES_OF_ADDRESS));
        assert!(!held(&gate, Some(1)).more(1), "its part is taken");
        // One body that is larger than that passes.
        assert!(first.more(BYTES_OF_ADDRESS));
        let mut second = held(&gate, Some(2));
        assert!(second.more(BYTES_OF_ADDRESS));
        let mut local = held(&gate, None);
        assert!(local.more(BYTES_OF_ADDRESS));
        assert!(!held(&gate, Some(3)).more(1), "all are taken");
        drop(first);
        assert!(held(&gate, Some(1)).more(1));
        drop((second, local));
        let gate = lock(&gate);
        assert_eq!((gate.bytes, gate.by_address.len()), (0, 0));
    }
}
