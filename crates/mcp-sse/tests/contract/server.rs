//! The same contract through `Server`, over real sockets, and what only it does: what it reads itself,
//! what it hands over, and how its connections end.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_sse::CloseReason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::help::{
    Answer, Events, Http, Server, UNKNOWN, builder, full, get, message, notification, post, received,
    request, result, soon,
};

const TOKIO_PATIENCE: Duration = Duration::from_secs(10);

/// Serves until the sender is dropped or sends.
async fn serve_until(server: &Server) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http =
        server.http().fallback(axum::Router::new().route("/health", axum::routing::get(|| async { "ok" })));
    let (stop, stopped) = oneshot::channel::<()>();
    let sse = server.sse.clone();
    let end = async move {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        sse.shutdown(TOKIO_PATIENCE).await;
    };
    (address, stop, tokio::spawn(http.serve(listener, end, TOKIO_PATIENCE)))
}

async fn serve(server: &Server) -> SocketAddr {
    serve_until(server).await.0
}

#[tokio::test]
async fn who_a_client_is_reaches_messages_of_connections_that_have_not_said_it() {
    let mut server = Server::new(builder());
    server.connect = server.connect.bind_headers([http::HeaderName::from_static("x-user")]);
    let address = serve(&server).await;
    let events = server.open().await;
    let mut raw = Raw::connect(address).await;
    let message = notification("m");
    raw.say(&raw_post(&events.uri, &message)).await;
    raw.hear("Accepted").await;
    let named = full(post(&events.uri).header("x-user", "alice"), message.clone());
    server.send(named).await.assert_accepted();
    for _ in 0..2 {
        raw.say(&raw_post(&events.uri, &message)).await;
        raw.hear("Accepted").await;
    }
    let mut session = server.session().await;
    for expected in [None, Some("alice"), Some("alice"), Some("alice")] {
        let incoming = soon(session.recv()).await.unwrap();
        let user = incoming.parts().headers.get("x-user").map(|user| user.to_str().unwrap());
        assert_eq!(user, expected);
    }
}

