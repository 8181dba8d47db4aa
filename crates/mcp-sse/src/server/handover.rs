//! Connections that hyper serves: HTTP/2, requests that are not plain or not for the transport, and all
//! requests if there is a layer.
//!
//! hyper's own limits are set here; `deadlines` has those that hyper lacks.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{
    deadlines::{Activity, Deadline, Pieces, Watch},
    head::MAX_HEAD,
    inner::Inner,
    layers::{RequestBody, StreamOf},
    lingering::Lingering,
    listener::Socket,
};
use crate::clock;

/// How much HTTP/1.1 buffers of a request's body, and of a response that the client does not read.
const BUFFER: usize = 64 * 1024;

/// The streams that a client may have open at once: the minimum that RFC 9113 (6.5.2) recommends. A proxy
/// that needs more opens another connection.
const MAX_STREAMS: u32 = 100;
/// How much of one request's body may wait: the default of the protocol.
const STREAM_WINDOW: u32 = 65_535;
/// How much may wait of all bodies of a connection together.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How much of one response may wait in hyper.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that the client opened and reset before hyper saw them (CVE-2023-44487, "rapid reset"). With more,
/// h2 ends the connection with `ENHANCE_YOUR_CALM`. This is h2's default. Streams that hyper saw cost no more
/// than requests.
const MAX_RESETS_UNSEEN: usize = 20;
/// Streams that the server had to reset because of an error of the client (CVE-2025-8671, "made you reset").
const MAX_RESETS_FOR_ERRORS: usize = 64;
/// A PING is sent on a connection on which nothing arrived for this long …
const PING_EVERY: Duration = Duration::from_secs(30);
/// … and must be answered within this time. A client that leaves a frame half sent, or never ends a header
/// block, cannot answer, so this ends those connections too.
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// How long a client may take to read what is on its way after it was told that the connection ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection as it is handed over to hyper.
pub(super) struct Begun {
    pub(super) socket: Socket,
    /// The bytes that were read already.
    pub(super) pending: Vec<u8>,
    /// When the first part of a head arrived.
    pub(super) since: Instant,
    pub(super) http2: bool,
}

/// Serves a connection with hyper until it ends.
pub(super) async fn run<S, B>(begun: Begun, inner: Arc<Inner<S>>)
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Infallible>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Begun { socket, pending, since, http2 } = begun;
    if http2 && !inner.http2 {
        return;
    }
    let (header_timeout, stall) = (inner.header_timeout, inner.tcp_user_timeout);
    let peer = inner.peers.peer(&socket);
    socket.bound_unsent();
    let activity = Activity::new(since, !http2, inner.idle_timeout);
    let hurry = Arc::new(AtomicBool::new(false));
    let io = Lingering::new(socket, pending, stall, Arc::clone(&hurry)).telling(Arc::clone(&activity));
    let io = TokioIo::new(io);
    let service = {
        let (inner, activity) = (Arc::clone(&inner), Arc::clone(&activity));
        service_fn(move |mut request: Request<Incoming>| {
            let mut extensions = std::mem::take(request.extensions_mut());
            peer.name(request.headers(), &mut extensions);
            *request.extensions_mut() = extensions;
            // Here and not in the future: `Tasks::execute` asks for the request that began last.
            let open = activity.begin();
            let mut service = inner.service.clone();
            // Hyper leaves out the body of an answer to HEAD on HTTP/1.1 only.
            let without_body = http2 && request.method() == Method::HEAD;
            async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                let (head, body) = request.into_parts();
                let waits = head.headers.contains_key(header::EXPECT);
                let (body, left) = RequestBody::new(body);
                let response = service.call(Request::from_parts(head, body)).await.map_err(Into::into)?;
                let (mut parts, body) = response.into_parts();
                let session = parts.extensions.remove::<StreamOf>();
                // If there is more of the body, hyper closes the connection; a client that is not told sends its next
                // request into that.
                if !http2 && !left.ends(waits).await {
                    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                let body = (!without_body).then_some(body);
                Ok::<_, Infallible>(Response::from_parts(parts, Pieces::new(body, session, open)))
            }
        })
    };
    let watch = Watch::new(Arc::clone(&activity), header_timeout);
    if http2 {
        let tasks = Tasks { activity, stall };
        // h2 itself limits the rest: it does not queue answers to PING and SETTINGS, but reads no further
        // until the answer is written; a header block may have 5 CONTINUATION frames; there is a budget for
        // DATA frames that are empty or nearly so.
        let connection = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_RESETS_UNSEEN)
            .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .serve_connection(io, service);
        drive(
            connection,
            http2::Connection::graceful_shutdown,
            Ends { watch, hurry, response: None },
            &inner,
        )
        .await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // `watch` has one, which distinguishes an incomplete head from an idle connection.
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(io, service);
        let response = Some((activity, stall));
        drive(connection, http1::Connection::graceful_shutdown, Ends { watch, hurry, response }, &inner)
            .await;
    }
}

