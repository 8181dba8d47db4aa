//! An HTTP server of our own (feature `server`), for what other servers cannot do.
//!
//! | room | what lives there |
//! |---|---|
//! | here | `Server`, as users see it: settings, accepting connections, the end |
//! | `routes` | which path is which endpoint |
//! | `layers` | endpoints and fallback as one service, which layers wrap |
//! | `inner` | what all connections share |
//! | `accept` | accepting connections until the end |
//! | `connection` | one connection: plain HTTP/1.1 requests to the transport's endpoints |
//! | `head` | the bytes of such a request, and of a response |
//! | `parked` | an open stream on its socket |
//! | `handover` | all other requests, by hyper |
//! | `deadlines` | the deadlines that hyper lacks |
//! | `lingering` | the socket that hyper gets, which is closed in stages |
//! | `listener` | where connections come from: TCP, Unix sockets |
//! | `peer`, `proxy` | the client's address; PROXY protocol |
//! | `places` | how many connections an address has |

mod accept;
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
mod receiving;
mod routes;
mod watch;

pub use self::{
    layers::{Endpoints, NotFound, RequestBody},
    listener::{Listener, Socket},
    routes::Routes,
};

use std::{
    convert::Infallible,
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Notify;
use tower_layer::{Identity, Layer, Stack};
use tower_service::Service;

use self::{
    accept::accept,
    inner::{Handshake, Inner},
    peer::{Peers, Trust},
};
use crate::{
    clock,
    session::Session,
    transport::{SseServerTransport, answer},
};

/// Longer than the default of the stall timeout, so that the session ends first.
const UNACKNOWLEDGED: Duration = Duration::from_secs(35);
const MAX_CONNECTIONS: usize = 16_384;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection on which no request was answered for this long (at most twice as long) is closed.
const IDLE: Duration = Duration::from_secs(60);
/// The shortest and the longest timeout: the kernel takes milliseconds of 31 bits.
const TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(i32::MAX as u64));
const MAX_CONNECTIONS_PER_ADDRESS: usize = 4_096;

/// An HTTP server for the transport, if you have no other: an open stream needs no more than its socket and
/// its session, and messages take a short path.
///
/// It serves HTTP/1.1 and HTTP/2 (with prior knowledge), over TLS with a [`handshake`](Self::handshake) of yours. Requests to other paths than the
/// transport's endpoints go to the fallback, which can be any tower service and is served by hyper.
///
/// | setting | default | |
/// |---|---|---|
/// | [`max_connections`](Self::max_connections) | 16,384 | when it is reached, clients wait in the kernel's queue |
/// | [`max_connections_per_address`](Self::max_connections_per_address) | 4,096 | beyond, a connection is closed at once |
/// | [`header_timeout`](Self::header_timeout) | 30 s | if the head of a request is not complete by then, the connection is closed |
/// | [`tcp_user_timeout`](Self::tcp_user_timeout) | 35 s | a client that reads nothing for longer is cut off |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s | a connection without a request for longer (at most twice as long) is closed, except streams |
///
/// # Deadlines
///
/// A client cannot hold a connection by doing nothing, or by stopping halfway:
///
/// | what a client does | what ends it |
/// |---|---|
/// | it sends no request | [`idle_timeout`](Self::idle_timeout) after the last response (at most twice that); on HTTP/2 also if it answers pings |
/// | it stops within the handshake | [`header_timeout`](Self::header_timeout) after the connection was accepted |
/// | it sends a part of a head, or of HTTP/2's preface | [`header_timeout`](Self::header_timeout) after the first byte, with 408 on HTTP/1.1 |
/// | it sends a part of a body to a transport's endpoint | [`Builder::body_timeout`](crate::Builder::body_timeout), with 408 |
/// | it sends a part of a body elsewhere | 60 s in which nothing arrives: the [`RequestBody`] ends with an error |
/// | it does not read a response or a stream | [`tcp_user_timeout`](Self::tcp_user_timeout). On HTTP/2, reading less than 16 KiB of what waits counts as nothing, whether the window is open or not. For the rest of a closed session's stream it is twice that time |
/// | it does not answer HTTP/2's pings (every 30 s), or leaves a frame half sent | 20 s after the ping |
///
/// # Memory of one connection
///
/// In addition to what its sessions hold (see [`Builder`](crate::Builder)) and what a fallback or a layer
/// keeps, a connection takes at most:
///
/// | connection | memory | for |
/// |---|---|---|
/// | HTTP/1.1, not by hyper | 150 KiB | a head of 16 KiB and a message of 64 KiB in total, and what came behind it |
/// | HTTP/1.1, a stream, not by hyper | 256 KiB | events of its session that are being written |
/// | HTTP/1.1, by hyper | 350 KiB | the first of these, and 64 KiB each way, in buffers that grow to twice that |
/// | HTTP/2 | 1 MiB | 256 KiB of bodies, 16 KiB of head, buffers; and about 5 KiB for each of 100 streams |
/// | an HTTP/2 stream that is not read | 112 KiB | a chunk of 64 KiB, and 48 KiB of it that are being written |
///
/// On Linux, unsent data in the kernel is limited to 128 KiB (`TCP_NOTSENT_LOWAT`): with hyper from the
/// start, and for a stream without hyper from its first large event on or once its client was slow.
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
///     // Wait for a signal here, for example; then end the sessions.
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
    /// Whether there are any layers.
    layered: bool,
    handshake: Option<Handshake>,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    max_connections: usize,
    header_timeout: Duration,
    tcp_user_timeout: Duration,
    idle_timeout: Duration,
    http2: bool,
    trust: Trust,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            header_timeout: HEADER_TIMEOUT,
            tcp_user_timeout: UNACKNOWLEDGED,
            idle_timeout: IDLE,
            http2: true,
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
    /// A server without endpoints: add them with [`mount`](Self::mount).
    ///
    /// ```
    /// # use mcp_sse::{Server, Session, SseServerTransport};
    /// # async fn app(_: Session) {}
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let server = Server::new().mount("/sse", &sse, app);
    /// # drop(server);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn new() -> Self {
        Self {
            routes: Routes::default(),
            fallback: NotFound,
            layers: Identity::new(),
            layered: false,
            handshake: None,
            settings: Settings::default(),
        }
    }
}

