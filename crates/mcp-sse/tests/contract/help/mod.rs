//! A client over the two services, without a socket: requests, answers, and a stream's exact bytes. The
//! app is the test itself, unless it gives another.

mod net;

use std::{convert::Infallible, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use mcp_sse::{
    Body, Builder, ConnectSse, HandlePostMessage, Message, Principal, Session, SessionHandle,
    SseServerTransport,
};
use tokio::sync::{Mutex, mpsc};
use tower::{Service, ServiceExt as _};

pub(crate) use self::net::{Http, serve, serve_http2};

pub(crate) const HOST: &str = "localhost:8000";
/// A session id that no session has.
pub(crate) const UNKNOWN: &str = "0123456789abcdef0123456789abcdef";

/// Settings for a test that is the app itself: nothing is made up before the client's first message.
pub(crate) fn builder() -> Builder {
    listen();
    SseServerTransport::builder("/messages/").synthesize_initialize(false)
}

/// Some subscriber for the threads of all tests. Without one, a log line that such a thread writes first can
/// be turned off for the tests of the log too (tracing keeps for each line whether anybody listens).
fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry()).expect("the first");
    });
}

// ---- messages -------------------------------------------------------------------------------------------

pub(crate) fn request(id: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#)
}

pub(crate) fn notification(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)
}

pub(crate) fn result(id: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

pub(crate) fn error(id: impl std::fmt::Display, code: i32, text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#)
}

pub(crate) fn message(json: impl Into<String>) -> Message {
    Message::parse(json.into()).expect("a JSON-RPC message")
}

// ---- requests -------------------------------------------------------------------------------------------

pub(crate) fn get() -> http::request::Builder {
    Request::get("/sse").header(header::HOST, HOST)
}

pub(crate) fn post(uri: &str) -> http::request::Builder {
    Request::post(uri).header(header::HOST, HOST).header(header::CONTENT_TYPE, "application/json")
}

pub(crate) fn empty(request: http::request::Builder) -> Request<Empty<Bytes>> {
    request.body(Empty::new()).expect("a request")
}

pub(crate) fn full(request: http::request::Builder, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request.body(Full::new(body.into())).expect("a request")
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal::new(name)
}

/// A body of these chunks that does not declare its length.
pub(crate) fn streamed(chunks: Vec<Bytes>) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send {
    let mut chunks = chunks.into_iter();
    http_body_util::StreamBody::new(futures_util::stream::poll_fn(move |_| {
        std::task::Poll::Ready(chunks.next().map(|chunk| Ok(http_body::Frame::data(chunk))))
    }))
}

/// A body of which nothing ever comes.
pub(crate) fn endless() -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send {
    http_body_util::StreamBody::new(futures_util::stream::pending::<Result<http_body::Frame<Bytes>, _>>())
}

/// A body that declares its length, and of which nothing ever comes.
pub(crate) fn stalled(length: u64) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send {
    struct Stalled(u64);
    impl http_body::Body for Stalled {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.0)
        }
    }
    Stalled(length)
}

/// Calls one of the services.
pub(crate) async fn call<S, B>(service: &S, request: Request<B>) -> Response<Body>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone,
{
    service.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
}

// ---- answers --------------------------------------------------------------------------------------------

/// A whole response.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Error: std::fmt::Debug>,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = String::from_utf8(body.into()).expect("UTF-8");
        Self { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) fn short(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn assert_busy(&self, text: &str) {
        assert_eq!(self.short(), (503, text));
        assert_eq!(self.header("retry-after"), Some("1"));
    }

    pub(crate) fn assert_accepted(&self) {
        assert_eq!(self.short(), (202, "Accepted"));
    }

    pub(crate) fn assert_not_found(&self) {
        assert_eq!(self.short(), (404, "Could not find session"));
    }
}

// ---- streams --------------------------------------------------------------------------------------------