/// What makes the server end a connection.
struct Ends {
    watch: Watch,
    hurry: Arc<AtomicBool>,
    /// On HTTP/1.1, which has one response at a time, its deadline is that of the connection.
    response: Option<(Arc<Activity>, Duration)>,
}

/// Runs a connection until it ends.
async fn drive<C, S>(connection: C, shut_down: impl Fn(Pin<&mut C>), ends: Ends, inner: &Inner<S>)
where
    C: Future<Output = hyper::Result<()>>,
{
    let Ends { mut watch, hurry, response } = ends;
    let mut connection = pin!(connection);
    let mut drained = pin!(inner.drained.notified());
    let mut registered = false;
    let mut draining = false;
    let mut deadline = None::<Deadline>;
    let mut goodbye = None::<Pin<Box<Sleep>>>;
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            if !registered {
                // The task's waker does not change.
                registered = true;
                let _ = drained.as_mut().poll(cx);
            }
            if !draining && inner.draining.load(Ordering::Acquire) {
                draining = true;
                hurry.store(true, Ordering::Release);
                shut_down(connection.as_mut());
                continue;
            }
            if let Some((activity, stall)) = &response {
                if let Some(taking) = activity.last() {
                    deadline = Some(Deadline::new(taking, *stall));
                }
                if deadline.as_mut().is_some_and(|deadline| deadline.poll(cx).is_ready()) {
                    tracing::debug!("a connection was cut off: its client does not read the response");
                    return Poll::Ready(None);
                }
            }
            let goodbye_until = || clock::after(clock::now(), GOODBYE).into();
            if let Some(goodbye) = &mut goodbye {
                if goodbye.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if watch.is_quiet() {
                    return Poll::Ready(None);
                }
                goodbye.as_mut().reset(goodbye_until());
                continue;
            }
            if watch.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if response.is_some() {
                return Poll::Ready(None);
            }
            // On HTTP/2 the client is told (GOAWAY), and a request that it sent in the meantime is still
            // answered.
            goodbye = Some(Box::pin(sleep_until(goodbye_until())));
            shut_down(connection.as_mut());
        }
    });
    if let Some(Err(error)) = ended.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Runs the responses of an HTTP/2 connection, each in a task of its own with a deadline. Only that task can
/// end a response that is not read: while hyper waits for a window, it polls nothing else.
#[derive(Clone)]
struct Tasks {
    activity: Arc<Activity>,
    stall: Duration,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answer: F) {
        let deadline = self.activity.last().map(|taking| Deadline::new(taking, self.stall));
        tokio::spawn(Answer { answer: Box::pin(answer), deadline });
    }
}

struct Answer<F> {
    answer: Pin<Box<F>>,
    deadline: Option<Deadline>,
}

impl<F: Future<Output = ()>> Future for Answer<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.answer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.poll(cx));
        // The drop resets the stream, and h2 discards what waits in it.
        tracing::debug!("an HTTP/2 stream was reset: its client does not read the response");
        Poll::Ready(())
    }
}
