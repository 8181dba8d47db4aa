//! `Server::layer`: whatever stands in front of the endpoints.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_sse::{Body, Endpoints, NotFound, Principal, RequestBody};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, ServiceBuilder};
use tower_http::{
    auth::AsyncRequireAuthorizationLayer, limit::RequestBodyLimitLayer, set_header::SetResponseHeaderLayer,
};

use crate::{
    help::{Answer, Events, Http, Server, builder, full, get, notification, post, request, soon},
    strangers::help::{Clock, Raw},
};

/// Lets requests with a token pass, and says whose they are: a layer as it is written by hand.
#[derive(Clone)]
struct Authenticate;

#[derive(Clone)]
struct Authenticated<S>(S);

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated(inner)
    }
}

impl<S, A> Service<Request<A>> for Authenticated<S>
where
    S: Service<Request<A>, Response = Response<Body>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(user) = token.and_then(|token| token.strip_prefix("Bearer ")).map(str::to_owned) else {
            return Box::pin(async { Ok(unauthorized()) });
        };
        request.extensions_mut().insert(Principal::new(user));
        Box::pin(self.0.call(request))
    }
}

fn unauthorized() -> Response<Body> {
    let mut refusal = Response::new(Body::from("Unauthorized"));
    *refusal.status_mut() = StatusCode::UNAUTHORIZED;
    refusal
}

fn endpoints(server: &Server) -> mcp_sse::Server {
    server.http()
}

/// Serves what is layered like this.
async fn serve<L, B>(server: &Server, layer: L) -> SocketAddr
where
    L: Layer<Endpoints<axum::Router>> + Send + 'static,
    L::Service: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http = endpoints(server)
        .fallback(axum::Router::new().route("/health", axum::routing::get(|| async { "ok" })))
        .layer(layer);
    tokio::spawn(http.serve(listener, std::future::pending(), Duration::ZERO));
    address
}

fn by(user: &str, request: http::request::Builder) -> http::request::Builder {
    request.header(AUTHORIZATION, format!("Bearer {user}"))
}

#[tokio::test]
async fn a_layer_stands_before_all_endpoints_and_the_fallback() {
    let server = Server::new(builder());
    let address = serve(&server, Authenticate).await;
    let mut http = Http::connect(address).await;
    for path in ["/sse", "/health", "/nowhere"] {
        let request = Request::get(path).header("host", "localhost");
        assert_eq!(Answer::read(http.send(full(request, "")).await).await.short(), (401, "Unauthorized"));
    }
    let refused = full(post("/messages/"), notification("m"));
    assert_eq!(Answer::read(http.send(refused).await).await.short(), (401, "Unauthorized"));
    let health = by("alice", Request::get("/health").header("host", "localhost"));
    assert_eq!(Answer::read(http.send(full(health, "")).await).await.short(), (200, "ok"));
    assert_eq!(server.sse.session_counts().open, 0);
}

#[tokio::test]
async fn what_a_layer_says_about_a_request_is_checked_with_each_on_a_connection() {
    let server = Server::new(builder());
    let address = serve(&server, ServiceBuilder::new().layer(Authenticate)).await;
    let mut http = Http::connect(address).await;
    let mut events = Events::begin(http.send(full(by("alice", get()), "")).await).await;
    let mut http = Http::connect(address).await;
    for (user, status) in [("alice", 202), ("alice", 202), ("mallory", 404), ("alice", 202)] {
        let request = full(by(user, post(&events.uri)), notification("m"));
        assert_eq!(Answer::read(http.send(request).await).await.status, status, "{user}");
    }
    let anonymous = full(post(&events.uri), notification("m"));
    assert_eq!(Answer::read(http.send(anonymous).await).await.status, 401);
    let session = server.session().await;
    session.handle().send(crate::help::message(notification("to alice"))).await.unwrap();
    assert!(soon(events.message()).await.contains("to alice"));
    session.handle().close();
    soon(events.assert_ends()).await;
}

#[tokio::test]
async fn over_http2_it_is_the_same() {
    let server = Server::new(builder());
    let address = serve(&server, Authenticate).await;
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut http, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    let uri = |path: &str| format!("http://{address}{path}");
    let anonymous = Request::get(uri("/sse")).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(Answer::read(http.send_request(anonymous).await.unwrap()).await.status, 401);
    let get = by("alice", Request::get(uri("/sse"))).body(Full::default()).unwrap();
    let events = Events::begin(http.send_request(get).await.unwrap()).await;
    for (user, status) in [("mallory", 404), ("alice", 202)] {
        let post = Request::post(uri(&events.uri)).header("content-type", "application/json");
        let post = by(user, post).body(Full::from(request(1))).unwrap();
        assert_eq!(Answer::read(http.send_request(post).await.unwrap()).await.status, status);
    }
}

