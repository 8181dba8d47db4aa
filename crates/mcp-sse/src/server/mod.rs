//! An HTTP server of our own (feature `server`): what other servers cannot do lives here.
//!
//! | room | what lives there |
//! |---|---|
//! | here | `Server`: what users see; accepting, the bounds, the end |
//! | `connection` | one connection: plain HTTP/1.1 requests to the transport's endpoints |
//! | `head` | such a request as bytes, and a response |
//! | `parked` | an open stream on its socket |
//! | `handover` | everything else, by hyper |
//! | `lingering` | the socket that hyper gets, which it may close without a loss |
//! | `listener` | where connections come from: TCP, Unix sockets |
//! | `peer`, `proxy` | whose connection it is; PROXY protocol |
//! | `places` | how many connections one address has |

mod connection;
mod handover;
pub(crate) mod head;
mod lingering;
mod listener;
mod parked;
mod peer;
mod places;
mod proxy;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tower_service::Service;

pub use self::listener::{Listener, Socket};
use self::{
    connection::Connection,
    peer::{Peers, Trust},
};
use crate::{
    Body, ConnectSse, HandlePostMessage, Session, SseServerTransport, endpoint::canonical, transport,
};

/// Over the stall timeout's default, so that the session ends first.
const UNACKNOWLEDGED: Duration = Duration::from_secs(35);
const MAX_CONNECTIONS: usize = 20_000;
/// A connection on which no request was answered for this long (twice that at most) is closed.
const IDLE: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS_PER_ADDRESS: usize = 4_096;

/// An HTTP server for the transport, for those who have no other: an open stream costs no more than its
/// socket and its session, and a message no more than it must.
///
/// It serves HTTP/1.1 and HTTP/2 (with prior knowledge), without TLS. What goes to neither of the
/// transport's endpoints goes to the fallback, any tower service, served by hyper.
///
/// | setting | default | |
/// |---|---|---|
/// | [`max_connections`](Self::max_connections) | 20,000 | over it, clients wait in the kernel's queue |
/// | [`max_connections_per_address`](Self::max_connections_per_address) | 4,096 | over it, a connection is closed at once |
/// | [`max_unacknowledged`](Self::max_unacknowledged) | 35 s | a client that takes nothing for longer is cut off (Linux) |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s | a connection without a request for longer (twice that at most) is closed, streams aside |
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
pub struct Server<F = NotFound> {
    routes: Routes,
    fallback: F,
    max_connections: usize,
    max_unacknowledged: Duration,
    idle_timeout: Duration,
    trust: Trust,
}

/// The fallback of a [`Server`] that has no other: everything is 404.
///
/// ```
/// use mcp_sse::{NotFound, Server};
///
/// let server: Server<NotFound> = Server::new();
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NotFound;

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        ready(Ok(response))
    }
}

/// Which path is which endpoint of a [`Server`]; can be changed while it serves. Clones are the same table.
///
/// What is taken out is gone for new requests; open streams stay. `/@a` and `/%40a` are the same path here,
/// since clients write either; a path may also be given as plain text, `/my server/sse` say.
///
/// ```
/// use mcp_sse::{Server, SseServerTransport};
///
/// let server = Server::new();
/// let routes = server.routes();
/// // Later, while it serves:
/// let sse = SseServerTransport::new("/messages/")?;
/// routes.sse("/sse", sse.connect_sse(|_session| async {}));
/// routes.messages("/messages/", sse.handle_post_message());
/// assert!(routes.remove("/sse") && !routes.remove("/sse"));
/// # Ok::<(), mcp_sse::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<RwLock<HashMap<Box<str>, Endpoint>>>);

#[derive(Clone, Debug)]
enum Endpoint {
    Connect(ConnectSse),
    Post(HandlePostMessage),
}

impl Routes {
    /// Opens streams at `path`, exactly this one.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// # let sse = SseServerTransport::new("/messages/")?;
    /// Server::new().routes().sse("/sse", sse.connect_sse(|_session| async {}));
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn sse(&self, path: &str, service: ConnectSse) {
        self.insert(path, Endpoint::Connect(service));
    }

    /// Takes messages at `path`, exactly this one.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// # let sse = SseServerTransport::new("/messages/")?;
    /// Server::new().routes().messages("/messages/", sse.handle_post_message());
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn messages(&self, path: &str, service: HandlePostMessage) {
        self.insert(path, Endpoint::Post(service));
    }

    /// Takes a path out; whether it was there.
    ///
    /// ```
    /// assert!(!mcp_sse::Server::new().routes().remove("/sse"));
    /// ```
    #[must_use = "it says whether the path was there"]
    pub fn remove(&self, path: &str) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&*canonical(path)).is_some()
    }

    fn insert(&self, path: &str, endpoint: Endpoint) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(canonical(path).into(), endpoint);
    }

    fn find(&self, path: &str) -> Option<Endpoint> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Most paths are the same in either way, and those that are not ours may cost a little.
        routes.get(path).or_else(|| routes.get(&*canonical(path))).cloned()
    }
}

