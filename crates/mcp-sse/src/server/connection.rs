//! One connection: plain HTTP/1.1 requests to the transport's endpoints are answered here, a stream stays
//! here, and at the first request that is anything else hyper takes over.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::sleep_until,
};
use tower_service::Service;

use super::{
    handover::{self, Begun},
    head::{self, Again, Known, MAX_AT_ONCE, Read},
    inner::Inner,
    layers::RequestBody,
    lingering::Lingering,
    listener::Socket,
    parked::Parked,
    peer::Peer,
    receiving::Receiving,
    routes::{Endpoint, Routes},
    watch::{Over, Watch},
};
use crate::{
    admission::Rejection,
    auth::Grant,
    body::Body,
    clock,
    service::ConnectSse,
    session::head::Head,
    transport::{
        SseServerTransport, answer,
        post::{CheckedPost, Tried},
    },
};

thread_local! {
    /// What is being read. Each thread reads one thing at a time.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_AT_ONCE].into());
    /// What is being written, the same.
    static WRITE: RefCell<Vec<u8>> = RefCell::default();
}

/// A connection's task. What the requests need is boxed and goes when the connection becomes a stream.
pub(super) enum Connection {
    Http(Pin<Box<dyn Future<Output = Option<Parked>> + Send>>),
    Parked(Parked),
}

impl Connection {
    pub(super) fn new<S, B>(socket: Socket, inner: Arc<Inner<S>>) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Infallible>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::Http(Box::pin(async move {
            let socket = if inner.peers.say_who_they_are() { inner.meet(socket).await? } else { socket };
            let socket = match &inner.handshake {
                // Its state is large, and gone before the first request.
                Some(handshake) => Box::pin(inner.shake(handshake, socket)).await?,
                None => socket,
            };
            match Plain::new(socket, &inner).run(&inner).await {
                End::Closed => None,
                End::Stream(parked) => Some(parked),
                End::Other(begun) => {
                    Box::pin(handover::run(begun, inner)).await;
                    None
                }
                End::Late(socket) => {
                    // Its rest may still come.
                    Lingering::new(socket, Vec::new(), inner.tcp_user_timeout, Arc::default()).close().await;
                    None
                }
            }
        }))
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Http(http) => match ready!(http.as_mut().poll(cx)) {
                    Some(parked) => *self = Self::Parked(parked),
                    None => return Poll::Ready(()),
                },
                Self::Parked(parked) => return Pin::new(parked).poll(cx),
            }
        }
    }
}

/// How the plain part of a connection ended.
enum End {
    Closed,
    Stream(Parked),
    /// With something that hyper is to read.
    Other(Begun),
    /// With the answer to a request that did not arrive whole.
    Late(Socket),
}

/// What comes next on a connection.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
enum Next {
    Get(ConnectSse, Parts),
    /// A message; what is known of its head stands in `last`.
    Post(Head, Bytes),
    /// The same, with a body that has not arrived whole.
    Begun(Head, Receiving),
    Refused(SseServerTransport, Rejection),
    Other {
        http2: bool,
    },
    Late,
    Closed,
}

/// The last message's head. The next one has the same, most of the time: then it needs no checks of its
/// own.
struct LastPost {
    head: Option<Known>,
    checked: CheckedPost,
    valid: Valid,
}

/// How long what was found about a head may be used for the next one that is the same. A function of the head
/// alone is so for ever; the route that it takes is one of the routes as well, and who it comes from one of what
/// the authenticator says of it.
#[derive(Clone)]
struct Valid {
    /// Of the routes when they were asked.
    generation: u64,
    /// That the head comes from its principal, if there is an authenticator.
    grant: Option<Grant>,
}

impl Valid {
    fn is_still(&self, routes: &Routes) -> bool {
        self.generation == routes.generation() && self.grant.as_ref().is_none_or(Grant::is_valid)
    }
}

/// A connection on which only plain requests have come.
struct Plain {
    socket: Socket,
    peer: Peer,
    last: Option<Box<LastPost>>,
    /// What has come of the head of the next request.
    pending: Vec<u8>,
    /// Until when the rest of it may take, if a part is there.
    head_until: Option<Instant>,
    /// A request was answered since this was looked at.
    active: bool,
}