/// Each of them changes the type of a body, or asks for one of its own.
#[tokio::test]
async fn layers_of_the_ecosystem_fit() {
    async fn authorize(mut request: Request<RequestBody>) -> Result<Request<RequestBody>, Response<Body>> {
        match request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes) {
            Some(b"Bearer alice") => {
                request.extensions_mut().insert(Principal::new("alice"));
                Ok(request)
            }
            _ => Err(unauthorized()),
        }
    }
    let server = Server::new(builder());
    let layers = ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static("x-layer"),
            HeaderValue::from_static("outer"),
        ))
        .layer(AsyncRequireAuthorizationLayer::new(authorize))
        .concurrency_limit(100)
        .map_response(|response: Response<Body>| response.map(Body::new));
    let address = serve(&server, layers).await;
    let mut http = Http::connect(address).await;
    let events = Events::begin(http.send(full(by("alice", get()), "")).await).await;
    assert_eq!(events.headers["x-layer"], "outer");
    let mut http = Http::connect(address).await;
    let taken = full(by("alice", post(&events.uri)), notification("m"));
    Answer::read(http.send(taken).await).await.assert_accepted();
    let refused = Answer::read(http.send(full(post(&events.uri), notification("m"))).await).await;
    assert_eq!((refused.status, refused.header("x-layer")), (401, Some("outer")));

    let server = Server::new(builder());
    let address = serve(&server, RequestBodyLimitLayer::new(100)).await;
    let events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    let small = full(post(&events.uri), notification("m"));
    Answer::read(http.send(small).await).await.assert_accepted();
    let large = full(post(&events.uri), notification(&"m".repeat(100)));
    assert_eq!(Answer::read(http.send(large).await).await.status, 413);
}

#[tokio::test]
async fn a_layer_that_is_added_later_stands_outside() {
    let server = Server::new(builder());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mark = |text: &'static str| {
        SetResponseHeaderLayer::appending(HeaderName::from_static("x-order"), HeaderValue::from_static(text))
    };
    // Before and behind the fallback: it is the same.
    let http = endpoints(&server).layer(mark("first")).fallback(NotFound).layer(mark("second"));
    tokio::spawn(http.serve(listener, std::future::pending(), Duration::ZERO));
    for path in ["/sse", "/nowhere"] {
        let mut http = Http::connect(address).await;
        let response = http.send(full(Request::get(path).header("host", "localhost"), "")).await;
        let order: Vec<_> = response.headers().get_all("x-order").iter().collect();
        assert_eq!(order, ["first", "second"]);
    }
}

#[tokio::test]
async fn behind_a_layer_the_deadlines_are_the_same() {
    let server = Server::new(builder().body_timeout(Duration::from_secs(10)));
    let address = serve(&server, tower::layer::util::Identity::new()).await;
    let events = Http::open(address).await;
    let mut half_head = Raw::connect(address).await;
    half_head.say("GET /sse HT").await;
    let mut half_preface = Raw::connect(address).await;
    half_preface.say("PRI * HTTP/2.0\r\n").await;
    let mut half_body = Raw::connect(address).await;
    half_body
        .say(format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{{",
            events.uri
        ))
        .await;
    let clock = Clock::stop(address).await;
    clock.pass(12).await;
    let mut heard = Vec::new();
    half_body.is_closed(&mut heard);
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 408") && heard.ends_with("Request body took too long"), "{heard}");
    clock.pass(17).await;
    for raw in [&half_head, &half_preface] {
        assert!(!raw.is_closed(&mut Vec::new()));
    }
    clock.pass(6).await;
    for raw in [&half_head, &half_preface] {
        assert!(raw.is_closed(&mut Vec::new()));
    }
    assert_eq!(server.sse.session_counts().open, 1);
}

/// A fallback that waits for a body does not wait for ever, and one that knows better may.
#[tokio::test]
async fn a_body_for_the_fallback_of_which_nothing_comes_ends_with_an_error() {
    let server = Server::new(builder());
    let echo = |body: Bytes| async { body };
    let router = axum::Router::new()
        .route("/health", axum::routing::get(|| async { "ok" }))
        .route("/echo", axum::routing::post(echo));
    let address = crate::strangers::help::serve_as(&server, |server| server.fallback(router)).await;
    let mut raw = Raw::connect(address).await;
    raw.say("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nhalf of it").await;
    let clock = Clock::stop(address).await;
    clock.pass(50).await;
    raw.say(" ").await;
    clock.pass(55).await;
    let mut heard = Vec::new();
    assert!(!raw.is_closed(&mut heard) && heard.is_empty());
    let (seconds, heard) = clock.until_silent_one_is_closed(&mut raw).await;
    assert!(seconds < 10 && heard.starts_with("HTTP/1.1 400"), "{seconds} {heard}");
}
