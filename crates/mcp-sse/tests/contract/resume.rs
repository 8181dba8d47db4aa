//! A client that comes back with `Last-Event-ID`.

use std::time::Duration;

use mcp_sse::{CloseReason, Session};

use crate::help::{
    Events, Server, UNKNOWN, builder, empty, get, idle, message, notification, pass, received, request,
    result, timed,
};

fn numbered(n: u64) -> String {
    notification(&format!("number {n}"))
}

async fn send(session: &Session, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        session.handle().send(message(numbered(n))).await.unwrap();
    }
}

async fn read(events: &mut Events, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        assert_eq!(events.block().await, Some(events.expected(n, &numbered(n))));
    }
}

#[tokio::test]
async fn a_client_that_resumes_continues_exactly_after_the_event_it_names() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    send(&session, 1..=5).await;
    read(&mut events, 1..=5).await;
    for last in [0, 2, 5, 4] {
        let mut resumed = server.resume(&events.position(last)).await.unwrap();
        let expected = format!("event: endpoint\nretry: 1000\ndata: {}\n\n", events.uri);
        assert_eq!(resumed.endpoint, expected, "without an id: the client's position stays what it was");
        read(&mut resumed, last + 1..=5).await;
        resumed.assert_silent();
    }
    assert_eq!(server.sse.session_counts().open, 1);
    assert_eq!(session.handle().info().resumed, 4);
}

#[tokio::test]
async fn a_resumed_stream_has_the_same_head_and_goes_on() {
    let (server, events, session) = Server::with_session(builder()).await;
    let mut resumed = server.resume(&events.position(0)).await.unwrap();
    assert_eq!(resumed.headers, events.headers);
    send(&session, 1..=2).await;
    read(&mut resumed, 1..=2).await;
}

#[tokio::test]
async fn the_newest_stream_wins_and_the_one_before_ends() {
    let (server, mut first, session) = Server::with_session(builder()).await;
    let mut second = server.resume(&first.position(0)).await.unwrap();
    first.assert_ends().await;
    let mut third = server.resume(&second.position(0)).await.unwrap();
    second.assert_ends().await;
    drop((first, second));
    assert!(session.handle().info().connected, "the end of an old stream does not end the newest");
    send(&session, 1..=1).await;
    read(&mut third, 1..=1).await;
}