impl Plain {
    fn new<S>(socket: Socket, inner: &Inner<S>) -> Self {
        let peer = inner.peers.peer(&socket);
        Self { socket, peer, last: None, pending: Vec::new(), head_until: None, active: false }
    }

    async fn run<S>(mut self, inner: &Inner<S>) -> End {
        let drained = pin!(inner.drained.notified());
        let idle_until = clock::after(clock::now(), inner.idle_timeout);
        let timer = pin!(sleep_until(idle_until.into()));
        let mut watch = Watch { drained, timer, idle_until, registered: false };
        loop {
            let next = poll_fn(|cx| {
                if let Poll::Ready(next) = self.poll_next(inner, cx) {
                    return Poll::Ready(next);
                }
                match watch.over(inner, &mut self.active, self.head_until, cx) {
                    None => Poll::Pending,
                    Some(Over::Late) => Poll::Ready(Next::Late),
                    Some(Over::Closed) => Poll::Ready(Next::Closed),
                }
            });
            // The rest of a request may still arrive, so the connection cannot be used for another.
            let mut late = false;
            let response = match next.await {
                Next::Get(service, parts) => Some(service.connect(parts).await),
                Next::Post(head, body) => self.post(head, body).await,
                Next::Begun(head, receiving) => {
                    match Box::pin(self.receive(head, receiving, inner, &mut watch)).await {
                        Received::Whole(taken) => self.refusal(taken),
                        Received::Not(rejection) => {
                            late = true;
                            self.refusal(Err(rejection))
                        }
                        Received::Closed => return End::Closed,
                    }
                }
                Next::Refused(transport, rejection) => Some(transport.message_refused(rejection)),
                Next::Other { http2 } => {
                    let Self { socket, pending, head_until, .. } = self;
                    let since = head_until.and_then(|until| until.checked_sub(inner.header_timeout));
                    let since = since.unwrap_or_else(clock::now);
                    return End::Other(Begun { socket, pending, since, http2 });
                }
                Next::Late => {
                    late = true;
                    Some(answer::text(StatusCode::REQUEST_TIMEOUT, "Request head took too long"))
                }
                Next::Closed => return End::Closed,
            };
            self.head_until = None;
            let closes = late || inner.draining.load(Ordering::Acquire);
            let mut rest = if let Some(response) = response {
                let (parts, body) = response.into_parts();
                let mut head = Vec::new();
                head::write_head(&mut head, &parts);
                match body.into_stream() {
                    Ok(stream) => {
                        head::write_date(&mut head);
                        head.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                        return End::Stream(Parked::new(self.socket, stream, head));
                    }
                    Err(text) => self.answer(&head, text, closes),
                }
            } else {
                let (head, text) = &inner.accepted;
                self.answer(head, text, closes)
            };
            while !rest.is_empty() {
                let written = poll_fn(|cx| match Pin::new(&mut self.socket).poll_write(cx, &rest) {
                    Poll::Pending if watch.over(inner, &mut self.active, None, cx).is_some() => {
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                    polled => polled,
                });
                match written.await {
                    Ok(written) if written > 0 => drop(rest.drain(..written)),
                    _ => return End::Closed,
                }
            }
            if self.socket.buffers() {
                let flushed = poll_fn(|cx| match Pin::new(&mut self.socket).poll_flush(cx) {
                    Poll::Pending if watch.over(inner, &mut self.active, None, cx).is_some() => {
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                    polled => polled,
                });
                if flushed.await.is_err() {
                    return End::Closed;
                }
            }
            self.active = true;
            if self.last.as_ref().is_some_and(|last| last.head.is_none()) {
                self.last = None;
            }
            if late {
                return End::Late(self.socket);
            }
            if closes {
                return End::Closed;
            }
        }
    }

    /// Hands a message to its session; `None` if it was taken, else the answer.
    async fn post(&self, head: Head, body: Bytes) -> Option<Response<Body>> {
        // It was set when the message came.
        let last = self.last.as_ref()?;
        let taken = match last.checked.try_now(head, body) {
            Tried::Done(taken) => taken,
            Tried::Waits(waiting) => Box::pin(waiting.wait()).await,
        };
        self.refusal(taken)
    }

    /// The answer to a message that was not taken, of which the head is known.
    fn refusal(&self, taken: Result<(), Rejection>) -> Option<Response<Body>> {
        let rejection = taken.err()?;
        self.last.as_ref().map(|last| last.checked.refused(rejection))
    }

    /// Reads the rest of a body, for which there must be room first if it is large, and hands the message to its
    /// session. A large one that has begun may arrive while the server drains, as it may at hyper.
    async fn receive<S>(
        &mut self,
        head: Head,
        mut receiving: Receiving,
        inner: &Inner<S>,
        watch: &mut Watch<'_, '_>,
    ) -> Received {
        // It was set when the head came.
        let Some(LastPost { checked, .. }) = self.last.as_deref() else { return Received::Closed };
        let needs_room = receiving.needs_room();
        let room = if needs_room {
            match checked.reserve(receiving.length()).await {
                Ok(room) => Some(room),
                Err(rejection) => return Received::Not(rejection),
            }
        } else {
            None
        };
        let until = clock::after(clock::now(), checked.body_timeout());
        let arrived = poll_fn(|cx| {
            if let Poll::Ready(arrived) = receiving.poll(&mut self.socket, cx) {
                return Poll::Ready(arrived.map_err(|_| Received::Closed));
            }
            match watch.over(inner, &mut self.active, Some(until), cx) {
                Some(Over::Late) => Poll::Ready(Err(Received::Not(Rejection::BodyTimeout))),
                Some(Over::Closed) if !needs_room => Poll::Ready(Err(Received::Closed)),
                Some(Over::Closed) | None => Poll::Pending,
            }
        });
        if let Err(not) = arrived.await {
            return not;
        }
        let body = receiving.into_body();
        Received::Whole(match room {
            Some(room) => room.take(head, body).await,
            None => match checked.try_now(head, body) {
                Tried::Done(taken) => taken,
                Tried::Waits(waiting) => waiting.wait().await,
            },
        })
    }

    /// Writes an answer; what the socket does not take comes back.
    fn answer(&mut self, head: &[u8], text: &str, closes: bool) -> Vec<u8> {
        WRITE.with_borrow_mut(|out| {
            out.clear();
            out.extend_from_slice(head);
            head::write_date(out);
            head::write_header(out, "content-length", text.len().to_string().as_bytes());
            if closes {
                head::write_header(out, "connection", b"close");
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(text.as_bytes());
            // An error is said again by the write that follows.
            let written = self.socket.try_write(out).unwrap_or(0);
            out[written..].to_vec()
        })
    }

    /// Reads until a request is there whole.
    fn poll_next<S>(&mut self, inner: &Inner<S>, cx: &mut Context<'_>) -> Poll<Next> {
        // Several requests may have come at once.
        if let Some(next) = self.take_pending(inner) {
            return Poll::Ready(next);
        }
        READ.with_borrow_mut(|room| {
            loop {
                let mut buffer = ReadBuf::new(room);
                let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer));
                let bytes = buffer.filled();
                if read.is_err() || bytes.is_empty() {
                    return Poll::Ready(Next::Closed);
                }
                let next = if self.pending.is_empty() {
                    // The rule: one whole request, which is never kept here.
                    let (next, taken) = self.last_or_new(bytes, inner);
                    self.pending.extend_from_slice(&bytes[taken..]);
                    next
                } else {
                    self.pending.extend_from_slice(bytes);
                    self.take_pending(inner)
                };
                if let Some(next) = next {
                    return Poll::Ready(next);
                }
            }
        })
    }

    fn take_pending<S>(&mut self, inner: &Inner<S>) -> Option<Next> {
        if self.pending.is_empty() {
            return None;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let (next, taken) = self.last_or_new(&pending, inner);
        if taken < pending.len() {
            pending.drain(..taken);
            self.pending = pending;
        }
        next
    }

    /// What stands at the start of these bytes, if it is known yet, and how many of them it takes.
    fn last_or_new<S>(&mut self, bytes: &[u8], inner: &Inner<S>) -> (Option<Next>, usize) {
        let other = |http2| (Some(Next::Other { http2 }), 0);
        // A body that has not arrived whole takes all that is there.
        let begun = |head: Head, before: usize, length: usize| {
            let receiving = Receiving::new(&bytes[before..], length);
            (Some(Next::Begun(head, receiving)), bytes.len())
        };
        if let Some(last) = &self.last
            && let Some(Again { body, other_length, body_length, length }) =
                last.head.as_ref().and_then(|head| head.read(bytes))
            && last.valid.is_still(&inner.routes)
        {
            let head = &last.checked.head;
            let head = other_length.map_or_else(|| head.clone(), |length| head.with_length(length));
            return match body {
                Some(body) => (Some(Next::Post(head, body)), length),
                None if last.checked.takes(body_length) => begun(head, length - body_length, body_length),
                // Hyper answers at once, then reads and drops it.
                None => other(false),
            };
        }
        let mut request = match head::read(bytes) {
            Read::Request(request) if !inner.layered => request,
            Read::Partial => {
                self.head_until.get_or_insert_with(|| clock::after(clock::now(), inner.header_timeout));
                return (None, 0);
            }
            Read::Http2 => return other(true),
            Read::Request(_) | Read::Other => return other(false),
        };
        self.peer.name(&request.parts.headers, &mut request.parts.extensions);
        // Before the routes are asked: see there.
        let generation = inner.routes.generation();
        let next = match (inner.routes.find(request.parts.uri.path()), request.body) {
            (None, _) | (Some(Endpoint::Connect(_)), None) => return other(false),
            (Some(Endpoint::Connect(service)), _) if service.leads_elsewhere(&request.parts) => {
                return other(false);
            }
            (Some(Endpoint::Connect(service)), Some(_)) => Next::Get(service, request.parts),
            // Its answer has headers of its own; pages are few.
            (Some(Endpoint::Post(service)), _) if service.transport().wants_cors(&request.parts) => {
                return other(false);
            }
            (Some(Endpoint::Post(service)), body) => {
                let transport = service.transport();
                // Whoever has to be asked is asked while hyper holds the request.
                let Some(checked) = transport.check_post(request.parts, request.body_length) else {
                    return other(false);
                };
                match (checked, body) {
                    (Ok(checked), body) => {
                        let own = checked.head.clone();
                        let head = request.known.filter(|_| checked.is_final);
                        let valid = Valid { generation, grant: checked.grant.clone() };
                        self.last = Some(Box::new(LastPost { head, checked, valid }));
                        let Some(body) = body else {
                            let before = request.length - request.body_length;
                            return begun(own, before, request.body_length);
                        };
                        Next::Post(own, body)
                    }
                    (Err(rejection), Some(_)) => Next::Refused(transport.clone(), rejection),
                    // The answer may come before the body, which is then read and dropped: hyper's.
                    (Err(_), None) => return other(false),
                }
            }
        };
        (Some(next), request.length)
    }
}

/// What became of a body that had not arrived whole.
enum Received {
    Whole(Result<(), Rejection>),
    /// It was not read to its end.
    Not(Rejection),
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Revocation, principal::Principal};

    #[test]
    fn what_was_found_about_a_head_is_valid_until_the_routes_change_or_its_grant_is_revoked() {
        let server = super::super::Server::new();
        let routes = server.routes();
        let valid = Valid { generation: routes.generation(), grant: None };
        assert!(valid.is_still(&routes));
        let key = Revocation::default();
        let grant = Grant::new(Principal::new("alice")).revocable(&key);
        let granted = Valid { grant: Some(grant), ..valid };
        assert!(granted.is_still(&routes));
        key.revoke();
        assert!(!granted.is_still(&routes) && valid.is_still(&routes));
        // Even if nothing was there.
        assert!(!routes.remove("/messages/"));
        assert!(!valid.is_still(&routes));
    }
}
