//! An HTTP server of our own (feature `server`): what other servers cannot do lives here.
//!
//! | room | what lives there |
//! |---|---|
//! | here | `Server`: what users see; accepting, the bounds, the end |
//! | `routes` | which path is which endpoint |
//! | `layers` | endpoints and fallback as one service, for layers to stand in front of |
//! | `inner` | what all connections share |
//! | `connection` | one connection: plain HTTP/1.1 requests to the transport's endpoints |
//! | `head` | such a request as bytes, and a response |
//! | `parked` | an open stream on its socket |
//! | `handover` | everything else, by hyper |
//! | `deadlines` | what hyper does not end itself |
//! | `lingering` | the socket that hyper gets, which it may close without a loss |
//! | `listener` | where connections come from: TCP, Unix sockets |
//! | `peer`, `proxy` | whose connection it is; PROXY protocol |
//! | `places` | how many connections one address has |

mod connection;
mod deadlines;
mod gathered;
mod handover;
pub(crate) mod head;
mod inner;
mod layers;
mod lingering;
mod listener;
mod parked;
mod peer;
mod places;
mod proxy;
mod routes;

pub use self::{
    layers::{Endpoints, NotFound, RequestBody, ResponseBody},
    listener::{Listener, Socket},
    routes::Routes,
};

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tower_layer::{Identity, Layer, Stack};
use tower_service::Service;

use self::{
    connection::Connection,
    inner::Inner,
    peer::{Peers, Trust},
};
use crate::{
    clock,
    session::Session,
    throttle::Throttle,
    transport::{SseServerTransport, answer},
};

/// Over the stall timeout's default, so that the session ends first.
const UNACKNOWLEDGED: Duration = Duration::from_secs(35);
const MAX_CONNECTIONS: usize = 16_384;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection on which no request was answered for this long (twice that at most) is closed.
const IDLE: Duration = Duration::from_secs(60);
/// The least and the most of a time that is set: what the kernel takes, in milliseconds of 31 bits.
const TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(i32::MAX as u64));
const MAX_CONNECTIONS_PER_ADDRESS: usize = 4_096;

/// An HTTP server for the transport, for those who have no other: an open stream costs no more than its
/// socket and its session, and a message no more than it must.
///
/// It serves HTTP/1.1 and HTTP/2 (with prior knowledge), without TLS. What goes to neither of the
/// transport's endpoints goes to the fallback, any tower service, served by hyper.
///
/// | setting | default | |
/// |---|---|---|
/// | [`max_connections`](Self::max_connections) | 16,384 | over it, clients wait in the kernel's queue |
/// | [`max_connections_per_address`](Self::max_connections_per_address) | 4,096 | over it, a connection is closed at once |
/// | [`header_timeout`](Self::header_timeout) | 30 s | a request's head that is not there whole by then ends the connection |
/// | [`tcp_user_timeout`](Self::tcp_user_timeout) | 35 s | a client that takes nothing for longer is cut off |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s | a connection without a request for longer (twice that at most) is closed, streams aside |
///
/// # Deadlines
///
/// Nobody can hold a connection by doing nothing, or half of something:
///
/// | what a client does | what ends it |
/// |---|---|
/// | it says nothing, or no more | 60 s after the last answer (120 s at most); on HTTP/2 also if it answers pings |
/// | half a head, or half of HTTP/2's preface | [`header_timeout`](Self::header_timeout) after its first byte; 408 where HTTP/1.1 was spoken |
/// | half a body, to a transport's endpoint | [`Builder::body_timeout`](crate::Builder::body_timeout), with 408 |
/// | half a body, elsewhere | 60 s without any of it: the [`RequestBody`] ends with an error |
/// | it takes nothing of an answer or a stream | [`tcp_user_timeout`](Self::tcp_user_timeout). On HTTP/2, less than 16 KiB of what waits counts as nothing, whether the window is open or not. What is left of a closed session's stream has twice that time |
/// | it does not answer HTTP/2's pings (every 30 s), or leaves a frame half sent | 20 s after the ping |
///
/// # What one connection can hold
///
/// Beside what its sessions hold (see [`Builder`](crate::Builder)), and what a fallback or a layer keeps, a
/// connection can make the server hold, at the most:
///
/// | connection | bytes | of which |
/// |---|---|---|
/// | HTTP/1.1, here | 150 KiB | a head of 16 KiB and a message of 64 KiB in all, and what came behind it |
/// | HTTP/1.1, a stream here | 256 KiB | of its session's events, on their way |
/// | HTTP/1.1, by hyper | 350 KiB | the same, and 64 KiB each way, in buffers that grow to twice that |
/// | HTTP/2 | 1 MiB | 256 KiB of bodies, 16 KiB of head, buffers; and for each of 100 streams some 5 KiB |
/// | an HTTP/2 stream that is not taken | 112 KiB | a chunk of 64 KiB, and 48 KiB of it on its way |
///
/// In the kernel, what is not sent yet is bounded by 128 KiB (`TCP_NOTSENT_LOWAT`, Linux): from the start where
/// hyper serves, and for a stream served here from its first large event on, or since its client was slow.
///
/// # Layers
///
/// See [`layer`](Self::layer).
///
/// # Example
///
/// ```
/// use mcp_sse::{Server, Session, SseServerTransport};
///
/// async fn app(mut session: Session) {
///     while let Some(_incoming) = session.recv().await {}
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sse = SseServerTransport::new("/messages/")?;
/// let server = Server::new().mount("/sse", &sse, app);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
///
/// let end = async {
///     // Until a signal comes, say; then the sessions end.
///     sse.shutdown(std::time::Duration::from_secs(5)).await;
/// };
/// server.serve(listener, end, std::time::Duration::from_secs(2)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Server<F = NotFound, L = Identity> {
    routes: Routes,
    fallback: F,
    layers: L,
    /// `layers` are not none.
    layered: bool,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    max_connections: usize,
    header_timeout: Duration,
    tcp_user_timeout: Duration,
    idle_timeout: Duration,
    trust: Trust,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            header_timeout: HEADER_TIMEOUT,
            tcp_user_timeout: UNACKNOWLEDGED,
            idle_timeout: IDLE,
            trust: Trust {
                forwarded_for: 0,
                proxy_protocol: false,
                max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            },
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server without endpoints.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_connections(1_000);
    /// # drop(server);
    /// ```
    pub fn new() -> Self {
        Self {
            routes: Routes::default(),
            fallback: NotFound,
            layers: Identity::new(),
            layered: false,
            settings: Settings::default(),
        }
    }
}