#[tokio::test]
async fn an_old_stream_ends_while_its_reader_waits() {
    let (server, mut first, _session) = Server::with_session(builder()).await;
    let position = first.position(0);
    let reader = tokio::spawn(async move { first.block().await });
    tokio::task::yield_now().await;
    let _second = server.resume(&position).await.unwrap();
    assert_eq!(reader.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_takes_nothing_that_is_the_new_ones() {
    let (server, mut first, session) = Server::with_session(builder()).await;
    send(&session, 1..=3).await;
    let mut second = server.resume(&first.position(0)).await.unwrap();
    first.assert_ends().await;
    read(&mut second, 1..=3).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_client_is_away_arrives_in_order() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    send(&session, 1..=2).await;
    read(&mut events, 1..=2).await;
    let position = events.position(2);
    drop(events);
    assert!(!session.handle().info().connected);
    send(&session, 3..=9).await;
    pass(Duration::from_secs(29)).await;
    let mut events = server.resume(&position).await.unwrap();
    read(&mut events, 3..=9).await;
    assert!(session.handle().info().connected);
}

#[tokio::test(start_paused = true)]
async fn a_post_while_the_stream_is_away_reaches_the_app_and_its_answer_waits() {
    let (server, events, mut session) = Server::with_session(builder()).await;
    let (uri, position) = (events.uri.clone(), events.position(0));
    drop(events);
    let posted = server.send(crate::help::full(crate::help::post(&uri), request(7))).await;
    posted.assert_accepted();
    assert_eq!(received(&mut session).await, request(7));
    session.handle().send(message(result(7))).await.unwrap();
    let mut events = server.resume(&position).await.unwrap();
    assert_eq!(events.message().await, result(7));
}

#[tokio::test(start_paused = true)]
async fn after_the_window_the_session_is_gone_and_the_app_sees_the_end_of_its_input() {
    let (server, events, mut session) = Server::with_session(builder()).await;
    let (uri, position) = (events.uri.clone(), events.position(0));
    drop(events);
    let (end, millis) = timed(session.recv()).await;
    assert!(end.is_none());
    assert!((30_000..30_010).contains(&millis), "{millis}");
    assert_eq!(session.handle().closed().await, CloseReason::ClientGone);
    assert_eq!(server.sse.session_counts().open, 0);
    server.resume(&position).await.unwrap_err().assert_not_found();
    server.send(crate::help::full(crate::help::post(&uri), request(1))).await.assert_not_found();
}

#[tokio::test(start_paused = true)]
async fn the_window_can_be_set_and_begins_anew_each_time_the_client_goes() {
    let (server, events, mut session) =
        Server::with_session(builder().resume_window(Duration::from_secs(5))).await;
    let position = events.position(0);
    drop(events);
    for _ in 0..3 {
        pass(Duration::from_secs(4)).await;
        drop(server.resume(&position).await.unwrap());
    }
    let (end, millis) = timed(session.recv()).await;
    assert!(end.is_none());
    assert!((5000..5010).contains(&millis), "{millis}");
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_is_still_the_apps_after_the_client_has_gone() {
    let (server, events, mut session) = Server::with_session(builder()).await;
    server.post(&events, notification("last")).await.assert_accepted();
    drop(events);
    assert_eq!(session.handle().closed().await, CloseReason::ClientGone);
    assert_eq!(received(&mut session).await, notification("last"));
    assert!(session.recv().await.is_none());
}

#[tokio::test]
async fn without_a_window_a_session_ends_with_its_stream() {
    let (server, events, mut session) = Server::with_session(builder().resume_window(Duration::ZERO)).await;
    let position = events.position(0);
    server.resume(&position).await.unwrap_err().assert_not_found();
    drop(events);
    assert_eq!(session.handle().closed().await, CloseReason::ClientGone);
    assert!(session.recv().await.is_none());
    server.resume(&position).await.unwrap_err().assert_not_found();
    assert_eq!(server.sse.session_counts().open, 0);
}

#[tokio::test]
async fn a_last_event_id_that_names_no_known_event_gets_404() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    send(&session, 1..=3).await;
    read(&mut events, 1..=2).await;
    let id = &events.id;
    for last in [
        format!("{UNKNOWN}:0"),
        format!("{id}:4"),
        format!("{id}:18446744073709551615"),
        format!("{id}:99999999999999999999"),
        format!("{id}:-1"),
        format!("{id}:+1"),
        format!("{id}:01"),
        format!("{id}:1 1"),
        format!("{id}:"),
        id.clone(),
        format!("{}:1", &id[1..]),
        "7".into(),
        ":".into(),
        "null".into(),
    ] {
        server.resume(&last).await.unwrap_err().assert_not_found();
    }
    let not_ascii = get().header("last-event-id", &b"\xff"[..]);
    server.try_open(empty(not_ascii)).await.unwrap_err().assert_not_found();
    assert!(session.handle().info().connected, "the stream is untouched");
    read(&mut events, 3..=3).await;
    events.assert_silent();
}

#[tokio::test]
async fn a_client_that_missed_more_than_is_kept_gets_404() {
    let (server, mut events, session) = Server::with_session(builder().replay_buffer(2, 10_000)).await;
    send(&session, 1..=5).await;
    read(&mut events, 1..=5).await;
    server.resume(&events.position(2)).await.unwrap_err().assert_not_found();
    read(&mut server.resume(&events.position(3)).await.unwrap(), 4..=5).await;

    let bytes = numbered(1).len();
    let (server, mut events, session) = Server::with_session(builder().replay_buffer(100, 2 * bytes)).await;
    send(&session, 1..=5).await;
    read(&mut events, 1..=5).await;
    server.resume(&events.position(2)).await.unwrap_err().assert_not_found();
    read(&mut server.resume(&events.position(3)).await.unwrap(), 4..=5).await;
}

#[tokio::test(start_paused = true)]
async fn what_no_stream_has_taken_is_kept_whatever_the_replay_buffer() {
    let (server, events, session) = Server::with_session(builder().replay_buffer(0, 0)).await;
    let position = events.position(0);
    drop(events);
    send(&session, 1..=50).await;
    idle().await;
    read(&mut server.resume(&position).await.unwrap(), 1..=50).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_long_silent_session_resumes_where_it_is_and_not_before() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    send(&session, 1..=3).await;
    read(&mut events, 1..=3).await;
    for _ in 0..10 {
        assert_eq!(events.block().await.unwrap(), ": keep-alive\n\n");
    }
    drop(events);
    let info = session.handle().info();
    assert_eq!(info.outbound_queued, 0);
    let position = |sequence| format!("{}:{sequence}", session.handle().id().expose_hex());
    server.resume(&position(2)).await.unwrap_err().assert_not_found();
    let mut events = server.resume(&position(3)).await.unwrap();
    send(&session, 4..=4).await;
    read(&mut events, 4..=4).await;
}

#[tokio::test]
async fn a_stream_that_opens_anew_without_last_event_id_is_another_session() {
    let (server, events, _session) = Server::with_session(builder()).await;
    let other = server.open().await;
    assert_ne!(events.id, other.id);
    assert_eq!(server.sse.session_counts().open, 2);
}
