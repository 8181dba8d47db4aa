//! What waits moves by itself: nobody has to poll for it, and no session makes another wait.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, poll};
use mcp_sse::{CloseReason, SendError, Session, SseServerTransport};
use tokio::{pin, sync::Semaphore};

use crate::help::{
    Events, Server, UNKNOWN, builder, empty, error, full, get, idle, message, notification, pass, post,
    received, request, result, stalled, streamed, timed,
};

const BUSY: &str = "Session is busy, try again";
const TOO_MANY: &str = "Too many sessions, try again later";

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_all_goes_out_though_nobody_polls_it() {
    let server = Server::new(builder().outbound_queue(1, 1000));
    let (unread, mut other) = (server.open().await, server.open().await);
    server.handle(&unread).send(message(notification("unread"))).await.unwrap();
    let unpolled = server.sse.send_to_all(&message(notification("all")));
    assert_eq!(other.message().await, notification("all"));
    // And what is sent next does not wait for the session that nobody reads.
    server.handle(&other).send(message(notification("next"))).await.unwrap();
    assert_eq!(other.message().await, notification("next"));
    drop(unpolled);
    let mut unread = unread;
    assert_eq!(unread.message().await, notification("unread"));
    assert_eq!(unread.message().await, notification("all"));
}

#[tokio::test(start_paused = true)]
async fn a_send_in_a_branch_that_lost_holds_up_nobody() {
    let (_server, mut events, session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    session.handle().send(message(request(1))).await.unwrap();
    let lost = session.handle().send(message(request(2)));
    pin!(lost);
    assert!(poll!(&mut lost).is_pending());
    // `lost` lives on and is never polled again.
    let next = session.handle().send(message(request(3)));
    assert_eq!(events.message().await, request(1));
    assert_eq!(events.message().await, request(2));
    next.await.unwrap();
    assert_eq!(events.message().await, request(3));
}

#[tokio::test]
async fn what_the_sink_has_taken_is_not_lost_in_a_split() {
    let (_server, mut events, mut session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    session.feed(message(request(1))).await.unwrap();
    session.feed(message(request(2))).await.unwrap();
    let (receiver, _handle) = session.split();
    assert_eq!(events.message().await, request(1));
    assert_eq!(events.message().await, request(2));
    drop(receiver);
}

#[tokio::test]
async fn try_send_fails_where_send_would_wait_and_leaves_the_request_in_flight() {
    let (server, mut events, mut session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    server.post(&events, request(1)).await.assert_accepted();
    received(&mut session).await;
    let handle = session.handle();
    handle.try_send(message(notification("first"))).unwrap();
    assert_eq!(handle.try_send(message(result(1))), Err(SendError::Full { messages: 1 }));
    assert_eq!(handle.info().requests_in_flight, 1);
    assert_eq!(events.message().await, notification("first"));
    handle.try_send(message(result(1))).unwrap();
    assert_eq!(events.message().await, result(1));
}

#[tokio::test]
async fn the_backlog_is_bounded_and_a_client_that_does_not_read_may_ask_no_more() {
    let builder = builder().outbound_queue(1, 1000).outbound_backlog(2, 100_000);
    let (server, mut events, mut session) = Server::with_session(builder).await;
    for id in 1..=4 {
        server.post(&events, request(id)).await.assert_accepted();
        received(&mut session).await;
    }
    session.handle().send(message(result(1))).await.unwrap();
    let waiting = [session.handle().send(message(result(2))), session.handle().send(message(result(3)))];
    assert_eq!(session.handle().info().outbound_queued, 3);
    server.post(&events, request(5)).await.assert_busy(BUSY);
    assert_eq!(session.handle().send(message(result(4))).await, Err(SendError::Full { messages: 3 }));
    for id in 1..=3 {
        assert_eq!(events.message().await, result(id));
    }
    let text = "response not sent: 3 messages wait for the client already; \
                send less, or raise outbound_queue and outbound_backlog";
    assert_eq!(events.message().await, error(4, -32603, text));
    for sent in waiting {
        sent.await.unwrap();
    }
    server.post(&events, request(5)).await.assert_accepted();
}

// ---- large events ---------------------------------------------------------------------------------------

#[tokio::test]
async fn a_large_event_leaves_in_frames_of_at_most_64_kib() {
    let (_server, mut events, session) = Server::with_session(builder()).await;
    let large = notification(&"m".repeat(1_000_000));
    session.handle().send(message(large.clone())).await.unwrap();
    let (mut text, mut frames) = (String::new(), 0);
    while !text.ends_with("\n\n") {
        let frame = events.chunk().await.unwrap();
        assert!(frame.len() <= 64 * 1024, "{}", frame.len());
        text.push_str(&frame);
        frames += 1;
    }
    assert_eq!((text, frames), (events.expected(1, &large), 16));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_large_event_slowly_but_steadily_stays() {
    let stall = Duration::from_secs(5);
    let (_server, mut events, session) = Server::with_session(builder().stall_timeout(stall)).await;
    let large = notification(&"m".repeat(1_000_000));
    session.handle().send(message(large.clone())).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        pass(Duration::from_secs(4)).await;
        text.push_str(&events.chunk().await.unwrap());
    }
    assert_eq!(text, events.expected(1, &large));
    assert_eq!(session.handle().info().closed, None);
}

#[tokio::test]
async fn a_client_that_lost_its_stream_amid_a_large_event_gets_the_event_whole() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    let large = notification(&"m".repeat(200_000));
    session.handle().send(message(large.clone())).await.unwrap();
    let part = events.chunk().await.unwrap();
    assert!(part.starts_with("event: message\n") && !part.ends_with("\n\n"));
    let position = events.position(0);
    drop(events);
    let mut again = server.resume(&position).await.unwrap();
    assert_eq!(again.block().await, Some(again.expected(1, &large)));
}

// ---- what goes on behind a session ----------------------------------------------------------------------

/// An app that goes on after the end of its session, until it is let go.
fn stubborn(until: Arc<Semaphore>) -> impl Fn(Session) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    move |session| {
        let until = Arc::clone(&until);
        Box::pin(async move {
            drop(until.acquire().await.unwrap());
            drop(session);
        })
    }
}

#[tokio::test(start_paused = true)]
async fn apps_that_go_on_after_their_sessions_are_bounded_too() {
    let until = Arc::new(Semaphore::new(0));
    let settings = builder().max_sessions(3).resume_window(Duration::ZERO);
    let server = Server::with_app(settings, stubborn(Arc::clone(&until)));
    for _ in 0..3 {
        let events = server.open().await;
        server.post(&events, request(1)).await.assert_accepted();
        idle().await;
        drop(events);
    }
    assert_eq!(server.sse.session_counts().open, 0);
    assert!(!server.sse.has_room(&Default::default()));
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    until.add_permits(1);
    idle().await;
    assert!(server.sse.has_room(&Default::default()));
    server.open().await;
    // Those that stay are dropped after their grace.
    pass(Duration::from_secs(31)).await;
    let all = [server.open().await, server.open().await, server.open().await];
    assert_eq!(all.len(), server.sse.session_counts().open);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_crashes_while_its_session_drains_is_not_called_drained() {
    let (server, events, mut session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    received(&mut session).await;
    let shutdown = server.sse.shutdown(Duration::from_secs(10));
    pin!(shutdown);
    assert!(poll!(&mut shutdown).is_pending());
    drop(session);
    let report = shutdown.await;
    assert_eq!((report.drained, report.cut), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_though_its_transport_is_gone() {
    let sse = builder().build().unwrap();
    let (response, session) = sse.connect(&empty(get())).await;
    let session = session.unwrap();
    let mut events = Events::begin(response).await;
    session.handle().send(message(notification("unread"))).await.unwrap();
    drop(sse);
    assert_eq!(session.handle().closed().await, CloseReason::Shutdown);
    pass(Duration::from_secs(31)).await;
    events.assert_ends().await;
}

// ---- the ends of the settings' ranges -------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_shutdown_takes_any_deadline() {
    for deadline in [Duration::ZERO, Duration::MAX] {
        let (server, events, mut session) = Server::with_session(builder()).await;
        server.post(&events, request(1)).await.assert_accepted();
        received(&mut session).await;
        let shutdown = server.sse.shutdown(deadline);
        let answer = async {
            idle().await;
            let _ = session.handle().send(message(result(1))).await;
        };
        let (report, ()) = tokio::join!(shutdown, answer);
        let drained = usize::from(!deadline.is_zero());
        assert_eq!((report.drained, report.cut), (drained, 1 - drained));
    }
}

#[tokio::test(start_paused = true)]
async fn every_bound_may_be_as_large_as_a_number_can_be_and_as_small_as_one() {
    for bound in [1, usize::MAX] {
        let settings = builder()
            .max_sessions(bound)
            .max_sessions_per_principal(bound)
            .max_body_bytes(usize::MAX)
            .inbound_queue(bound, bound)
            .requests_in_flight(bound, bound)
            .outbound_queue(bound, bound)
            .outbound_backlog(bound, bound)
            .max_outbound_message_bytes(usize::MAX)
            .replay_buffer(bound, bound);
        let (server, mut events, mut session) = Server::with_session(settings).await;
        server.post(&events, request(1)).await.assert_accepted();
        assert_eq!(received(&mut session).await, request(1));
        // Of undeclared length, and longer than what is read before there is room for it.
        let long = notification(&"m".repeat(100_000));
        let parts = streamed(vec![long[..70_000].to_owned().into(), long[70_000..].to_owned().into()]);
        server.send(post(&events.uri).body(parts).unwrap()).await.assert_accepted();
        assert_eq!(received(&mut session).await, long);
        session.handle().send(message(result(1))).await.unwrap();
        assert_eq!(events.message().await, result(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_declared_larger_than_memory_takes_none() {
    let server = Server::new(builder().max_body_bytes(usize::MAX));
    let events = server.open().await;
    let (answer, _) = timed(server.send(post(&events.uri).body(stalled(1 << 60)).unwrap())).await;
    assert_eq!(answer.short(), (408, "Request body took too long"));
    let uri = format!("/messages/?session_id={UNKNOWN}");
    server.send(full(post(&uri), request(1))).await.assert_not_found();
}

#[tokio::test(start_paused = true)]
async fn times_may_be_as_long_as_a_year_and_most_may_be_zero() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    for time in [Duration::ZERO, YEAR] {
        let settings = builder()
            .keep_alive(time)
            .reconnect_delay(time)
            .resume_window(time)
            .body_timeout(time)
            .queue_timeout(time)
            .app_grace(time)
            .shutdown_spread(time)
            .stall_timeout(time.max(Duration::from_nanos(1)));
        let (server, mut events, mut session) = Server::with_session(settings).await;
        server.post(&events, request(1)).await.assert_accepted();
        assert_eq!(received(&mut session).await, request(1));
        session.handle().send(message(result(1))).await.unwrap();
        assert_eq!(events.message().await, result(1));
        drop(events);
        server.sse.shutdown(Duration::ZERO).await;
    }
    let longer =
        SseServerTransport::builder("/messages/").reconnect_delay(YEAR + Duration::from_nanos(1)).build();
    assert_eq!(longer.unwrap_err().to_string(), "reconnect_delay must be at most a year");
}
