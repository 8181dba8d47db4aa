//! What a client reads: the head of the stream, its events to the byte, and its comments.

use std::{collections::HashSet, time::Duration};

use futures_util::FutureExt as _;
use http::Request;

use crate::help::{Server, builder, call, empty, get, message, notification, pass, timed};

const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// What a client gets for one message of the app.
async fn sent(json: &str) -> String {
    let (_server, mut events, session) = Server::with_session(builder()).await;
    session.handle().send(message(json)).await.unwrap();
    let block = events.block().await.unwrap();
    let head = format!("event: message\nid: {}:1\ndata: ", events.id);
    block.strip_prefix(&head).unwrap().strip_suffix("\n\n").unwrap().to_owned()
}

#[tokio::test]
async fn the_head_of_a_stream_has_exactly_these_headers() {
    let server = Server::new(builder());
    let response = call(&server.connect, empty(get())).await;
    assert_eq!(response.status(), 200);
    let mut headers: Vec<_> =
        response.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    headers.sort_unstable();
    let expected = [
        ("cache-control", "no-store, no-transform"),
        ("content-type", "text/event-stream; charset=utf-8"),
        ("x-accel-buffering", "no"),
    ];
    assert_eq!(headers, expected);
    let hint = http_body::Body::size_hint(response.body());
    assert_eq!((hint.exact(), hint.upper()), (None, None), "no Content-Length");
    assert!(!http_body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn the_first_event_is_the_endpoint_in_one_block_with_id_and_retry() {
    let events = Server::new(builder()).open().await;
    let id = &events.id;
    let expected = format!("event: endpoint\nid: {id}:0\nretry: 1000\ndata: /messages/?session_id={id}\n\n");
    assert_eq!(events.endpoint, expected);
}

#[tokio::test]
async fn a_session_id_is_32_lower_case_hex_digits_and_new_each_time() {
    let server = Server::new(builder());
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let events = server.open().await;
        assert!(events.id.len() == 32 && events.id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        assert!(ids.insert(events.id), "twice the same");
    }
}

#[tokio::test]
async fn retry_is_told_in_milliseconds_as_set() {
    let events = Server::new(builder().reconnect_delay(Duration::from_millis(2500))).open().await;
    assert!(events.endpoint.contains("\nretry: 2500\ndata: "), "{}", events.endpoint);
}

#[tokio::test]
async fn the_query_of_the_get_is_not_copied() {
    let server = Server::new(builder());
    let request = Request::get("/sse?token=secret&session_id=1").header("host", "localhost");
    let events = server.try_open(empty(request)).await.unwrap();
    assert_eq!(events.uri, format!("/messages/?session_id={}", events.id));
}

#[tokio::test]
async fn an_empty_last_event_id_opens_a_new_session() {
    let server = Server::new(builder());
    let events = server.resume("").await.unwrap();
    assert!(events.endpoint.contains(&format!("id: {}:0\n", events.id)));
    assert_eq!(server.sse.session_counts().open, 1);
}

#[tokio::test]
async fn a_message_is_one_block_with_its_number_and_one_data_line() {
    let (_server, mut events, session) = Server::with_session(builder()).await;
    for n in 1..=12 {
        let json = notification(&format!("number {n}"));
        session.handle().send(message(json.clone())).await.unwrap();
        assert_eq!(events.chunk().await, Some(events.expected(n, &json)));
    }
}

#[tokio::test]
async fn without_a_resume_window_events_bear_no_ids() {
    let (_server, mut events, session) = Server::with_session(builder().resume_window(Duration::ZERO)).await;
    let id = &events.id;
    let expected = format!("event: endpoint\nretry: 1000\ndata: /messages/?session_id={id}\n\n");
    assert_eq!(events.endpoint, expected);
    session.handle().send(message(notification("m"))).await.unwrap();
    let expected = format!("event: message\ndata: {}\n\n", notification("m"));
    assert_eq!(events.chunk().await, Some(expected));
}

#[tokio::test]
async fn all_events_that_wait_leave_in_one_chunk() {
    let (_server, mut events, session) = Server::with_session(builder()).await;
    let mut expected = String::new();
    for n in 1..=50 {
        session.handle().send(message(notification("m"))).await.unwrap();
        expected += &events.expected(n, &notification("m"));
    }
    assert_eq!(events.chunk().await, Some(expected));
    events.assert_silent();
}

#[tokio::test]
async fn the_endpoint_event_leaves_in_one_chunk_with_the_messages_behind_it() {
    let server = Server::new(builder());
    let (response, session) = server.sse.connect(&empty(get())).await;
    let session = session.unwrap();
    session.handle().send(message(notification("a"))).await.unwrap();
    session.handle().send(message(notification("b"))).await.unwrap();
    let id = session.handle().id().expose_hex();
    let mut body = response.into_body();
    let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    let expected = format!(
        "event: endpoint\nid: {id}:0\nretry: 1000\ndata: /messages/?session_id={id}\n\n\
         event: message\nid: {id}:1\ndata: {}\n\nevent: message\nid: {id}:2\ndata: {}\n\n",
        notification("a"),
        notification("b")
    );
    assert_eq!(frame.into_data().unwrap(), expected);
}

#[tokio::test]
async fn what_clients_take_for_a_line_end_is_escaped() {
    let json = "{\"jsonrpc\":\"2.0\",\"method\":\"a\u{2028}b\u{2029}c\u{85}d\"}";
    assert_eq!(sent(json).await, r#"{"jsonrpc":"2.0","method":"a\u2028b\u2029c\u0085d"}"#);
}

#[tokio::test]
async fn json_with_line_ends_between_tokens_is_compacted() {
    let json = "{\r\n  \"jsonrpc\": \"2.0\",\n\t\"method\": \"a \\n b\"\r}\n";
    assert_eq!(sent(json).await, r#"{"jsonrpc":"2.0","method":"a \n b"}"#);
}

#[tokio::test]
async fn other_json_is_passed_on_as_it_is() {
    let json = r#"{"jsonrpc": "2.0",  "method":"é 漢字 😀 \u2028 \\"}"#;
    assert_eq!(sent(json).await, json);
}

// ---- keep-alive -----------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_silent_stream_gets_a_comment_every_15_seconds() {
    let server = Server::new(builder());
    let mut events = server.open().await;
    for _ in 0..4 {
        let (chunk, millis) = timed(events.chunk()).await;
        assert_eq!(chunk.unwrap(), KEEP_ALIVE);
        assert!((15_000..15_010).contains(&millis), "{millis}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_puts_the_comment_off() {
    let (_server, mut events, session) = Server::with_session(builder()).await;
    for _ in 0..3 {
        pass(Duration::from_secs(10)).await;
        session.handle().send(message(notification("m"))).await.unwrap();
        assert_eq!(events.message().await, notification("m"));
    }
    let (chunk, millis) = timed(events.chunk()).await;
    assert_eq!(chunk.unwrap(), KEEP_ALIVE);
    assert!((15_000..15_010).contains(&millis), "{millis}");
}

#[tokio::test(start_paused = true)]
async fn how_often_the_comment_comes_can_be_set() {
    let server = Server::new(builder().keep_alive(Duration::from_secs(2)));
    let mut events = server.open().await;
    for _ in 0..2 {
        let (chunk, millis) = timed(events.chunk()).await;
        assert_eq!(chunk.unwrap(), KEEP_ALIVE);
        assert!((2000..2010).contains(&millis), "{millis}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_of_zero_sends_none() {
    let server = Server::new(builder().keep_alive(Duration::ZERO));
    let mut events = server.open().await;
    pass(Duration::from_secs(3600)).await;
    events.assert_silent();
    assert_eq!(server.sse.session_counts().open, 1, "silence is no reason to end");
    assert!(events.chunk().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_lives_as_long_as_its_stream() {
    let server = Server::new(builder());
    let mut events = server.open().await;
    for _ in 0..400 {
        assert_eq!(events.chunk().await.unwrap(), KEEP_ALIVE);
    }
    assert_eq!(server.sse.session_counts().open, 1);
}