/// A client that says exactly this.
struct Raw(TcpStream);

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes, up to and with this text.
    async fn hear(&mut self, until: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(until.as_bytes()) {
            heard.push(soon(self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(heard).unwrap()
    }

    async fn assert_ends(&mut self) {
        let mut rest = Vec::new();
        soon(self.0.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(String::from_utf8(rest).unwrap(), "");
    }
}

fn raw_post(uri: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {uri} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn stream_and_posts_on_two_connections() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    for id in 1..=20 {
        let answer = Answer::read(http.send(full(post(&events.uri), request(id))).await).await;
        answer.assert_accepted();
        assert_eq!(answer.header("content-length"), Some("8"));
        assert!(answer.header("date").is_some());
    }
    let mut session = server.session().await;
    for id in 1..=20 {
        assert_eq!(received(&mut session).await, request(id));
        session.handle().send(message(result(id))).await.unwrap();
        assert_eq!(soon(events.message()).await, result(id));
    }
    session.handle().close();
    soon(events.assert_ends()).await;
}

#[tokio::test]
async fn the_head_of_a_message_bears_its_own_length() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    for id in [1, 1000, 2] {
        let request = full(post(&events.uri).header("x-tenant", "seven"), request(id));
        Answer::read(http.send(request).await).await.assert_accepted();
    }
    let mut session = server.session().await;
    for id in [1, 1000, 2] {
        let incoming = session.recv().await.unwrap();
        assert_eq!(incoming.message.as_str(), request(id));
        let parts = incoming.parts();
        assert_eq!(parts.headers["content-length"], request(id).len().to_string());
        assert_eq!((&parts.headers["x-tenant"], parts.uri.path()), (&"seven".parse().unwrap(), "/messages/"));
    }
}

#[tokio::test]
async fn a_stream_has_no_length_and_no_connection_header() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut names: Vec<_> = events.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = ["cache-control", "content-type", "date", "transfer-encoding", "x-accel-buffering"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn each_head_on_a_connection_is_checked() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let (one, two) = (Http::open(address).await, Http::open(address).await);
    let mut http = Http::connect(address).await;
    let unknown = format!("/messages/?session_id={UNKNOWN}");
    let evil = || post(&one.uri).header("origin", "https://evil.example");
    let text = Request::post(&*one.uri).header("host", "localhost:8000").header("content-type", "text/plain");
    for (request, status) in [
        (full(post(&one.uri), notification("m")), 202),
        (full(post(&two.uri), notification("m")), 202),
        (full(post(&unknown), notification("m")), 404),
        (full(post("/messages/"), notification("m")), 400),
        (full(evil(), notification("m")), 403),
        (full(text, notification("m")), 400),
        (full(post(&one.uri), "{"), 400),
        (full(post(&one.uri), notification("m")), 202),
        (full(post("/sse"), notification("m")), 405),
        (full(Request::get(&*one.uri).header("host", "localhost:8000"), ""), 405),
        (full(post(&two.uri), notification("m")), 202),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(Answer::read(http.send(request).await).await.status, status, "{shown}");
    }
    server.handle(&one).close();
    assert_eq!(Answer::read(http.send(full(post(&one.uri), notification("m"))).await).await.status, 404);
    assert_eq!(Answer::read(http.send(full(post(&two.uri), notification("m"))).await).await.status, 202);
}

#[tokio::test]
async fn what_is_not_the_transports_goes_to_the_fallback_and_the_connection_goes_on() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    for _ in 0..2 {
        Answer::read(http.send(full(post(&events.uri), notification("m"))).await).await.assert_accepted();
        let health = Request::get("/health").header("host", "localhost:8000");
        assert_eq!(Answer::read(http.send(full(health, "")).await).await.short(), (200, "ok"));
        let other = Answer::read(http.send(full(post("/.well-known/x"), "")).await).await;
        assert_eq!(other.status, 404);
    }
}

#[tokio::test]
async fn requests_may_come_in_pieces_or_several_at_once() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut raw = Raw::connect(address).await;
    let [one, two, three] = [1, 2, 3].map(|id| raw_post(&events.uri, &request(id)));
    for byte in one.chars() {
        raw.say(&byte.to_string()).await;
    }
    assert!(raw.hear("\r\n\r\nAccepted").await.starts_with("HTTP/1.1 202 Accepted\r\n"));
    let (begin, end) = three.split_at(three.len() / 2);
    raw.say(&format!("{two}{begin}")).await;
    raw.hear("\r\n\r\nAccepted").await;
    raw.say(end).await;
    raw.hear("\r\n\r\nAccepted").await;
    let mut session = server.session().await;
    for id in 1..=3 {
        assert_eq!(received(&mut session).await, request(id));
    }
}

/// Node's `fetch` does it so, and says "fetch failed" if it cannot.
#[tokio::test]
async fn a_client_that_writes_a_body_over_the_limit_to_its_end_gets_the_answer() {
    let server = Server::new(builder().max_body_bytes(200_000));
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say(&raw_post("/messages/", &"x".repeat(20_000_000))).await;
    let mut answer = String::new();
    soon(raw.0.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("Request body too large"), "{answer}");

    // One that is answered before it sends any of it.
    let mut raw = Raw::connect(address).await;
    let request = raw_post("/messages/", &"x".repeat(20_000_000));
    let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
    raw.say(head).await;
    raw.hear("Request body too large").await;
    raw.say(body).await;
    raw.assert_ends().await;
}

