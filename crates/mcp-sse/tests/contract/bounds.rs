//! Nothing is unbounded, and what is at a bound stays in its session.

use std::{sync::Arc, time::Duration};

use futures_util::poll;
use http::Request;
use mcp_sse::{Builder, CloseReason, SendError};
use tokio::pin;

use crate::help::{
    Server, builder, call, empty, endless, error, full, get, message, notification, pass, post, principal,
    received, request, result, stalled, streamed, timed,
};

const MIB: usize = 1 << 20;
const BUSY: &str = "Session is busy, try again";
const TOO_MANY: &str = "Too many sessions, try again later";
const WAIT: Duration = Duration::from_secs(3);

// ---- sessions -------------------------------------------------------------------------------------------

#[tokio::test]
async fn over_the_cap_of_sessions_a_stream_gets_503() {
    let server = Server::new(builder().max_sessions(2));
    let first = server.open().await;
    let _second = server.open().await;
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    assert_eq!(server.sse.session_counts().open, 2);
    server.handle(&first).close();
    server.open().await;
}

#[tokio::test]
async fn over_the_cap_of_one_principal_only_its_streams_get_503() {
    let server = Server::new(builder().max_sessions_per_principal(1));
    let alices = server.open_as("alice").await;
    let again = || empty(get().extension(principal("alice")));
    server.try_open(again()).await.unwrap_err().assert_busy(TOO_MANY);
    server.open_as("bob").await;
    for _ in 0..3 {
        server.open().await;
    }
    server.handle(&alices).close();
    assert!(server.try_open(again()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn at_the_cap_the_session_whose_client_has_been_away_longest_gives_way() {
    let server = Server::new(builder().max_sessions(3));
    let (connected, first, second) = (server.open().await, server.open().await, server.open().await);
    let handles = [&connected, &first, &second].map(|events| server.handle(events));
    drop(second);
    pass(Duration::from_secs(1)).await;
    drop(first);
    let _fourth = server.open().await;
    let closed = handles.each_ref().map(|handle| handle.info().closed);
    assert_eq!(closed, [None, None, Some(CloseReason::Evicted)]);
    let _fifth = server.open().await;
    assert_eq!(handles[1].info().closed, Some(CloseReason::Evicted));
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    assert_eq!(handles[0].info().closed, None);
}

#[tokio::test]
async fn at_the_cap_of_a_principal_only_its_endpoint_sessions_give_way() {
    let server = Server::new(builder().max_sessions_per_principal(1));
    let (bobs, alices) = (server.open_as("bob").await, server.open_as("alice").await);
    let handles = [&bobs, &alices].map(|events| server.handle(events));
    drop((bobs, alices));
    let _alices = server.open_as("alice").await;
    let closed = handles.each_ref().map(|handle| handle.info().closed);
    assert_eq!(closed, [None, Some(CloseReason::Evicted)]);
}

#[tokio::test]
async fn a_session_that_came_back_does_not_give_way() {
    let server = Server::new(builder().max_sessions(1));
    let events = server.open().await;
    let position = events.position(0);
    drop(events);
    let _events = server.resume(&position).await.unwrap();
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
}

#[tokio::test]
async fn many_clients_that_come_and_go_leave_nothing_behind() {
    let server = Server::new(builder().max_sessions(5).resume_window(Duration::ZERO));
    for _ in 0..1000 {
        drop(server.open().await);
    }
    assert_eq!(server.sse.session_counts().open, 0);
}

// ---- the app starts -------------------------------------------------------------------------------------

#[tokio::test]
async fn the_app_starts_at_the_first_message_and_only_once() {
    let server = Server::new(builder());
    let (events, other) = (server.open().await, server.open().await);
    server.post(&events, "{").await;
    server.assert_no_app_was_started();
    let mut session = server.start(&events).await;
    assert_eq!(session.handle().id().expose_hex(), events.id);
    server.post(&events, notification("second")).await.assert_accepted();
    assert_eq!(received(&mut session).await, notification("second"));
    server.assert_no_app_was_started();
    assert_eq!(server.start(&other).await.handle().id().expose_hex(), other.id);
}

// ---- the inbound queue ----------------------------------------------------------------------------------

async fn with_full_inbound_queue(builder: Builder) -> (Server, crate::help::Events, mcp_sse::Session) {
    let (server, events, session) =
        Server::with_session(builder.inbound_queue(2, MIB).queue_timeout(WAIT)).await;
    for method in ["first", "second"] {
        server.post(&events, notification(method)).await.assert_accepted();
    }
    (server, events, session)
}

#[tokio::test(start_paused = true)]
async fn a_post_to_an_app_that_does_not_read_waits_and_then_gets_503() {
    let (server, events, mut session) = with_full_inbound_queue(builder()).await;
    let (answer, millis) = timed(server.post(&events, notification("third"))).await;
    answer.assert_busy(BUSY);
    assert!((3000..3010).contains(&millis), "{millis}");
    assert_eq!(session.handle().info().inbound_queued, 2);
    assert_eq!(received(&mut session).await, notification("first"));
    server.post(&events, notification("fourth")).await.assert_accepted();
    assert_eq!(received(&mut session).await, notification("second"));
    assert_eq!(received(&mut session).await, notification("fourth"));
}

#[tokio::test(start_paused = true)]
async fn posts_that_wait_are_accepted_in_order_as_the_app_reads() {
    let (server, events, mut session) = with_full_inbound_queue(builder()).await;
    let (third, fourth) =
        (server.post(&events, notification("third")), server.post(&events, notification("fourth")));
    pin!(third, fourth);
    assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
    assert_eq!(received(&mut session).await, notification("first"));
    assert!(poll!(&mut fourth).is_pending(), "the third was first");
    third.await.assert_accepted();
    assert_eq!(received(&mut session).await, notification("second"));
    fourth.await.assert_accepted();
    assert_eq!(received(&mut session).await, notification("third"));
    assert_eq!(received(&mut session).await, notification("fourth"));
}

#[tokio::test(start_paused = true)]
async fn a_post_given_up_while_it_waits_leaves_no_trace() {
    let (server, events, mut session) = with_full_inbound_queue(builder()).await;
    {
        let third = server.post(&events, notification("third"));
        pin!(third);
        assert!(poll!(&mut third).is_pending());
    }
    let fourth = server.post(&events, notification("fourth"));
    pin!(fourth);
    assert!(poll!(&mut fourth).is_pending());
    assert_eq!(received(&mut session).await, notification("first"));
    fourth.await.assert_accepted();
    assert_eq!(received(&mut session).await, notification("second"));
    assert_eq!(received(&mut session).await, notification("fourth"));
}

#[tokio::test]
async fn a_post_given_up_while_its_body_arrives_leaves_no_trace() {
    let (server, events, session) = Server::with_session(builder()).await;
    {
        let posting = server.send(post(&events.uri).body(stalled(100)).unwrap());
        pin!(posting);
        assert!(poll!(&mut posting).is_pending());
        assert_eq!(session.handle().info().inbound_queued, 1, "it has its place");
    }
    assert_eq!(session.handle().info().inbound_queued, 0);
}

#[tokio::test]
async fn a_body_of_undeclared_length_holds_no_place_until_it_turns_out_to_be_long() {
    let (server, events, mut session) = Server::with_session(builder().inbound_queue(100, 2000)).await;
    let posting = server.send(post(&events.uri).body(endless()).unwrap());
    pin!(posting);
    assert!(poll!(&mut posting).is_pending());
    assert_eq!(session.handle().info().inbound_queued, 0);
    // Short ones pass beside it, and beside a message that is queued.
    server.post(&events, notification("declared")).await.assert_accepted();
    let undeclared = streamed(vec![notification("undeclared").into()]);
    let answer = server.send(post(&events.uri).body(undeclared).unwrap()).await;
    answer.assert_accepted();
    assert_eq!(received(&mut session).await, notification("declared"));
    assert_eq!(received(&mut session).await, notification("undeclared"));
}

#[tokio::test(start_paused = true)]
async fn the_inbound_queue_is_bounded_in_bytes_and_takes_one_message_of_any_size() {
    let (server, events, mut session) =
        Server::with_session(builder().inbound_queue(100, 2000).queue_timeout(WAIT)).await;
    let large = notification(&"m".repeat(5000));
    server.post(&events, large.clone()).await.assert_accepted();
    server.post(&events, notification("small")).await.assert_busy(BUSY);
    assert_eq!(received(&mut session).await, large);
    server.post(&events, notification("small")).await.assert_accepted();
}

#[tokio::test(start_paused = true)]
async fn a_full_session_does_not_hold_up_another() {
    let (server, _full, _session) = with_full_inbound_queue(builder()).await;
    let (other, mut others) = server.open_session().await;
    let (answer, millis) = timed(server.post(&other, notification("m"))).await;
    answer.assert_accepted();
    assert_eq!(millis, 0);
    assert_eq!(received(&mut others).await, notification("m"));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_waits_while_its_session_ends_gets_404() {
    let (server, events, session) = with_full_inbound_queue(builder()).await;
    let third = server.post(&events, notification("third"));
    pin!(third);
    assert!(poll!(&mut third).is_pending());
    drop(session);
    third.await.assert_not_found();
}

// ---- requests in flight ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded_while_all_else_passes() {
    let (server, events, mut session) =
        Server::with_session(builder().requests_in_flight(2, MIB).queue_timeout(WAIT)).await;
    for id in [1, 2] {
        server.post(&events, request(id)).await.assert_accepted();
        received(&mut session).await;
    }
    let (answer, millis) = timed(server.post(&events, request(3))).await;
    answer.assert_busy(BUSY);
    assert!((3000..3010).contains(&millis), "{millis}");
    for json in [notification("m"), result(9), error(8, -1, "no")] {
        server.post(&events, json.clone()).await.assert_accepted();
        assert_eq!(received(&mut session).await, json);
    }
    assert_eq!(session.handle().info().requests_in_flight, 2);
    let waiting = server.post(&events, request(4));
    pin!(waiting);
    assert!(poll!(&mut waiting).is_pending());
    session.handle().send(message(result(1))).await.unwrap();
    waiting.await.assert_accepted();
    assert_eq!(received(&mut session).await, request(4));
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded_in_bytes_and_one_of_any_size_passes() {
    let (server, events, mut session) =
        Server::with_session(builder().requests_in_flight(100, 2000).queue_timeout(WAIT)).await;
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "m".repeat(5000));
    server.post(&events, large.clone()).await.assert_accepted();
    assert_eq!(received(&mut session).await, large);
    server.post(&events, request(2)).await.assert_busy(BUSY);
    session.handle().send(message(result(1))).await.unwrap();
    server.post(&events, request(2)).await.assert_accepted();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_is_in_flight_no_longer() {
    let (server, events, mut session) =
        Server::with_session(builder().requests_in_flight(1, MIB).queue_timeout(WAIT)).await;
    server.post(&events, request(1)).await.assert_accepted();
    let cancel =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}"#;
    server.post(&events, cancel).await.assert_accepted();
    server.post(&events, request(2)).await.assert_accepted();
    for json in [request(1), cancel.to_owned(), request(2)] {
        assert_eq!(received(&mut session).await, json);
    }
}

#[tokio::test]
async fn an_id_that_is_in_flight_is_refused_and_free_again_after_its_answer() {
    let (server, mut events, mut session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    let answer = server.post(&events, request(1)).await;
    assert_eq!(answer.short(), (400, "A request with this id is still in flight"));
    let text = r#"{"jsonrpc":"2.0","id":"1","method":"m"}"#;
    server.post(&events, text).await.assert_accepted();
    session.handle().send(message(result(1))).await.unwrap();
    server.post(&events, request(1)).await.assert_accepted();
    for json in [request(1), text.to_owned(), request(1)] {
        assert_eq!(received(&mut session).await, json);
    }
    assert_eq!(events.message().await, result(1));
    assert_eq!(session.handle().info().requests_in_flight, 2);
}

// ---- the outbound log -----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_send_to_a_client_that_does_not_read_waits_until_it_reads() {
    let (_server, mut events, session) = Server::with_session(builder().outbound_queue(2, MIB)).await;
    for n in 1..=2 {
        session.handle().send(message(request(n))).await.unwrap();
    }
    let (third, fourth) =
        (session.handle().send(message(request(3))), session.handle().send(message(request(4))));
    pin!(third, fourth);
    assert!(poll!(&mut fourth).is_pending() && poll!(&mut third).is_pending());
    assert_eq!(events.message().await, request(1));
    assert_eq!(events.message().await, request(2));
    // In the order of the calls, not of the polls.
    fourth.await.unwrap();
    third.await.unwrap();
    assert_eq!(events.message().await, request(3));
    assert_eq!(events.message().await, request(4));
}

#[tokio::test(start_paused = true)]
async fn the_outbound_log_is_bounded_in_bytes_and_takes_one_message_of_any_size() {
    let (_server, mut events, session) = Server::with_session(builder().outbound_queue(100, 2000)).await;
    let large = notification(&"m".repeat(5000));
    session.handle().send(message(large.clone())).await.unwrap();
    let small = session.handle().send(message(notification("small")));
    pin!(small);
    assert!(poll!(&mut small).is_pending());
    assert_eq!(events.message().await, large);
    small.await.unwrap();
    assert_eq!(events.message().await, notification("small"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_ended_at_the_deadline_and_no_other() {
    let (server, mut stalled, session) = Server::with_session(builder().outbound_queue(1, MIB)).await;
    let (mut other, mut others) = server.open_session().await;
    session.handle().send(message(notification("unread"))).await.unwrap();
    let waiting = session.handle().send(message(notification("waiting")));
    let (closed, millis) = timed(session.handle().closed()).await;
    assert_eq!(closed, CloseReason::Stalled);
    assert!((30_000..30_010).contains(&millis), "{millis}");
    assert_eq!(waiting.await, Err(SendError::Closed(CloseReason::Stalled)));
    stalled.assert_ends().await;
    assert_eq!(server.sse.session_counts().open, 1);
    server.post(&other, request(1)).await.assert_accepted();
    assert_eq!(received(&mut others).await, request(1));
    others.handle().send(message(result(1))).await.unwrap();
    assert_eq!(other.message().await, result(1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_but_reads_is_not_ended() {
    let (_server, mut events, session) =
        Server::with_session(builder().outbound_queue(1, MIB).stall_timeout(Duration::from_secs(10))).await;
    for n in 1..=20 {
        session.handle().send(message(request(n))).await.unwrap();
        pass(Duration::from_secs(9)).await;
        assert_eq!(events.message().await, request(n));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_its_keep_alives_unread_is_ended_too() {
    let (_server, _events, session) = Server::with_session(builder()).await;
    let (closed, millis) = timed(session.handle().closed()).await;
    assert_eq!(closed, CloseReason::Stalled);
    assert!((45_000..45_020).contains(&millis), "{millis}");
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_is_an_error_and_the_client_that_waits_is_told() {
    let (server, mut events, mut session) =
        Server::with_session(builder().max_outbound_message_bytes(100)).await;
    server.post(&events, request(1)).await.assert_accepted();
    received(&mut session).await;
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#, "x".repeat(100));
    let bytes = large.len();
    let sent = session.handle().send(message(large.clone())).await;
    assert_eq!(sent, Err(SendError::TooLarge { bytes, limit: 100 }));
    let told = format!("response not sent: {}", sent.unwrap_err());
    assert_eq!(events.message().await, error(1, -32603, &told));
    assert_eq!(session.handle().info().requests_in_flight, 0);

    let sent = session.handle().send(message(notification(&"m".repeat(100)))).await;
    assert!(matches!(sent, Err(SendError::TooLarge { .. })));
    let sent = session.handle().send(message(large)).await;
    assert!(matches!(sent, Err(SendError::TooLarge { .. })), "nobody waits for this one");
    session.handle().send(message(notification("next"))).await.unwrap();
    assert_eq!(events.message().await, notification("next"));
}

#[tokio::test]
async fn a_limit_of_zero_is_refused_with_its_name() {
    let zero: [(&str, Builder); 8] = [
        ("max_sessions", builder().max_sessions(0)),
        ("max_sessions_per_principal", builder().max_sessions_per_principal(0)),
        ("max_body_bytes", builder().max_body_bytes(0)),
        ("max_outbound_message_bytes", builder().max_outbound_message_bytes(0)),
        ("inbound_queue", builder().inbound_queue(0, 1)),
        ("requests_in_flight", builder().requests_in_flight(1, 0)),
        ("outbound_queue", builder().outbound_queue(0, 0)),
        ("stall_timeout", builder().stall_timeout(Duration::ZERO)),
    ];
    for (setting, builder) in zero {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{setting} must be ")), "{error}");
    }
    let error = builder().resume_window(Duration::MAX).build().unwrap_err().to_string();
    assert_eq!(error, "resume_window must be at most a year");
}

// ---- the head of a request counts too -------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn headers_count_against_the_inbound_bound() {
    let (server, events, _session) =
        Server::with_session(builder().inbound_queue(100, 4000).queue_timeout(WAIT)).await;
    let head = |uri: &str| post(uri).header("x-large", "x".repeat(3000));
    server.send(full(head(&events.uri), notification("m"))).await.assert_accepted();
    server.send(full(head(&events.uri), notification("m"))).await.assert_busy(BUSY);
}

#[tokio::test]
async fn connections_are_no_part_of_a_session() {
    let server = Arc::new(Server::new(builder()));
    let events = server.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (server, uri) = (Arc::clone(&server), events.uri.clone());
        tasks.spawn(async move { server.send(full(post(&uri), notification("m"))).await.status });
    }
    assert!(tasks.join_all().await.into_iter().all(|status| status == 202));
    assert_eq!(server.handle(&events).info().messages_in, 50);
    let request = Request::get("/sse").header("host", "localhost");
    assert_eq!(call(&server.connect, empty(request)).await.status(), 200);
}
