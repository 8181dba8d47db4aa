//! A server whose connections the test reads and writes itself.

use std::time::Duration;

use futures_util::FutureExt as _;
use http::{HeaderName, request::Parts};
use mcp_sse::MessageKind;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::*;
use crate::backend::remote::{Found, Kind};

const MESSAGE_BYTES: usize = 4 * 1024;
const IN_FLIGHT: usize = 2;

/// A request that the server has got, and where its answer goes.
struct Asked {
    head: Vec<String>,
    body: String,
    stream: BufReader<TcpStream>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    async fn writes(&mut self, text: impl AsRef<str>) {
        self.stream.write_all(text.as_ref().as_bytes()).await.unwrap();
    }

    /// A whole answer.
    async fn answers(mut self, status: &str, kind: &str, body: &str) {
        let length = body.len();
        let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        self.writes(format!(
            "HTTP/1.1 {status}\r\n{kind}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Begins a stream that ends with its connection.
    async fn begins(&mut self) {
        self.writes("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await;
    }

    /// The other side has closed the connection.
    async fn closes(mut self) {
        let mut byte = [0];
        assert!(matches!(self.stream.read(&mut byte).await, Ok(0) | Err(_)), "it says more");
    }
}

struct Server {
    listener: TcpListener,
    remote: Remote,
}

impl Server {
    async fn start() -> Self {
        // Fails from the second test on, because the same provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}/mcp?key=secret", listener.local_addr().unwrap());
        let remote = Remote {
            url: Url::parse(&url).unwrap(),
            kind: Kind::Http,
            headers: HeaderMap::from_iter([(
                HeaderName::from_static("x-set"),
                HeaderValue::from_static("by the operator"),
            )]),
            headers_from_client: vec![HeaderName::from_static("authorization")],
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            message_bytes: MESSAGE_BYTES,
            requests_in_flight: IN_FLIGHT,
            start_timeout: Duration::from_secs(30),
            found: Found::default(),
        };
        Self { listener, remote }
    }

    fn session(&self) -> Session {
        let (sink, source) = open(&self.remote);
        Session { sink, source }
    }

    /// The next request.
    async fn asked(&mut self) -> Asked {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        Asked { head, body: String::from_utf8(body).unwrap(), stream }
    }
}

struct Session {
    sink: ModernSink,
    source: ModernSource,
}

impl Session {
    async fn sends(&mut self, json: &str) {
        let message = Message::parse(json.to_owned()).unwrap();
        self.sink.send(Incoming::new(message, head()), &HeaderMap::new()).await.unwrap();
    }

    async fn hears(&mut self) -> String {
        self.source.recv().await.unwrap().as_str().to_owned()
    }

    /// The error that a request ends with.
    async fn hears_an_error(&mut self) -> String {
        let message = self.source.recv().await.unwrap();
        assert!(
            matches!(message.kind(), MessageKind::Response { id: Some(_), is_error: true }),
            "{message:?}"
        );
        message.as_str().to_owned()
    }
}

fn head() -> Parts {
    http::Request::new(()).into_parts().0
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{ "name":"t" }}"#;
const ANSWER: &str = r#"{"result": {},"jsonrpc":"2.0","id":7}"#;
const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{ "data":1 }}"#;

fn cancel(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

#[tokio::test]
async fn a_message_is_posted_as_it_is_with_the_headers_of_all_who_have_a_say() {
    let mut server = Server::start().await;
    let mut session = server.session();
    let mut parts = head();
    for (name, value) in [("authorization", "Bearer x"), ("x-other", "no"), ("mcp-method", "forged")] {
        parts.headers.insert(name, HeaderValue::from_static(value));
    }
    let own = HeaderMap::from_iter([
        (header::METHOD, HeaderValue::from_static("tools/call")),
        (header::NAME, HeaderValue::from_static("t")),
        // It may not stand for the operator's.
        (header::PROTOCOL_VERSION, HeaderValue::from_static("2020-01-01")),
    ]);
    let message = Message::parse(CALL).unwrap();
    session.sink.send(Incoming::new(message, parts), &own).await.unwrap();
    let asked = server.asked().await;
    assert_eq!((&*asked.head[0], &*asked.body), ("POST /mcp?key=secret HTTP/1.1", CALL));
    for (name, value) in [
        ("accept", Some("text/event-stream, application/json")),
        ("content-type", Some("application/json")),
        ("mcp-protocol-version", Some("2026-07-28")),
        ("mcp-method", Some("tools/call")),
        ("mcp-name", Some("t")),
        ("authorization", Some("Bearer x")),
        ("x-set", Some("by the operator")),
        ("x-other", None),
        ("mcp-session-id", None),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
        assert!(asked.head.iter().filter(|line| line.starts_with(&format!("{name}: "))).count() <= 1);
    }
    asked.answers("200 OK", "application/json; charset=utf-8", ANSWER).await;
    assert_eq!(session.hears().await, ANSWER);
}

#[tokio::test]
async fn an_answer_is_one_whatever_its_status_and_whatever_it_calls_the_request() {
    let mut server = Server::start().await;
    let mut session = server.session();
    let error =
        |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code": -32020,"message":"m"}}}}"#);
    for (status, answer, heard) in [
        ("200 OK", ANSWER.to_owned(), ANSWER.to_owned()),
        ("500 Internal Server Error", ANSWER.to_owned(), ANSWER.to_owned()),
        ("400 Bad Request", error("7"), error("7")),
        ("404 Not Found", error("7.0"), error("7.0")),
        // Of servers that have not read it.
        ("400 Bad Request", error("null"), error("7")),
        ("400 Bad Request", error("\"server-error\""), error("7")),
        (
            "400 Bad Request",
            r#"{"jsonrpc":"2.0","error":{"code": -32020,"message":"m"}}"#.to_owned(),
            error("7"),
        ),
    ] {
        session.sends(CALL).await;
        server.asked().await.answers(status, "application/json", &answer).await;
        assert_eq!(session.hears().await, heard, "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_says_what_came() {
    let mut server = Server::start().await;
    let mut session = server.session();
    let long = format!(r#"{{"jsonrpc":"2.0","id":7,"result":"{}"}}"#, "x".repeat(MESSAGE_BYTES));
    for (status, kind, body, named) in [
        ("200 OK", "application/json", r#"{"jsonrpc":"2.0","id":8,"result":{}}"#, "HTTP 200"),
        ("200 OK", "application/json", CALL, "HTTP 200"),
        ("200 OK", "application/json", NOTE, "HTTP 200"),
        ("200 OK", "application/json", "[]", "HTTP 200"),
        ("200 OK", "application/json", "", "HTTP 200"),
        ("200 OK", "text/html", "<p>\u{1b}[2Jlog in", "HTTP 200 OK: <p> [2Jlog in"),
        ("202 Accepted", "", "", "HTTP 202"),
        ("401 Unauthorized", "application/json", r#"{"error":"invalid_token"}"#, "HTTP 401"),
        ("406 Not Acceptable", "", "", "HTTP 406"),
        ("502 Bad Gateway", "text/html", "<html>", "HTTP 502"),
        ("404 Not Found", "text/event-stream", "data: {}\n\n", "HTTP 404"),
        ("200 OK", "application/json", &*long, "4096"),
    ] {
        session.sends(CALL).await;
        server.asked().await.answers(status, kind, body).await;
        let error = session.hears_an_error().await;
        assert!(error.contains(r#""id":7,"error":{"code":-32000"#) && error.contains(named), "{error}");
        assert!(!error.contains("secret") && !error.contains("\\u001b"), "{error}");
    }
    // Something else that listens there.
    session.sends(CALL).await;
    let mut asked = server.asked().await;
    asked.writes("SSH-2.0-OpenSSH\r\n").await;
    drop(asked);
    session.hears_an_error().await;
}

#[tokio::test]
async fn a_stream_is_what_comes_before_the_answer_and_the_answer() {
    let mut server = Server::start().await;
    let mut session = server.session();
    session.sends(CALL).await;
    let mut asked = server.asked().await;
    asked.begins().await;
    let other = r#"{"jsonrpc":"2.0","id":8,"result":{}}"#;
    let (first, rest) = NOTE.split_at(20);
    asked
        .writes(format!(": hello\r\n\r\nevent: message\r\ndata: {NOTE}\r\n\r\nid: 5\r\ndata: \r\n\r\n"))
        .await;
    assert_eq!(session.hears().await, NOTE);
    // What is not for it, and what is no message, is left out; a message may come in pieces.
    asked.writes(format!("data: {other}\n\ndata: no message\n\ndata: {first}")).await;
    asked.writes(format!("{rest}\n\n")).await;
    assert_eq!(session.hears().await, NOTE);
    asked.writes(format!("data: {ANSWER}\n\ndata: {NOTE}\n\n")).await;
    assert_eq!(session.hears().await, ANSWER);
    // After the answer it is over, whatever else is said.
    asked.closes().await;
    session.sends(&CALL.replace('7', "9")).await;
    let mut asked = server.asked().await;
    asked.begins().await;
    asked.writes(format!("data: {NOTE}\n\n")).await;
    drop(asked);
    assert_eq!(session.hears().await, NOTE);
    let error = session.hears_an_error().await;
    assert!(error.contains(r#""id":9"#) && error.contains("ended before the answer"), "{error}");
}

#[tokio::test]
async fn an_event_that_is_too_long_is_an_error_where_it_may_have_been_the_answer() {
    let mut server = Server::start().await;
    let mut session = server.session();
    let long = "x".repeat(2 * MESSAGE_BYTES);
    for json in [
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":"{long}"}}"#),
        format!(r#"{{"result":"{long}","jsonrpc":"2.0","id":7}}"#),
    ] {
        session.sends(CALL).await;
        let mut asked = server.asked().await;
        asked.begins().await;
        asked.writes(format!("data: {json}\n\n")).await;
        assert!(session.hears_an_error().await.contains("4096"));
        asked.closes().await;
    }
    // A notification that is too long is not.
    session.sends(CALL).await;
    let mut asked = server.asked().await;
    asked.begins().await;
    let note =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"{long}"}}}}"#);
    asked.writes(format!("data: {note}\n\ndata: {ANSWER}\n\n")).await;
    let heard = session.hears().await;
    let heard = if heard == ANSWER { heard } else { session.hears().await };
    assert_eq!(heard, ANSWER);
}

#[tokio::test]
async fn a_request_is_given_up_by_closing_its_response() {
    let mut server = Server::start().await;
    let mut session = server.session();
    for begins in [false, true] {
        session.sends(CALL).await;
        let mut asked = server.asked().await;
        if begins {
            asked.begins().await;
            asked.writes(format!("data: {NOTE}\n\n")).await;
            assert_eq!(session.hears().await, NOTE);
        }
        // What was never asked is not given up, and nothing of this is posted.
        session.sends(&cancel("8")).await;
        session.sends(&cancel("7.0")).await;
        asked.closes().await;
    }
    session.sends(CALL).await;
    let asked = server.asked().await;
    assert_eq!(asked.body, CALL);
    asked.answers("200 OK", "application/json", ANSWER).await;
    assert_eq!(session.hears().await, ANSWER, "the id may be used again");
    assert!(session.source.recv().now_or_never().is_none());
}

#[tokio::test]
async fn a_session_that_ends_gives_up_all_its_requests() {
    let mut server = Server::start().await;
    let mut session = server.session();
    session.sends(CALL).await;
    let first = server.asked().await;
    session.sends(&CALL.replace('7', "8")).await;
    let mut second = server.asked().await;
    second.begins().await;
    drop(session);
    first.closes().await;
    second.closes().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_answer_to_the_question_what_it_speaks() {
    let server = Server::start().await;
    let mut session = server.session();
    // Nobody listens there any more.
    drop(server);
    session.sends(CALL).await;
    let error = session.hears_an_error().await;
    assert!(!error.contains("secret"), "{error}");
    session.sends(r#"{"jsonrpc":"2.0","id":"d","method":"server/discover"}"#).await;
    let failure = session.source.recv().await.unwrap_err();
    assert_eq!(failure.how, How::NotStarted);
    assert!(!failure.text.contains("secret"), "{failure}");
    let mut server = Server::start().await;
    let mut session = server.session();
    session.sends(r#"{"jsonrpc":"2.0","id":"d","method":"server/discover"}"#).await;
    server.asked().await.answers("503 Service Unavailable", "text/plain", "down").await;
    assert_eq!(session.source.recv().await.unwrap_err().how, How::NotStarted);
    session.sends(r#"{"jsonrpc":"2.0","id":"d","method":"server/discover"}"#).await;
    server.asked().await.answers("404 Not Found", "text/plain", "no").await;
    assert_eq!(session.source.recv().await.unwrap_err().how, How::Failed, "it is there, and says no");
}

#[tokio::test]
async fn a_notification_has_no_answer() {
    let mut server = Server::start().await;
    let mut session = server.session();
    for (status, kind, body) in [
        ("202 Accepted", "", ""),
        ("200 OK", "application/json", ANSWER),
        ("400 Bad Request", "application/json", ANSWER),
        ("500 Internal Server Error", "text/html", "<p>"),
    ] {
        session.sends(NOTE).await;
        let asked = server.asked().await;
        assert_eq!(asked.body, NOTE);
        asked.answers(status, kind, body).await;
    }
    // Nothing has come of them.
    session.sends(CALL).await;
    server.asked().await.answers("200 OK", "application/json", ANSWER).await;
    assert_eq!(session.hears().await, ANSWER);
}

#[tokio::test]
async fn requests_that_are_open_are_bounded_and_one_that_ends_makes_room() {
    let mut server = Server::start().await;
    let mut session = server.session();
    let all = IN_FLIGHT + OWN_REQUESTS;
    let mut open = Vec::new();
    for id in 0..all {
        session.sends(&CALL.replace('7', &id.to_string())).await;
        open.push(server.asked().await);
    }
    let next = CALL.replace('7', "\"next\"");
    session.sends(&next).await;
    assert!(session.hears_an_error().await.contains("too many requests"), "nobody waits");
    let last = open.pop().unwrap();
    let id = all - 1;
    last.answers("200 OK", "application/json", &ANSWER.replace('7', &id.to_string())).await;
    session.hears().await;
    session.sends(&next).await;
    assert_eq!(server.asked().await.body, next);
    assert_eq!(session.sink.open.len(), all);
}

#[tokio::test]
async fn what_is_kept_of_requests_is_bounded() {
    let mut server = Server::start().await;
    let mut session = server.session();
    for id in 0..200 {
        session.sends(&CALL.replace('7', &id.to_string())).await;
        let asked = server.asked().await;
        if id % 2 == 0 {
            session.sends(&cancel(&id.to_string())).await;
            asked.closes().await;
        } else {
            asked.answers("200 OK", "application/json", &ANSWER.replace('7', &id.to_string())).await;
            session.hears().await;
        }
        assert!(session.sink.open.len() <= 3 && session.sink.requests.len() <= 3);
    }
}