impl<F, L> Server<F, L> {
    /// Both endpoints of a transport: the stream at `sse_path`, messages at its endpoint. Several transports can have
    /// several paths. [`routes`](Self::routes) has each endpoint by itself, for a transport whose messages come in
    /// behind a mount prefix, or with a service that is made otherwise.
    ///
    /// ```
    /// # use mcp_sse::{Server, Session, SseServerTransport};
    /// # async fn git_app(_: Session) {}
    /// # async fn time_app(_: Session) {}
    /// let git = SseServerTransport::new("/git/messages/")?;
    /// let time = git.with_endpoint("/time/messages/")?;
    /// let server = Server::new().mount("/git/sse", &git, git_app).mount("/time/sse", &time, time_app);
    /// # drop(server);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    #[must_use]
    pub fn mount<A, R>(self, sse_path: &str, transport: &SseServerTransport, app: A) -> Self
    where
        A: Fn(Session) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.routes.sse(sse_path, transport.connect_sse(app));
        self.routes.messages(transport.endpoint(), transport.handle_post_message());
        self
    }

    /// The table of its endpoints: for one that [`mount`](Self::mount) does not fit, and to change while it serves.
    ///
    /// ```
    /// # use mcp_sse::{Server, Session, SseServerTransport};
    /// # async fn app(_: Session) {}
    /// // Clients post to /api/messages/.
    /// let sse = SseServerTransport::builder("/messages/").mount_prefix("/api").build()?;
    /// let server = Server::new();
    /// server.routes().sse("/api/sse", sse.connect_sse(app));
    /// server.routes().messages("/api/messages/", sse.handle_post_message());
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// What answers at all other paths: an axum `Router`, say.
    ///
    /// ```
    /// let router: axum::Router =
    ///     axum::Router::new().route("/health", axum::routing::get(|| async { "ok" }));
    /// let server = mcp_sse::Server::new().fallback(router);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn fallback<G>(self, fallback: G) -> Server<G, L> {
        let Self { routes, layers, layered, settings, .. } = self;
        Server { routes, fallback, layers, layered, settings }
    }

    /// Puts a tower layer in front of all endpoints and the fallback: authentication, say. One that is added
    /// later stands outside of those before. Its service must not fail (`Infallible`), as with axum: a refusal
    /// is a response.
    ///
    /// It gets a `Request<RequestBody>` (see [`RequestBody`]) and answers with a response of any body;
    /// behind it stand the [`Endpoints`], which take any body and answer with a [`ResponseBody`]. What it puts
    /// into the request's extensions, a [`Principal`](crate::Principal) above all, is what the transport sees.
    ///
    /// It costs: with a layer every request goes through hyper and is checked anew, which is some 40 % fewer
    /// requests a second, and an open stream holds a few KiB more.
    ///
    /// ```
    /// use http::{Request, Response, StatusCode, header::AUTHORIZATION};
    /// use mcp_sse::{Principal, RequestBody, ResponseBody, Server, Session, SseServerTransport};
    /// use tower_http::auth::AsyncRequireAuthorizationLayer;
    ///
    /// async fn authenticate(
    ///     mut request: Request<RequestBody>,
    /// ) -> Result<Request<RequestBody>, Response<ResponseBody>> {
    ///     let user = match request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()) {
    ///         Some(b"Bearer alices-secret") => "alice",
    ///         _ => {
    ///             let mut refusal = Response::new(ResponseBody::from("Unauthorized"));
    ///             *refusal.status_mut() = StatusCode::UNAUTHORIZED;
    ///             return Err(refusal);
    ///         }
    ///     };
    ///     request.extensions_mut().insert(Principal::new(user));
    ///     Ok(request)
    /// }
    ///
    /// # async fn app(_: Session) {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let server = Server::new()
    ///     .mount("/sse", &sse, app)
    ///     .layer(AsyncRequireAuthorizationLayer::new(authenticate));
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// # server.serve(listener, async {}, std::time::Duration::ZERO).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer<M>(self, layer: M) -> Server<F, Stack<L, M>> {
        let Self { routes, fallback, layers, settings, .. } = self;
        let (layers, layered) = (Stack::new(layers, layer), true);
        Server { routes, fallback, layers, layered, settings }
    }

    /// Bound on open connections, 1 to 2^29 - 1 (what is outside is taken as the nearest); default 16,384.
    /// Over it, clients wait in the kernel's queue, and the log says so.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_connections(500);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections.clamp(1, (1 << 29) - 1);
        self
    }

    /// How long the head of a request may take from its first byte, and on HTTP/2 the first request from the
    /// connection's first byte; 1 s to 24 days (what is outside is taken as the nearest); default 30 s.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().header_timeout(std::time::Duration::from_secs(10));
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn header_timeout(mut self, time: Duration) -> Self {
        self.settings.header_timeout = time.clamp(TIMES.0, TIMES.1);
        self
    }

    /// How long a connection may be open without a request being answered on it, streams aside; it is closed
    /// then, after twice that at most. Default: 60 s; from 1 s to a year.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().idle_timeout(std::time::Duration::from_secs(10));
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.settings.idle_timeout = time.clamp(TIMES.0, clock::FAR);
        self
    }

    /// Bound on the open connections of one address (of IPv6, a /64 network), at least 1; default 4,096. Over
    /// it, a connection is closed at once, before anything is read. Loopback addresses and Unix sockets have
    /// no such bound.
    ///
    /// The default lets 200 people behind one address have twenty connections each, and no address take more
    /// than a fourth of them all. With [`trust_forwarded_for`](Self::trust_forwarded_for) it is off, since all
    /// connections are the proxy's; sessions still count to their clients.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_connections_per_address(100);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.settings.trust.max_connections_per_address = connections.max(1);
        self
    }

    /// How many proxies stand in front that each add the address they were asked from to `X-Forwarded-For`;
    /// default 0. With N, the client of a request is entry N from the right, in all such lines together; what
    /// stands further left may be the client's own invention.
    ///
    /// Where that entry is missing or no address, the client is the peer of the connection, the proxy: its
    /// bounds are then shared by all such requests, and the log says so. `Forwarded` (RFC 7239) is not read: a
    /// proxy that writes one of the two passes the other on as the client sent it.
    ///
    /// ```
    /// // Behind one reverse proxy.
    /// let server = mcp_sse::Server::new().trust_forwarded_for(1);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn trust_forwarded_for(mut self, proxies: usize) -> Self {
        self.settings.trust.forwarded_for = proxies;
        self
    }

    /// Whether each connection begins with a header of the PROXY protocol, version 2 (binary), that says where
    /// it comes from; default no. Version 1 (text) is refused.
    ///
    /// A connection without such a header within 5 s is closed, so that nobody can leave it out; whoever can
    /// connect can say any address, so let only the proxy connect. The proxy's own health checks (`LOCAL`)
    /// come from its address, and do not count in
    /// [`max_connections_per_address`](Self::max_connections_per_address).
    ///
    /// ```
    /// let server = mcp_sse::Server::new().proxy_protocol(true);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn proxy_protocol(mut self, on: bool) -> Self {
        self.settings.trust.proxy_protocol = on;
        self
    }

    /// How long a client may take nothing of what was sent to it before it is cut off; 1 s to 24 days (what
    /// is outside is taken as the nearest); default 35 s. Should be longer than the stall timeout.
    ///
    /// Where a stream is served without hyper (HTTP/1.1, no layer) the kernel does it, on Linux only; elsewhere
    /// the system's own timeout ends such a connection.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().tcp_user_timeout(std::time::Duration::from_secs(65));
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn tcp_user_timeout(mut self, time: Duration) -> Self {
        self.settings.tcp_user_timeout = time.clamp(TIMES.0, TIMES.1);
        self
    }

    /// Serves until `end`, then accepts no more, lets the requests that run and the streams that are open
    /// finish, at most `patience` (of any length), and cuts off what is left. Requests are served while `end` runs, so
    /// that is the place for [`SseServerTransport::shutdown`](crate::SseServerTransport::shutdown), which
    /// ends the streams.
    ///
    /// Dropping the future cuts all connections off.
    ///
    /// ```
    /// # use mcp_sse::Server;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let end = async {}; // at once
    /// Server::new().serve(listener, end, std::time::Duration::from_secs(2)).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve<A, B>(self, mut listener: A, end: impl Future<Output = ()>, patience: Duration)
    where
        A: Listener,
        L: Layer<Endpoints<F>>,
        L::Service: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<RequestBody>>>::Error: Into<Infallible>,
        <L::Service as Service<Request<RequestBody>>>::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { routes, fallback, layers, layered, settings } = self;
        let Settings { max_connections, header_timeout, tcp_user_timeout, idle_timeout, trust } = settings;
        let inner = Arc::new(Inner {
            service: layers.layer(Endpoints::new(routes.clone(), fallback)),
            layered,
            routes,
            header_timeout,
            tcp_user_timeout,
            accepted: accepted(),
            idle_timeout,
            peers: Peers::new(trust),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
        });
        let room = Arc::new(Semaphore::new(max_connections));
        let mut connections = JoinSet::new();
        let mut end = std::pin::pin!(end);
        let mut failures = 0_u64;
        let full = Throttle::of(1);
        loop {
            let accepted = async {
                // Before the accept: over the bound, clients wait in the kernel's queue.
                let permit = if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                    Ok(permit)
                } else {
                    if let Some(left_out) = full.line(clock::now()) {
                        tracing::warn!(
                            limit = max_connections,
                            left_out,
                            "all connections are taken, and clients wait until one ends; raise max_connections (--max-connections) if this load is expected"
                        );
                    }
                    Arc::clone(&room).acquire_owned().await
                };
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut end => break,
                accepted = accepted => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(mut socket) => {
                    failures = 0;
                    if let Err(error) = prepare(&socket, tcp_user_timeout) {
                        tracing::debug!(%error, "socket options were not set");
                    }
                    // Over the bound, it is closed by not being kept.
                    if !inner.peers.admit(&mut socket) {
                        continue;
                    }
                    let connection = Connection::new(socket, Arc::clone(&inner));
                    connections.spawn(async move {
                        let _permit = permit;
                        connection.await;
                    });
                }
                Err(error) => {
                    failures += 1;
                    // The first, and then ever fewer: it may go on for long.
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "connections cannot be accepted; of files, the limit on open ones may be too low");
                    }
                    // Out of files, most likely: what is open has to end first. A short pause keeps the
                    // loop from spinning meanwhile.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        inner.draining.store(true, Ordering::Release);
        inner.drained.notify_waiters();
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
        }
    }
}

fn accepted() -> (Vec<u8>, &'static str) {
    let (parts, body) = answer::posted(Ok(())).into_parts();
    let mut head = Vec::new();
    head::write_head(&mut head, &parts);
    (head, body.into_stream().err().unwrap_or_default())
}

/// Answers leave at once, and a client that does not read is cut off by the kernel: once a stream's
/// buffers are full, nobody else would notice that it is over.
fn prepare(socket: &Socket, tcp_user_timeout: Duration) -> io::Result<()> {
    let Some(socket) = socket.tcp() else { return Ok(()) };
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(socket);
        socket.set_tcp_user_timeout(Some(tcp_user_timeout))?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = tcp_user_timeout;
    Ok(())
}
