//! What stands in the log, and what must not.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, header};
use mcp_sse::CloseReason;
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::help::{
    HOST, Server, builder, empty, full, get, idle, message, notification, post, principal, received, result,
};

const SECRET: &str = "the-secret-of-the-message";

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Takes what this thread logs, until the guard is dropped.
    pub(crate) fn begin(level: LevelFilter) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .with_max_level(level)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The one line that has all these words.
    pub(crate) fn line(&self, words: &[&str]) -> String {
        let text = self.text();
        let lines: Vec<_> =
            text.lines().filter(|line| words.iter().all(|word| line.contains(word))).collect();
        assert_eq!(lines.len(), 1, "lines with {words:?} in:\n{text}");
        lines[0].to_owned()
    }
}

fn json(id: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"text":"{SECRET}"}}}}"#)
}

/// A session with all that can be refused, resumed and lost in it.
async fn eventful_session() -> Vec<String> {
    let settings = builder()
        .max_body_bytes(1000)
        .max_outbound_message_bytes(200)
        .inbound_queue(2, 10_000)
        .requests_in_flight(2, 10_000)
        .queue_timeout(Duration::from_millis(10))
        .max_sessions(2);
    let (server, mut events, mut session) = Server::with_session(settings).await;
    let other = server.open_as(SECRET).await;
    let _ = server.try_open(empty(get())).await;
    for body in
        [format!("{{{SECRET}"), "x".repeat(2000), json(1), json(1), json(2), json(3), notification("m")]
    {
        server.post(&events, body).await;
    }
    let _ = server.send(full(post(&other.uri), json(1))).await;
    let _ = server.send(full(post(&other.uri).extension(principal("eve")), json(1))).await;
    let _ = server.send(full(post(&format!("/messages/?session_id={SECRET}")), json(1))).await;
    received(&mut session).await;
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#, SECRET.repeat(10));
    let _ = session.handle().send(message(large)).await;
    session.handle().send(message(result(2))).await.unwrap();
    events.message().await;
    let resumed = server.resume(&events.position(0)).await.unwrap();
    let _ = server.resume(&events.position(99)).await;
    drop((events, resumed));
    let ids = vec![session.handle().id().expose_hex(), other.id.clone()];
    session.handle().closed().await;
    drop(other);
    server.sse.shutdown(Duration::from_secs(1)).await;
    idle().await;
    ids
}

#[tokio::test(start_paused = true)]
async fn no_line_holds_a_whole_session_id_or_what_a_message_says() {
    for level in [LevelFilter::DEBUG, LevelFilter::TRACE] {
        let (log, _guard) = Log::begin(level);
        let ids = eventful_session().await;
        let text = log.text();
        for id in &ids {
            assert!(text.contains(&id[..8]), "sessions are told apart by the first digits");
            assert!(!text.contains(&id[..9]), "a session id in:\n{text}");
        }
        let hex = text.as_bytes().split(|byte| !byte.is_ascii_hexdigit()).map(<[u8]>::len).max().unwrap();
        assert!(hex < 32, "something like a session id in:\n{text}");
        if level == LevelFilter::DEBUG {
            assert!(!text.contains(SECRET), "a message or a principal in:\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_has_a_line_at_its_beginning_and_one_with_the_reason_at_its_end() {
    let (log, _guard) = Log::begin(LevelFilter::INFO);
    let (server, events, session) = Server::with_session(builder()).await;
    let name = format!("session={}", session.handle().id());
    log.line(&["INFO", "session opened", &name]);
    session.handle().send(message(notification("m"))).await.unwrap();
    drop(events);
    assert_eq!(session.handle().closed().await, CloseReason::ClientGone);
    let line = log.line(&["INFO", "session closed", &name]);
    for figure in ["reason=\"client_gone\"", "messages_in=1", "messages_out=1", "resumed=0", "seconds=30"] {
        assert!(line.contains(figure), "{figure} in {line}");
    }
    drop(server);
}

#[tokio::test]
async fn a_refused_host_or_origin_is_named_with_the_setting_to_change() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let server = Server::new(builder());
    let from = |host: &str| Request::get("/sse").header(header::HOST, host);
    let _ = server.try_open(empty(from("mcp.example.com:8000"))).await;
    log.line(&["WARN", "host=mcp.example.com:8000", "allowed_hosts"]);
    let _ = server.try_open(empty(Request::get("/sse"))).await;
    log.line(&["WARN", "host=(none)", "allowed_hosts"]);
    let _ = server.try_open(empty(from(HOST).header(header::ORIGIN, "https://app.example.com"))).await;
    log.line(&["WARN", "origin=https://app.example.com", "allowed_origins"]);
    let _ = server.try_open(empty(Request::get("http://other.example.com/sse"))).await;
    log.line(&["WARN", "host=other.example.com", "allowed_hosts"]);
}

/// The name to add is the one that failed, which may be the one in the URI.
#[tokio::test]
async fn of_two_names_the_one_that_failed_is_named() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let server = Server::new(builder());
    let head = Request::get("http://other.example.com/sse").header(header::HOST, HOST);
    let _ = server.try_open(empty(head)).await;
    log.line(&["WARN", "host=other.example.com", "allowed_hosts"]);
    let _ = server.try_open(empty(get().header(header::HOST, HOST))).await;
    log.line(&["WARN", "host=(several)", "allowed_hosts"]);
}

#[tokio::test]
async fn what_a_client_sends_cannot_forge_or_flood_the_log() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let server = Server::new(builder());
    let head = Request::get("/sse")
        .header(header::HOST, format!("evil\t\u{7f}{}", "x".repeat(5000)).replace('\u{7f}', ""));
    let _ = server.try_open(empty(head)).await;
    let line = log.line(&["allowed_hosts"]);
    assert!(line.contains("evil\\t") && line.len() < 500, "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_client_at_a_bound_is_told_in_the_log_with_the_figures() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let (server, events, session) = Server::with_session(builder().inbound_queue(1, 10_000)).await;
    server.post(&events, notification("m")).await.assert_accepted();
    assert_eq!(server.post(&events, notification("m")).await.status, 503);
    let name = format!("session={}", session.handle().id());
    log.line(&["WARN", &name, "at a bound", "inbound=1", "in_flight=0", "outbound=0"]);
}
