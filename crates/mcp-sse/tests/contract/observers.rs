//! What an observer is told.

use std::sync::{Arc, Mutex};

use http::Request;
use mcp_sse::{ObservedSession, Observer, Principal, Refusal, SessionFact};

use crate::help::{HOST, Server, builder, empty, full, get, notification, post, request};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn so_far(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Told {
    fn session(&self, session: &ObservedSession<'_>, fact: &SessionFact) {
        assert_eq!(
            (session.endpoint, session.principal.map(Principal::as_str)),
            ("/messages/", Some("alice"))
        );
        let text = match fact {
            SessionFact::Opened => "opened".to_owned(),
            SessionFact::Left => "left".to_owned(),
            SessionFact::Resumed { after, .. } => format!("resumed after {after}"),
            SessionFact::Busy { in_flight, .. } => format!("busy with {in_flight}"),
            SessionFact::Closed { reason, figures, .. } => {
                format!(
                    "{reason}: {} in, {} refused, {} cut",
                    figures.messages_in, figures.refused, figures.cut
                )
            }
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }

    fn refused(&self, refusal: &Refusal) {
        self.0.lock().unwrap().push(format!("{} {}", refusal.status.as_u16(), refusal.reason));
    }
}

fn alice<B>(mut request: Request<B>) -> Request<B> {
    request.extensions_mut().insert(Principal::new("alice"));
    request
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_of_each_session_and_each_refusal_once() {
    let told = Told::default();
    let server = Server::new(builder().requests_in_flight(1, 1_000_000).observe(told.clone()));
    let events = server.try_open(alice(empty(get()))).await.unwrap();
    assert_eq!(told.so_far(), ["opened"]);
    server.send(alice(full(post(&events.uri), notification("m")))).await.assert_accepted();
    server.send(alice(full(post(&events.uri), request(1)))).await.assert_accepted();
    assert_eq!(told.so_far(), [""; 0], "messages are counted, not told");
    for _ in 0..2 {
        assert_eq!(server.send(alice(full(post(&events.uri), request(2)))).await.status, 503);
    }
    assert_eq!(told.so_far(), ["busy with 1", "503 session_busy", "503 session_busy"]);
    let position = events.position(0);
    let handle = server.handle(&events);
    drop(events);
    let events = server.try_open(alice(empty(get().header("last-event-id", position)))).await.unwrap();
    assert_eq!(told.so_far(), ["left", "resumed after 0"]);
    handle.close();
    assert_eq!(told.so_far(), ["closed by the server: 2 in, 2 refused, 1 cut"]);
    drop(events);
    assert_eq!(told.so_far(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_by_a_word() {
    let told = Told::default();
    let server = Server::new(builder().max_body_bytes(100).observe(told.clone()));
    let uri = |query: &str| Request::post(format!("/messages/{query}")).header("host", HOST);
    let json = |query: &str| uri(query).header("content-type", "application/json");
    let unknown = "?session_id=0123456789abcdef0123456789abcdef";
    for (message, word) in [
        (full(Request::post("/messages/").header("host", "evil.example"), ""), "400 invalid_content_type"),
        (full(json(unknown).header("host", "b"), ""), "421 invalid_host"),
        (full(json(unknown).header("origin", "https://evil.example"), ""), "403 invalid_origin"),
        (full(Request::put("/messages/").header("host", HOST), ""), "405 method_not_allowed"),
        (full(json(""), "{}"), "400 session_id_required"),
        (full(json("?session_id=x"), "{}"), "400 invalid_session_id"),
        (full(json(unknown), "{}"), "404 session_not_found"),
        (full(json(unknown), "x".repeat(101)), "413 body_too_large"),
    ] {
        server.send(message).await;
        assert_eq!(told.so_far(), [word]);
    }
    let stranger = Request::get("/sse").header("host", "evil.example");
    assert!(server.try_open(empty(stranger)).await.is_err());
    assert_eq!(told.so_far(), ["421 invalid_host"]);
}

#[cfg(feature = "server")]
#[tokio::test]
async fn our_own_server_tells_the_same() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let told = Told::default();
    let server = Server::new(builder().observe(told.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.http().serve(listener, std::future::pending(), std::time::Duration::ZERO));
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /messages/?session_id=0123456789abcdef0123456789abcdef HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n";
    socket.write_all(format!("{head}\r\n{{}}{head}connection: close\r\n\r\n{{}}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.unwrap();
    assert_eq!(told.so_far(), ["404 session_not_found", "404 session_not_found"], "{answers}");
}
