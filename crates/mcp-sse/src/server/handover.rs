//! Connections that hyper serves: HTTP/2, requests that are not plain or not the transport's, and all requests
//! if a layer stands in front.
//!
//! What hyper bounds itself is set here; what it does not, `deadlines` does.

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
use http::{Request, Response};
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

/// What HTTP/1.1 buffers of a request's body, and of a response that the client does not take.
const BUFFER: usize = 64 * 1024;

/// Streams that a client may have open at once: the least that RFC 9113 (6.5.2) recommends. A proxy that
/// needs more opens another connection.
const MAX_STREAMS: u32 = 100;
/// What may wait of one request's body, as the protocol has it without being told.
const STREAM_WINDOW: u32 = 65_535;
/// What may wait of all bodies of a connection together.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What may wait of one response inside of hyper.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that the client opened and reset before we saw them (CVE-2023-44487, "rapid reset"): h2 ends the
/// connection with `ENHANCE_YOUR_CALM`. It is h2's own default. Those that we saw cost what requests cost.
const MAX_RESETS_UNSEEN: usize = 20;
/// Streams that we had to reset for a mistake of the client's (CVE-2025-8671, "made you reset").
const MAX_RESETS_FOR_ERRORS: usize = 64;
/// A connection of which nothing was heard for this long is asked whether it is still there …
const PING_EVERY: Duration = Duration::from_secs(30);
/// … and has this long to answer. Whoever leaves a frame half sent cannot answer: so that ends too, and a
/// header block that never does.
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// What the client gets to take what is on its way once it was told that the connection ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// How a connection is handed over.
pub(super) struct Begun {
    pub(super) socket: Socket,
    /// What was read of it already.
    pub(super) pending: Vec<u8>,
    /// Since when part of a head is there.
    pub(super) since: Instant,
    pub(super) http2: bool,
}

/// Serves such a connection to its end.
pub(super) async fn run<S, B>(begun: Begun, inner: Arc<Inner<S>>)
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Infallible>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Begun { socket, pending, since, http2 } = begun;
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
            // Here and not in the future: who runs it asks for the last request that began.
            let open = activity.begin();
            let mut service = inner.service.clone();
            async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                let response = service.call(request.map(RequestBody::new)).await.map_err(Into::into)?;
                let (mut parts, body) = response.into_parts();
                let session = parts.extensions.remove::<StreamOf>();
                Ok::<_, Infallible>(Response::from_parts(parts, Pieces::new(body, session, open)))
            }
        })
    };
    let watch = Watch::new(Arc::clone(&activity), header_timeout);
    if http2 {
        let tasks = Tasks { activity, stall };
        // Nothing that the client sends makes h2 queue answers: it reads no further until the answer to a PING
        // or to SETTINGS is written. A header block may take 5 CONTINUATION frames. Empty DATA frames, and such
        // with next to nothing in them, have a budget.
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
            // `watch` has it, and tells a head that does not come from one that nobody owes.
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(io, service);
        let response = Some((activity, stall));
        drive(connection, http1::Connection::graceful_shutdown, Ends { watch, hurry, response }, &inner)
            .await;
    }
}

/// What ends a connection from this side.
struct Ends {
    watch: Watch,
    hurry: Arc<AtomicBool>,
    /// On HTTP/1.1, where there is one response at a time, its deadline is the connection's.
    response: Option<(Arc<Activity>, Duration)>,
}

/// Runs a connection to its end.
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
                    tracing::debug!("a connection was cut: its client does not take the answer");
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
            // On HTTP/2 the client is told, and a request that crosses with that is answered.
            goodbye = Some(Box::pin(sleep_until(goodbye_until())));
            shut_down(connection.as_mut());
        }
    });
    if let Some(Err(error)) = ended.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Runs the answers of an HTTP/2 connection, each in a task of its own, as long as they are taken. Only such a
/// task can end one that is not: hyper asks nobody else while it waits for a window.
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
        // Its drop resets the stream, and h2 forgets what waits in it.
        tracing::debug!("a stream was reset: its client does not take it");
        Poll::Ready(())
    }
}