#[tokio::test]
async fn a_request_that_is_not_plain_is_read_by_hyper() {
    let server = Server::new(builder().max_body_bytes(200_000));
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let uri = &*events.uri;
    let json = notification("m");
    let chunked = format!("{:x}\r\n{json}\r\n0\r\n\r\n", json.len());
    let head = |more: &str| {
        format!("POST {uri} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}\r\n\r\n")
    };
    let large = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(100_000));
    for (text, status) in [
        (head("Transfer-Encoding: chunked") + &chunked, "202"),
        (head(&format!("Connection: close\r\nContent-Length: {}", json.len())) + &json, "202"),
        (raw_post(uri, &json).replace("HTTP/1.1", "HTTP/1.0"), "202"),
        (raw_post(uri, &large), "202"),
        (raw_post(uri, &"x".repeat(300_000)), "413"),
        (head("Content-Length: 200001"), "413"),
        (head("Content-Length: 2\r\nContent-Length: 3"), "400"),
        (head("Content-Length: 2\r\nTransfer-Encoding: chunked, x"), "400"),
        ("HEAD /sse HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "405"),
        ("OPTIONS /sse HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "405"),
        ("rubbish\r\n\r\n".into(), "400"),
        ("GET /sse HTTP/1.1\r\n\r\n".into(), "421"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)), "431"),
    ] {
        let mut raw = Raw::connect(address).await;
        // A server that refuses may close before it has read all.
        let _ = raw.0.write_all(text.as_bytes()).await;
        let mut answer = [0; 12];
        soon(raw.0.read_exact(&mut answer)).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer[9..]).unwrap(), status, "{}", &text[..text.len().min(200)]);
    }
    let mut raw = Raw::connect(address).await;
    raw.say(&head(&format!("Expect: 100-continue\r\nContent-Length: {}", json.len()))).await;
    raw.hear("100 Continue\r\n\r\n").await;
    raw.say(&json).await;
    raw.hear("\r\n\r\nAccepted").await;
}

#[tokio::test]
async fn over_http2_stream_and_posts_share_one_connection() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut http, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    let uri = |path: &str| format!("http://{address}{path}");
    let get = Request::get(uri("/sse")).body(Full::new(Bytes::new())).unwrap();
    let mut events = Events::begin(http.send_request(get).await.unwrap()).await;
    let post = Request::post(uri(&events.uri)).header("content-type", "application/json");
    let post = post.body(Full::new(Bytes::from(request(1)))).unwrap();
    Answer::read(http.send_request(post).await.unwrap()).await.assert_accepted();
    let mut session = server.session().await;
    assert_eq!(received(&mut session).await, request(1));
    session.handle().send(message(result(1))).await.unwrap();
    assert_eq!(soon(events.message()).await, result(1));
}

#[tokio::test]
async fn over_http2_an_answer_to_head_has_no_body() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut http, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/health", 200), ("/sse", 405), ("/messages/", 405)] {
        let uri = format!("http://{address}{path}");
        let head = Request::head(uri).body(Full::new(Bytes::new())).unwrap();
        let answer = soon(http.send_request(head)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        // A frame of data would be an error of the protocol.
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), Bytes::new());
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_says_that_the_connection_ends() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for (path, length) in [("/messages/", 10), ("/messages/", 1_000_000), ("/health", 10)] {
        let mut raw = Raw::connect(address).await;
        raw.say(&head(path, length)).await;
        let heard = raw.hear("\r\n\r\n").await;
        assert!(heard.starts_with("HTTP/1.1 4") && heard.contains("\r\nconnection: close\r\n"), "{heard}");
    }
    // With its body it stays.
    let mut raw = Raw::connect(address).await;
    for _ in 0..2 {
        raw.say(&format!("{}0123456789", head("/messages/", 10))).await;
        let heard = raw.hear("\r\n\r\n").await;
        assert!(!heard.contains("connection: close"), "{heard}");
        raw.hear("Content-Type header").await;
    }
    // So does one that hyper reads, whose body the service has read.
    raw.say("GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n").await;
    let heard = raw.hear("ok").await;
    assert!(!heard.contains("connection: close"), "{heard}");
}