/// An open stream, read block by block, to the byte.
#[derive(Debug)]
pub(crate) struct Events<B = Body> {
    body: B,
    buffer: BytesMut,
    pub(crate) headers: HeaderMap,
    /// The first block.
    pub(crate) endpoint: String,
    /// Its data.
    pub(crate) uri: String,
    /// The session's id, in hex.
    pub(crate) id: String,
}

impl<B> Events<B>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
{
    /// Reads the `endpoint` event of a response that is a stream.
    pub(crate) async fn begin(response: Response<B>) -> Self {
        assert_eq!(response.status(), 200);
        let (head, body) = response.into_parts();
        let mut events = Self {
            body,
            buffer: BytesMut::new(),
            headers: head.headers,
            endpoint: String::new(),
            uri: String::new(),
            id: String::new(),
        };
        events.endpoint = events.block().await.expect("the endpoint event");
        assert!(events.endpoint.starts_with("event: endpoint\n"), "{:?}", events.endpoint);
        let uri = events.endpoint.lines().find_map(|line| line.strip_prefix("data: "));
        events.uri = uri.expect("a data line").to_owned();
        events.id = events.uri.split_once("session_id=").expect("a session id").1.to_owned();
        events
    }

    /// The next chunk as the server gave it.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        assert!(self.buffer.is_empty(), "unread: {:?}", self.buffer);
        let chunk = next_chunk(&mut self.body).await?;
        Some(String::from_utf8(chunk.to_vec()).expect("UTF-8"))
    }

    /// The next block with the empty line that ends it; `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block = self.buffer.split_to(at + 2);
                return Some(String::from_utf8(block.to_vec()).expect("UTF-8"));
            }
            let Some(chunk) = next_chunk(&mut self.body).await else {
                assert!(self.buffer.is_empty(), "half a block: {:?}", self.buffer);
                return None;
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The data of the next event, which must be a `message`.
    pub(crate) async fn message(&mut self) -> String {
        let block = self.block().await.expect("a message before the end of the stream");
        assert!(block.starts_with("event: message\n"), "no message: {block:?}");
        let data = block.lines().find_map(|line| line.strip_prefix("data: "));
        data.expect("a data line").to_owned()
    }

    /// The stream is at its end.
    pub(crate) async fn assert_ends(&mut self) {
        assert_eq!(self.block().await, None);
    }

    /// The stream is open, and nothing waits on it.
    pub(crate) fn assert_silent(&mut self) {
        let next = self.block().now_or_never();
        assert!(next.is_none(), "not silent: {next:?}");
    }

    /// The `Last-Event-ID` of a client that has read up to message number `sequence`.
    pub(crate) fn position(&self, sequence: u64) -> String {
        format!("{}:{sequence}", self.id)
    }

    /// The bytes of message number `sequence`.
    pub(crate) fn expected(&self, sequence: u64, json: &str) -> String {
        format!("event: message\nid: {}:{sequence}\ndata: {json}\n\n", self.id)
    }
}

async fn next_chunk<B>(body: &mut B) -> Option<Bytes>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
{
    let frame = body.frame().await?.expect("a frame");
    Some(frame.into_data().expect("data, no trailers"))
}

// ---- the server -----------------------------------------------------------------------------------------

/// A transport and its two services.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) sse: SseServerTransport,
    pub(crate) connect: ConnectSse,
    pub(crate) post: HandlePostMessage,
    sessions: Mutex<mpsc::Receiver<Session>>,
}

impl Server {
    /// The test is the app: it gets the sessions from [`Server::session`].
    pub(crate) fn new(builder: Builder) -> Self {
        listen();
        Self::of(builder.build().expect("settings"))
    }

    /// The same, for a transport that is there.
    pub(crate) fn of(sse: SseServerTransport) -> Self {
        let (started, sessions) = mpsc::channel(64);
        let app = move |session| {
            let started = started.clone();
            async move { started.send(session).await.expect("the test takes the session") }
        };
        let (connect, post) = (sse.connect_sse(app), sse.handle_post_message());
        Self { sse, connect, post, sessions: Mutex::new(sessions) }
    }

