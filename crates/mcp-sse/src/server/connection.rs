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
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    sync::futures::Notified,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;

use super::{
    Endpoint, Inner, Routes, handover,
    head::{self, Known, MAX_REQUEST, Read},
    listener::Socket,
    parked::Parked,
    peer::Peer,
};
use crate::{
    Body, ConnectSse, SseServerTransport,
    admission::Rejection,
    clock,
    session::head::Head,
    transport::post::{self, CheckedPost},
};

thread_local! {
    /// What is being read. Each thread reads one thing at a time.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_REQUEST].into());
    /// What is being written, the same.
    static WRITE: RefCell<Vec<u8>> = RefCell::default();
}

fn idle_until(time: Duration) -> Instant {
    (clock::now() + time).into()
}

/// A connection's task. What the requests need is boxed and goes when the connection becomes a stream.
pub(super) enum Connection {
    Http(Pin<Box<dyn Future<Output = Option<Parked>> + Send>>),
    Parked(Parked),
}

impl Connection {
    pub(super) fn new<F, B>(socket: Socket, inner: Arc<Inner<F>>) -> Self
    where
        F: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        F::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::Http(Box::pin(async move {
            let socket = if inner.peers.say_who_they_are() { inner.meet(socket).await? } else { socket };
            match Plain::new(socket, &inner).run(&inner).await {
                End::Closed => None,
                End::Stream(parked) => Some(parked),
                End::Other(socket, pending) => {
                    Box::pin(handover::run(socket, pending, inner)).await;
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
    /// With a request that hyper is to read, and its beginning.
    Other(Socket, Vec<u8>),
}

/// What comes next on a connection.
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
enum Next {
    Get(ConnectSse, Parts),
    /// A message; what is known of its head stands in `last`.
    Post(Head, Bytes),
    Refused(Rejection),
    Other,
    Closed,
}

/// The last message's head. The next one has the same, most of the time: then it needs no checks of its
/// own.
struct LastPost {
    head: Option<Known>,
    checked: CheckedPost,
    transport: SseServerTransport,
}

/// A connection on which only plain requests have come.
struct Plain {
    socket: Socket,
    peer: Peer,
    last: Option<Box<LastPost>>,
    /// What has come of the next request.
    pending: Vec<u8>,
    /// A request was answered since the timer was set.
    active: bool,
}

impl Plain {
    fn new<F>(socket: Socket, inner: &Inner<F>) -> Self {
        Self { peer: inner.peers.peer(&socket), socket, last: None, pending: Vec::new(), active: false }
    }

    async fn run<F>(mut self, inner: &Inner<F>) -> End {
        let drained = pin!(inner.drained.notified());
        let idle = pin!(sleep_until(idle_until(inner.idle_timeout)));
        let mut watch = Watch { drained, idle, registered: false };
        loop {
            let next = poll_fn(|cx| match self.poll_next(&inner.routes, cx) {
                Poll::Pending if watch.is_over(inner, &mut self.active, cx) => Poll::Ready(Next::Closed),
                polled => polled,
            });
            let response = match next.await {
                Next::Get(service, parts) => Some(service.connect(&parts)),
                Next::Post(head, body) => self.post(head, body).await,
                Next::Refused(rejection) => Some(post::answer(Err(rejection))),
                Next::Other => return End::Other(self.socket, self.pending),
                Next::Closed => return End::Closed,
            };
            let closes = inner.draining.load(Ordering::Acquire);
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
                    Poll::Pending if watch.is_over(inner, &mut self.active, cx) => {
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                    polled => polled,
                });
                match written.await {
                    Ok(written) if written > 0 => drop(rest.drain(..written)),
                    _ => return End::Closed,
                }
            }
            self.active = true;
            if self.last.as_ref().is_some_and(|last| last.head.is_none()) {
                self.last = None;
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
        match last.transport.post_at_once(&last.checked, head, body) {
            Ok(Ok(())) => None,
            Ok(refused) => Some(post::answer(refused)),
            Err((head, body)) => {
                let request = Request::from_parts(head.into_parts(), Full::new(body));
                Some(Box::pin(last.transport.post(request)).await)
            }
        }
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
    fn poll_next(&mut self, routes: &Routes, cx: &mut Context<'_>) -> Poll<Next> {
        // Several requests may have come at once.
        if let Some(next) = self.take_pending(routes) {
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
                    let (next, taken) = self.last_or_new(bytes, routes);
                    self.pending.extend_from_slice(&bytes[taken..]);
                    next
                } else {
                    self.pending.extend_from_slice(bytes);
                    self.take_pending(routes)
                };
                if let Some(next) = next {
                    return Poll::Ready(next);
                }
            }
        })
    }

    fn take_pending(&mut self, routes: &Routes) -> Option<Next> {
        if self.pending.is_empty() {
            return None;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let (next, taken) = self.last_or_new(&pending, routes);
        if taken < pending.len() {
            pending.drain(..taken);
            self.pending = pending;
        }
        next
    }

    /// What stands at the start of these bytes, if it is known yet, and how many of them it takes.
    fn last_or_new(&mut self, bytes: &[u8], routes: &Routes) -> (Option<Next>, usize) {
        if let Some(last) = &self.last
            && let Some((body, other_length, length)) = last.head.as_ref().and_then(|head| head.read(bytes))
        {
            let head = &last.checked.head;
            let head = other_length.map_or_else(|| head.clone(), |length| head.with_length(length));
            return (Some(Next::Post(head, body)), length);
        }
        let mut request = match head::read(bytes) {
            Read::Request(request) => request,
            Read::Partial => return (None, 0),
            Read::Other => return (Some(Next::Other), 0),
        };
        self.peer.name(&request.parts.headers, &mut request.parts.extensions);
        let next = match routes.find(request.parts.uri.path()) {
            None => return (Some(Next::Other), 0),
            Some(Endpoint::Connect(service)) => Next::Get(service, request.parts),
            // Its answer has headers of its own; pages are few.
            Some(Endpoint::Post(service)) if service.transport().wants_cors(&request.parts) => {
                return (Some(Next::Other), 0);
            }
            Some(Endpoint::Post(service)) => {
                let transport = service.transport();
                match transport.check_post(request.parts, request.body.len()) {
                    Ok(checked) => {
                        let (head, transport) = (checked.head.clone(), transport.clone());
                        self.last = Some(Box::new(LastPost { head: request.known, checked, transport }));
                        Next::Post(head, request.body)
                    }
                    Err(rejection) => Next::Refused(rejection),
                }
            }
        };
        (Some(next), request.length)
    }
}

/// What ends a connection from this side: the server ends, or nothing happens on it.
struct Watch<'a, 'n> {
    drained: Pin<&'a mut Notified<'n>>,
    idle: Pin<&'a mut Sleep>,
    /// Both have the task's waker; it does not change.
    registered: bool,
}

impl Watch<'_, '_> {
    fn is_over<F>(&mut self, inner: &Inner<F>, active: &mut bool, cx: &mut Context<'_>) -> bool {
        if !self.registered {
            self.registered = true;
            let _ = self.drained.as_mut().poll(cx);
            let _ = self.idle.as_mut().poll(cx);
        }
        if self.idle.is_elapsed() {
            if !std::mem::take(active) {
                return true;
            }
            self.idle.as_mut().reset(idle_until(inner.idle_timeout));
            let _ = self.idle.as_mut().poll(cx);
        }
        // Looked at behind the registration: it is set before the waiters are woken.
        inner.draining.load(Ordering::Acquire)
    }
}
