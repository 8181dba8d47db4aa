//! The sessions from outside, and a session without rmcp: a `Stream` and a `Sink`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, poll};
use http::Request;
use mcp_sse::{CloseReason, MessageKind, RequestId, SendError, Session, SessionHandle};
use tokio::pin;

use crate::help::{
    Answer, Events, Server, UNKNOWN, builder, empty, full, get, message, notification, pass, post, received,
    request, result, timed,
};

fn ids(mut handles: Vec<SessionHandle>) -> Vec<String> {
    handles.sort_by_key(SessionHandle::id);
    handles.iter().map(|handle| handle.id().expose_hex()).collect()
}

#[tokio::test]
async fn open_sessions_can_be_listed_counted_and_found() {
    let server = Server::new(builder());
    assert_eq!((server.sse.session_counts().open, server.sse.sessions().len()), (0, 0));
    let (first, second) = (server.open().await, server.open().await);
    let mut expected = vec![first.id.clone(), second.id.clone()];
    expected.sort();
    assert_eq!(ids(server.sse.sessions()), expected);
    assert_eq!(server.handle(&first).id().expose_hex(), first.id);
    assert!(server.sse.session(UNKNOWN.parse().unwrap()).is_none());
    server.handle(&first).close();
    assert_eq!(ids(server.sse.sessions()), [second.id]);
    assert_eq!(server.sse.session_counts().open, 1);
    assert!(server.sse.session(first.id.parse().unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_handle_tells_how_its_session_stands() {
    let (server, events, session) = Server::with_session(builder()).await;
    let handle = server.handle(&events);
    server.post(&events, request(1)).await.assert_accepted();
    server.post(&events, request(2)).await.assert_accepted();
    session.handle().send(message(result(2))).await.unwrap();
    session.handle().send(message(notification("m"))).await.unwrap();
    pass(Duration::from_secs(7)).await;
    let info = handle.info();
    assert_eq!(info.age.as_secs(), 7);
    assert_eq!((info.connected, info.closed, info.resumed), (true, None, 0));
    assert_eq!((info.requests_in_flight, info.inbound_queued, info.outbound_queued), (1, 2, 2));
    assert_eq!((info.messages_in, info.messages_out), (3, 2));
    drop(events);
    assert!(!handle.info().connected);
}

#[tokio::test]
async fn a_message_can_be_sent_to_one_session_from_outside() {
    let server = Server::new(builder());
    let (mut first, mut second) = (server.open().await, server.open().await);
    server.handle(&first).send(message(notification("for one"))).await.unwrap();
    assert_eq!(first.message().await, notification("for one"));
    second.assert_silent();
}

#[tokio::test]
async fn a_message_can_be_sent_to_all_sessions() {
    let server = Server::new(builder());
    let mut all = [server.open().await, server.open().await, server.open().await];
    for n in 1..=3 {
        let failed = server.sse.send_to_all(&message(request(n))).await;
        assert!(failed.is_empty());
    }
    for events in &mut all {
        for n in 1..=3 {
            assert_eq!(events.block().await, Some(events.expected(n as u64, &request(n))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_session_keeps_no_other_from_what_is_sent_to_all() {
    let server = Server::new(builder().outbound_queue(1, 1000));
    let (full, mut other) = (server.open().await, server.open().await);
    server.handle(&full).send(message(notification("unread"))).await.unwrap();
    let handle = server.handle(&full);
    let all = message(notification("all"));
    let sending = server.sse.send_to_all(&all);
    pin!(sending);
    assert!(poll!(&mut sending).is_pending());
    assert_eq!(other.message().await, notification("all"), "while the full one is waited for");
    let (failed, millis) = timed(sending).await;
    assert!((30_000..30_010).contains(&millis), "{millis}");
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].0.id(), &failed[0].1), (handle.id(), &SendError::Closed(CloseReason::Stalled)));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_all_has_its_place_in_the_order_of_a_full_session() {
    let server = Server::new(builder().outbound_queue(1, 1000));
    let mut events = server.open().await;
    let handle = server.handle(&events);
    handle.send(message(request(1))).await.unwrap();
    let all = message(request(2));
    let sending = server.sse.send_to_all(&all);
    pin!(sending);
    assert!(poll!(&mut sending).is_pending());
    let after = handle.send(message(request(3)));
    pin!(after);
    assert!(poll!(&mut after).is_pending());
    assert_eq!(events.message().await, request(1));
    assert!(sending.await.is_empty());
    assert_eq!(events.message().await, request(2));
    after.await.unwrap();
    assert_eq!(events.message().await, request(3));
}

// ---- Stream and Sink ------------------------------------------------------------------------------------

#[tokio::test]
async fn a_session_is_a_stream_of_what_the_client_posts_with_the_head_of_its_request() {
    let (server, events, mut session) = Server::with_session(builder()).await;
    let head = post(&events.uri).header("x-tenant", "seven").extension(7_u32);
    server.send(full(head, request(5))).await.assert_accepted();
    let incoming = StreamExt::next(&mut session).await.unwrap();
    let kind = MessageKind::Request { id: RequestId::from(5), method: "tools/call".into() };
    assert_eq!(*incoming.message.kind(), kind);
    assert_eq!(incoming.parts().headers["x-tenant"], "seven");
    assert_eq!(incoming.parts().extensions.get::<u32>(), Some(&7));
    assert_eq!(
        (incoming.parts().method.as_str(), incoming.parts().uri.to_string()),
        ("POST", events.uri.clone())
    );
    session.handle().close();
    assert!(StreamExt::next(&mut session).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_a_sink_that_waits_while_its_client_does_not_read() {
    let (_server, mut events, mut session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    SinkExt::send(&mut session, message(request(1))).await.unwrap();
    {
        let second = SinkExt::send(&mut session, message(request(2)));
        pin!(second);
        assert!(poll!(&mut second).is_pending());
        assert_eq!(events.message().await, request(1));
        second.await.unwrap();
    }
    assert_eq!(events.message().await, request(2));
    SinkExt::close(&mut session).await.unwrap();
    events.assert_ends().await;
    let sent = SinkExt::send(&mut session, message(request(3))).await;
    assert_eq!(sent, Err(SendError::Closed(CloseReason::AppEnded)));
}

#[tokio::test]
async fn a_split_session_ends_with_its_receiving_half() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    let (mut receiver, handle) = session.split();
    server.post(&events, request(1)).await.assert_accepted();
    let incoming = StreamExt::next(&mut receiver).await.unwrap();
    assert_eq!(incoming.message.as_str(), request(1));
    let sender = handle.clone();
    tokio::spawn(async move { sender.send(message(result(1))).await.unwrap() }).await.unwrap();
    assert_eq!(events.message().await, result(1));
    drop(receiver);
    events.assert_ends().await;
    assert_eq!(handle.closed().await, CloseReason::AppEnded);
}

#[tokio::test]
async fn receiving_can_be_given_up_without_a_loss() {
    let (server, events, mut session) = Server::with_session(builder()).await;
    {
        let receive = session.recv();
        pin!(receive);
        assert!(poll!(&mut receive).is_pending());
        server.post(&events, notification("m")).await.assert_accepted();
    }
    assert_eq!(received(&mut session).await, notification("m"));
}

// ---- without a closure ----------------------------------------------------------------------------------

#[tokio::test]
async fn connect_gives_the_session_at_once_and_post_brings_its_messages() {
    let transport = builder().build().unwrap();
    let (response, session) = transport.connect(&empty(get())).await;
    let mut session = session.unwrap();
    let mut events = Events::begin(response).await;
    let answer = Answer::read(transport.post(full(post(&events.uri), request(1))).await).await;
    answer.assert_accepted();
    assert_eq!(received(&mut session).await, request(1));
    session.handle().send(message(result(1))).await.unwrap();
    assert_eq!(events.message().await, result(1));

    let (response, refused) = transport.connect(&Request::post("/sse").body(()).unwrap()).await;
    assert_eq!(response.status(), 405);
    assert!(refused.is_none());

    let resume = get().header("last-event-id", events.position(1));
    let (response, resumed) = transport.connect(&empty(resume)).await;
    assert_eq!(response.status(), 200);
    assert!(resumed.is_none(), "its session runs already");
    events.assert_ends().await;
}

#[tokio::test]
async fn the_services_are_tower_services_that_can_be_cloned_and_sent() {
    fn is_service<S, B>(_: &S)
    where
        S: tower::Service<Request<B>, Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
    }
    fn is_send<T: Send + 'static>() {}
    let server = Server::new(builder());
    is_service::<_, hyper::body::Incoming>(&server.connect);
    is_service::<_, hyper::body::Incoming>(&server.post);
    is_service::<_, http_body_util::Full<bytes::Bytes>>(&server.post);
    is_send::<Session>();
    is_send::<mcp_sse::Body>();
}

// ---- the made-up initialize -----------------------------------------------------------------------------

#[tokio::test]
async fn a_client_that_begins_without_initialize_gets_one_synthesized_and_never_hears_of_it() {
    let server = Server::new(mcp_sse::SseServerTransport::builder("/messages/"));
    let mut events = server.open().await;
    let head = post(&events.uri).header("mcp-protocol-version", "2025-06-18").header("x-tenant", "seven");
    server.send(full(head, request(1))).await.assert_accepted();
    let mut session = server.session().await;

    let synthesized = session.recv().await.unwrap();
    assert_eq!(synthesized.message.method(), Some("initialize"));
    assert!(synthesized.message.as_str().contains(r#""protocolVersion":"2025-06-18""#));
    assert_eq!(synthesized.parts().headers["x-tenant"], "seven");
    assert!(poll!(Box::pin(session.recv())).is_pending(), "the rest is held until the app has answered");
    let id = synthesized.message.id().unwrap();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
    session.handle().send(message(answer)).await.unwrap();
    assert_eq!(received(&mut session).await, notification("notifications/initialized"));
    assert_eq!(received(&mut session).await, request(1));
    session.handle().send(message(result(1))).await.unwrap();
    assert_eq!(events.block().await, Some(events.expected(1, &result(1))));
}

#[tokio::test]
async fn a_client_that_shakes_hands_itself_gets_no_initialize_synthesized_whatever_it_asked_before() {
    let server = Server::new(mcp_sse::SseServerTransport::builder("/messages/"));
    let ping = r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#;
    let discover = r#"{"jsonrpc":"2.0","id":"d","method":"server/discover"}"#;
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    let events = server.open().await;
    for json in [ping, discover, initialize, &request(2)] {
        server.post(&events, json.to_owned()).await.assert_accepted();
    }
    let mut session = server.session().await;
    for json in [ping, discover, initialize, &request(2)] {
        assert_eq!(received(&mut session).await, json);
    }
}