    pub(crate) fn with_app<A, F>(builder: Builder, app: A) -> Self
    where
        A: Fn(Session) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        listen();
        let sse = builder.build().expect("settings");
        let (connect, post) = (sse.connect_sse(app), sse.handle_post_message());
        Self { sse, connect, post, sessions: Mutex::new(mpsc::channel(1).1) }
    }

    /// A server, one client's stream, and the session of its app.
    pub(crate) async fn with_session(builder: Builder) -> (Self, Events, Session) {
        let server = Self::new(builder);
        let (events, session) = server.open_session().await;
        (server, events, session)
    }

    pub(crate) async fn open(&self) -> Events {
        self.try_open(empty(get())).await.expect("a stream")
    }

    pub(crate) async fn open_as(&self, name: &str) -> Events {
        self.try_open(empty(get().extension(principal(name)))).await.expect("a stream")
    }

    pub(crate) async fn try_open<B>(&self, request: Request<B>) -> Result<Events, Answer> {
        let response = call(&self.connect, request).await;
        if response.status() == 200 {
            Ok(Events::begin(response).await)
        } else {
            Err(Answer::read(response).await)
        }
    }

    pub(crate) async fn resume(&self, last_event_id: &str) -> Result<Events, Answer> {
        self.try_open(empty(get().header("last-event-id", last_event_id))).await
    }

    /// A stream, and its session after its first message.
    pub(crate) async fn open_session(&self) -> (Events, Session) {
        let events = self.open().await;
        let session = self.start(&events).await;
        (events, session)
    }

    /// Posts a first message, and gives the session of the app that it started.
    pub(crate) async fn start(&self, events: &Events) -> Session {
        self.post(events, notification("start")).await.assert_accepted();
        let mut session = self.session().await;
        assert_eq!(received(&mut session).await, notification("start"));
        session
    }

    /// The session of the app that was started next.
    pub(crate) async fn session(&self) -> Session {
        self.sessions.lock().await.recv().await.expect("an app")
    }

    pub(crate) fn assert_no_app_was_started(&self) {
        assert!(self.sessions.try_lock().expect("free").try_recv().is_err(), "an app was started");
    }

    pub(crate) async fn post(&self, events: &Events, json: impl Into<Bytes>) -> Answer {
        self.send(full(post(&events.uri), json)).await
    }

    pub(crate) async fn send<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data: Send> + Send + 'static,
    {
        Answer::read(call(&self.post, request).await).await
    }

    /// An HTTP server with both endpoints.
    #[cfg(feature = "server")]
    pub(crate) fn http(&self) -> mcp_sse::Server {
        let http = mcp_sse::Server::new();
        http.routes().sse("/sse", self.connect.clone());
        http.routes().messages("/messages/", self.post.clone());
        http
    }

    pub(crate) fn handle<B>(&self, events: &Events<B>) -> SessionHandle {
        self.sse.session(events.id.parse().expect("an id")).expect("an open session")
    }
}

/// The next message that the app gets.
pub(crate) async fn received(session: &mut Session) -> String {
    session.recv().await.expect("a message").message.as_str().to_owned()
}

// ---- time -----------------------------------------------------------------------------------------------

/// Until nothing can go on without time passing: the paused clock moves only then.
pub(crate) async fn idle() {
    pass(Duration::from_millis(1)).await;
}

/// Lets time pass on the paused clock.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What a future gives and how long it took on the paused clock, in whole milliseconds.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, u128) {
    let start = now();
    let value = future.await;
    (value, (now() - start).as_millis())
}

#[allow(clippy::disallowed_methods, reason = "the paused clock")]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Fails, rather than hangs, where the clock is not paused.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

/// For what a token says about time, which is in the time of day.
#[allow(clippy::disallowed_methods, reason = "the time of day is not paused")]
pub(crate) fn from_now(time: Duration) -> std::time::SystemTime {
    std::time::SystemTime::now() + time
}