/// What all connections share.
struct Inner<F> {
    routes: Routes,
    fallback: F,
    /// The head and the text of the answer to a POST that was taken; it is the same each time.
    accepted: (Vec<u8>, &'static str),
    idle_timeout: Duration,
    peers: Peers,
    /// No more requests on connections that are open; set before `drained` is notified.
    draining: AtomicBool,
    drained: Notify,
}

impl<F> fmt::Debug for Inner<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl<F> Inner<F> {
    /// Whose connection it is, where a proxy says so first; `None`: it is to be closed.
    async fn meet(&self, mut socket: Socket) -> Option<Socket> {
        let drained = self.drained.notified();
        if self.draining.load(Ordering::Acquire) {
            return None;
        }
        tokio::select! {
            met = self.peers.meet(&mut socket) => met.then_some(socket),
            () = drained => None,
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
            max_connections: MAX_CONNECTIONS,
            max_unacknowledged: UNACKNOWLEDGED,
            idle_timeout: IDLE,
            trust: Trust {
                forwarded_for: 0,
                proxy_protocol: false,
                max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            },
        }
    }
}

impl<F> Server<F> {
    /// Both endpoints of a transport: the stream at `sse_path`, messages at its endpoint.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let server = Server::new().mount("/sse", &sse, |_session| async {});
    /// # drop(server);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    #[must_use]
    pub fn mount<A, R>(self, sse_path: &str, transport: &SseServerTransport, app: A) -> Self
    where
        A: Fn(Session) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.sse(sse_path, transport.connect_sse(app))
            .messages(transport.endpoint(), transport.handle_post_message())
    }

    /// Opens streams at `path`, exactly this one. Several transports can have several paths.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let server = Server::new().sse("/sse", sse.connect_sse(|_session| async {}));
    /// # drop(server);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    #[must_use]
    pub fn sse(self, path: &str, service: ConnectSse) -> Self {
        self.routes.sse(path, service);
        self
    }

    /// Takes messages at `path`, exactly this one: the transport's endpoint, behind the mount prefix if it
    /// has one.
    ///
    /// ```
    /// # use mcp_sse::{Server, SseServerTransport};
    /// let sse = SseServerTransport::builder("/messages/").mount_prefix("/api").build()?;
    /// let server = Server::new().messages("/api/messages/", sse.handle_post_message());
    /// # drop(server);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    #[must_use]
    pub fn messages(self, path: &str, service: HandlePostMessage) -> Self {
        self.routes.messages(path, service);
        self
    }

    /// The table of its endpoints, to change while it serves.
    ///
    /// ```
    /// let server = mcp_sse::Server::new();
    /// let routes = server.routes();
    /// # drop((server, routes));
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
    pub fn fallback<G>(self, fallback: G) -> Server<G> {
        let Self { routes, max_connections, max_unacknowledged, idle_timeout, trust, .. } = self;
        Server { routes, fallback, max_connections, max_unacknowledged, idle_timeout, trust }
    }

    /// Bound on open connections, 1 to 2^29; default 20,000. Over it, clients wait in the kernel's queue.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_connections(500);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, 1 << 29);
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
        self.idle_timeout = time.clamp(Duration::from_secs(1), Duration::from_secs(365 * 24 * 3600));
        self
    }

    /// Bound on the open connections of one address (of IPv6, a /64 network), at least 1; default 4,096. Over
    /// it, a connection is closed at once, before anything is read. Loopback addresses and Unix sockets have
    /// no such bound.
    ///
    /// The default lets 200 people behind one address have twenty connections each, and no address take more
    /// than a fifth of them all. With [`trust_forwarded_for`](Self::trust_forwarded_for) it is off, since all
    /// connections are the proxy's; sessions still count to their clients.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_connections_per_address(100);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.trust.max_connections_per_address = connections.max(1);
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
        self.trust.forwarded_for = proxies;
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
        self.trust.proxy_protocol = on;
        self
    }

    /// How long a client may take nothing of what was sent to it before the kernel cuts it off; default 35 s.
    /// Should be longer than the stall timeout. Works on Linux only; elsewhere the system's own timeout ends
    /// such a connection.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_unacknowledged(std::time::Duration::from_secs(65));
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn max_unacknowledged(mut self, time: Duration) -> Self {
        self.max_unacknowledged = time;
        self
    }

    /// Serves until `end`, then accepts no more, lets the requests that run and the streams that are open
    /// finish, at most `patience`, and cuts off what is left. Requests are served while `end` runs, so
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
        F: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        F::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { routes, fallback, max_connections, max_unacknowledged, idle_timeout, trust } = self;
        let inner = Arc::new(Inner {
            routes,
            fallback,
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
        loop {
            let accepted = async {
                // Before the accept: over the bound, clients wait in the kernel's queue.
                let permit = Arc::clone(&room).acquire_owned().await;
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
                    if let Err(error) = prepare(&socket, max_unacknowledged) {
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
    let (parts, body) = transport::post::answer(Ok(())).into_parts();
    let mut head = Vec::new();
    head::write_head(&mut head, &parts);
    (head, body.into_stream().err().unwrap_or_default())
}

/// Answers leave at once, and a client that does not read is cut off by the kernel: once a stream's
/// buffers are full, nobody else would notice that it is over.
fn prepare(socket: &Socket, max_unacknowledged: Duration) -> io::Result<()> {
    let Some(socket) = socket.tcp() else { return Ok(()) };
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_user_timeout(Some(max_unacknowledged))?;
    #[cfg(not(target_os = "linux"))]
    let _ = max_unacknowledged;
    Ok(())
}