#[tokio::test]
async fn an_idle_stream_gets_comments_and_its_end_closes_the_connection() {
    let server = Server::new(builder().keep_alive(Duration::from_millis(1)));
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.hear("e\r\n: keep-alive\n\n\r\n").await;
    raw.hear("e\r\n: keep-alive\n\n\r\n").await;
    for session in server.sse.sessions() {
        session.close();
    }
    raw.hear("0\r\n\r\n").await;
    raw.assert_ends().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_detaches_its_stream_whatever_it_said_before() {
    let server = Server::new(builder().resume_window(Duration::ZERO));
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\nGET /sse HTTP/1.1\r\n\r\n").await;
    raw.hear("\n\n\r\n").await;
    raw.say(&"more that nobody wants\r\n".repeat(1000)).await;
    let handle = server.sse.sessions().remove(0);
    assert_eq!(server.sse.session_counts().open, 1, "what follows on a stream's connection is not read");
    drop(raw);
    assert_eq!(soon(handle.closed()).await, CloseReason::ClientGone);
}

#[tokio::test]
async fn events_that_follow_each_other_come_whole_and_in_order() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut events = Http::open(address).await;
    let mut http = Http::connect(address).await;
    Answer::read(http.send(full(post(&events.uri), request(0))).await).await.assert_accepted();
    let session = server.session().await;
    let sending = async {
        for id in 1..=5_000 {
            let pad = "x".repeat(id as usize % 3_000);
            let json = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"id":{id},"pad":"{pad}"}}}}"#);
            session.handle().send(message(json)).await.unwrap();
        }
        session.handle().send(message(result(0))).await.unwrap();
    };
    let reading = async {
        for id in 1..=5_000 {
            assert!(events.message().await.contains(&format!(r#""id":{id},"#)), "{id}");
        }
        assert_eq!(events.message().await, result(0));
    };
    soon(async { tokio::join!(sending, reading) }).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_with_its_session() {
    let server = Server::new(builder().stall_timeout(Duration::from_millis(100)));
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.hear("\n\n\r\n").await;
    let handle = server.sse.sessions().remove(0);
    let large = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(100_000));
    while soon(handle.send(message(large.clone()))).await.is_ok() {}
    assert_eq!(soon(handle.closed()).await, CloseReason::Stalled);
    let mut rest = Vec::new();
    // However it ends, it does.
    let _ = soon(raw.0.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "no clean end of what was cut");
}

#[tokio::test]
async fn it_ends_by_itself_with_streams_and_connections_open() {
    let server = Server::new(builder());
    let (address, stop, running) = serve_until(&server).await;
    let mut idle = Http::open(address).await;
    let mut busy = Http::open(address).await;
    let mut http = Http::connect(address).await;
    let (mut silent, mut half) = (Raw::connect(address).await, Raw::connect(address).await);
    half.say("POST /messages/ HTTP/1.1\r\nHost: loc").await;
    Answer::read(http.send(full(post(&busy.uri), request(1))).await).await.assert_accepted();
    let mut session = server.session().await;
    received(&mut session).await;
    stop.send(()).unwrap();
    soon(idle.assert_ends()).await;
    let refused = Answer::read(http.send(full(get(), "")).await).await;
    assert_eq!(refused.status, 503);
    session.handle().send(message(result(1))).await.unwrap();
    assert_eq!(soon(busy.message()).await, result(1));
    soon(busy.assert_ends()).await;
    soon(running).await.unwrap();
    silent.assert_ends().await;
    half.assert_ends().await;
}

#[tokio::test]
async fn routes_can_be_changed_while_it_serves_and_open_streams_stay() {
    let server = Server::new(builder());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http = mcp_sse::Server::new();
    let routes = http.routes();
    tokio::spawn(http.serve(listener, std::future::pending(), TOKIO_PATIENCE));
    let status = async || {
        let mut http = Http::connect(address).await;
        http.send(full(get(), "")).await.status().as_u16()
    };
    assert_eq!(status().await, 404);
    routes.sse("/sse", server.connect.clone());
    routes.messages("/messages/", server.post.clone());
    let mut events = Http::open(address).await;
    assert!(routes.remove("/sse") && !routes.remove("/sse"));
    assert_eq!(status().await, 404);

    let mut http = Http::connect(address).await;
    assert_eq!(http.send(full(post(&events.uri), notification("n"))).await.status(), 202);
    let session = server.session().await;
    session.handle().send(message(notification("still there"))).await.unwrap();
    assert!(events.message().await.contains("still there"));
}