impl<F, L> Server<F, L> {
    /// Serves both endpoints of a transport: the stream at `sse_path`, messages at the transport's endpoint.
    /// Can be called for several transports with different paths.
    ///
    /// Use [`routes`](Self::routes) to set each endpoint by itself, for a transport with a mount prefix or
    /// for a service with options, such as [`ConnectSse::bind_headers`](crate::ConnectSse::bind_headers).
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

    /// The table of the endpoints: to set one by itself, and to change them while the server runs.
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

    /// Sets the service that answers requests to all other paths, such as an axum `Router`. Default:
    /// [`NotFound`].
    ///
    /// ```
    /// let router: axum::Router =
    ///     axum::Router::new().route("/health", axum::routing::get(|| async { "ok" }));
    /// let server = mcp_sse::Server::new().fallback(router);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn fallback<G>(self, fallback: G) -> Server<G, L> {
        let Self { routes, layers, layered, handshake, settings, .. } = self;
        Server { routes, fallback, layers, layered, handshake, settings }
    }

    /// Wraps all endpoints and the fallback in a tower layer, for authentication for example. A layer that is
    /// added later is outside of the earlier ones. Its service must not fail (`Infallible`), as with axum: a
    /// refusal is a response.
    ///
    /// The service gets a `Request<RequestBody>` (see [`RequestBody`]) and may answer with any body. The
    /// innermost service is the [`Endpoints`], which accept any body and answer with a [`Body`](crate::Body). The
    /// transport sees what a layer puts into the request's extensions, such as a
    /// [`Principal`](crate::Principal).
    ///
    /// A layer has a cost: every request then goes through hyper and all checks, which is about 40 % fewer
    /// requests per second, and an open stream takes a few KiB more.
    ///
    /// ```
    /// use http::{Request, Response, StatusCode, header::AUTHORIZATION};
    /// use mcp_sse::{Body, Principal, RequestBody, Server, Session, SseServerTransport};
    /// use tower_http::auth::AsyncRequireAuthorizationLayer;
    ///
    /// async fn authenticate(
    ///     mut request: Request<RequestBody>,
    /// ) -> Result<Request<RequestBody>, Response<Body>> {
    ///     let user = match request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()) {
    ///         Some(b"Bearer alices-secret") => "alice",
    ///         _ => {
    ///             let mut refusal = Response::new(Body::from("Unauthorized"));
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
        let Self { routes, fallback, layers, handshake, settings, .. } = self;
        let (layers, layered) = (Stack::new(layers, layer), true);
        Server { routes, fallback, layers, layered, handshake, settings }
    }

    /// What is done with each connection before its first request, such as a TLS handshake, in the connection's own
    /// task. It gets the accepted [`Socket`] (behind the PROXY header, if there is one) and returns the one that
    /// requests come over; an error closes the connection. It may take [`header_timeout`](Self::header_timeout).
    ///
    /// The server knows HTTP/2 by its first bytes, so with TLS offer `h2` and `http/1.1` by ALPN.
    ///
    /// ```
    /// use mcp_sse::{Server, Socket};
    /// use tokio::io::AsyncReadExt;
    ///
    /// // A magic word instead of TLS.
    /// let server = Server::new().handshake(|mut socket: Socket| async move {
    ///     let word = socket.read_u32().await?;
    ///     if word == 0xCAFE { Ok(socket) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    /// });
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn handshake<H, R>(mut self, handshake: H) -> Self
    where
        H: Fn(Socket) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Socket>> + Send + 'static,
    {
        self.handshake = Some(Handshake(Arc::new(move |socket| Box::pin(handshake(socket)))));
        self
    }

    /// The maximum number of open connections. Default: 16,384; clamped to 1 to 2^29 - 1. When it is reached,
    /// new clients wait in the kernel's queue, and a warning is logged.
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

    /// How long the head of a request may take to arrive, from its first byte; on HTTP/2 the first request,
    /// from the connection's first byte. Default: 30 s; clamped to 1 s to 24 days.
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

    /// How long a connection may have no open request before it is closed; at most twice as long. An open
    /// stream is an open request. Default: 60 s; clamped to 1 s to a year.
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

    /// The maximum number of open connections of one address (for IPv6, a /64 network). Default: 4,096; at
    /// least 1. Beyond, a connection is closed at once, before anything is read. Loopback addresses and Unix
    /// sockets have no limit.
    ///
    /// The default lets 200 people behind one address have twenty connections each, and an address take no
    /// more than a quarter of all connections. With [`trust_forwarded_for`](Self::trust_forwarded_for) it is
    /// off, since all connections are the proxy's; sessions still count for their clients' addresses.
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

    /// How many proxies are in front that each append the address of their peer to `X-Forwarded-For`.
    /// Default: 0. With N, the client's address is entry N from the right, in all such header lines together;
    /// entries further left may be forged by the client.
    ///
    /// If that entry is missing or is not an address, the proxy that is the connection's peer counts as the
    /// client, so all such requests share its limits, and a warning is logged. `Forwarded` (RFC 7239) is not
    /// read: a proxy that writes one of the two headers passes the other on as the client sent it.
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

    /// Whether each connection begins with a header of the PROXY protocol, version 2 (binary), which gives
    /// the client's address. Default: no. Version 1 (text) is refused.
    ///
    /// A connection on which no such header arrives within 5 s is closed, so a client cannot leave it out.
    /// But whoever can connect can claim any address, so let only the proxy connect. The proxy's own health
    /// checks (`LOCAL`) come from its address and do not count against
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

    /// Whether HTTP/2 is spoken to clients that begin with it. Default: yes. If not, their connections are closed. A client
    /// over HTTP/2 keeps its connection, whatever an answer says; so few connections for many clients are better without.
    ///
    /// ```
    /// let server = mcp_sse::Server::new().max_connections(64).http2(false);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn http2(mut self, on: bool) -> Self {
        self.settings.http2 = on;
        self
    }

    /// How long a client may read nothing of what was sent to it before it is cut off. Default: 35 s; clamped
    /// to 1 s to 24 days. It should be longer than [`Builder::stall_timeout`](crate::Builder::stall_timeout).
    ///
    /// For a stream that is served without hyper (HTTP/1.1, no layer) the kernel enforces it, on Linux only
    /// (`TCP_USER_TIMEOUT`); on other systems their own timeout ends such a connection.
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

    /// Serves connections until `end` completes. Then it accepts no more, waits for at most `patience` (of
    /// any length) until the open requests and streams have finished, and cuts off what is left.
    ///
    /// Requests are still served while `end` runs, so call
    /// [`SseServerTransport::shutdown`](crate::SseServerTransport::shutdown) in it, which ends the streams.
    ///
    /// If the future is dropped, all connections are cut off.
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
    pub async fn serve<A, B>(self, listener: A, end: impl Future<Output = ()>, patience: Duration)
    where
        A: Listener,
        L: Layer<Endpoints<F>>,
        L::Service: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<RequestBody>>>::Error: Into<Infallible>,
        <L::Service as Service<Request<RequestBody>>>::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { routes, fallback, layers, layered, handshake, settings } = self;
        let Settings { max_connections, header_timeout, tcp_user_timeout, idle_timeout, http2, trust } =
            settings;
        let inner = Arc::new(Inner {
            service: layers.layer(Endpoints::new(routes.clone(), fallback)),
            layered,
            routes,
            header_timeout,
            tcp_user_timeout,
            accepted: accepted(),
            idle_timeout,
            http2,
            peers: Peers::new(trust),
            handshake,
            draining: AtomicBool::new(false),
            drained: Notify::new(),
        });
        accept(listener, inner, max_connections, end, patience).await;
    }
}

fn accepted() -> (Vec<u8>, &'static str) {
    let (parts, body) = answer::accepted().into_parts();
    let mut head = Vec::new();
    head::write_head(&mut head, &parts);
    (head, body.into_stream().err().unwrap_or_default())
}
