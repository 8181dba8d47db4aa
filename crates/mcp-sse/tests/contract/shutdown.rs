//! The way down: nothing new, what is in flight finishes, then the streams end.

use std::time::Duration;

use futures_util::poll;
use mcp_sse::{CloseReason, ShutdownReport};
use tokio::pin;

use crate::help::{
    Server, builder, empty, error, get, message, notification, pass, received, request, result, timed,
};

const DOWN: &str = "Server is shutting down";
const DEADLINE: Duration = Duration::from_secs(10);

fn counts(report: ShutdownReport) -> (usize, usize) {
    (report.drained, report.cut)
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_idle_sessions_at_once() {
    let (server, mut events, mut session) = Server::with_session(builder()).await;
    session.handle().send(message(notification("last"))).await.unwrap();
    let (report, millis) = timed(server.sse.shutdown(DEADLINE)).await;
    assert_eq!((counts(report), millis), ((1, 0), 0));
    assert_eq!(session.handle().closed().await, CloseReason::Shutdown);
    assert!(session.recv().await.is_none());
    assert_eq!(events.message().await, notification("last"));
    events.assert_ends().await;
    server.try_open(empty(get())).await.unwrap_err().assert_busy(DOWN);
    server.post(&events, notification("m")).await.assert_not_found();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_sessions_is_done_at_once_and_can_be_repeated() {
    let server = Server::new(builder());
    for _ in 0..2 {
        let (report, millis) = timed(server.sse.shutdown(DEADLINE)).await;
        assert_eq!((counts(report), millis), ((0, 0), 0));
    }
    server.try_open(empty(get())).await.unwrap_err().assert_busy(DOWN);
}

#[tokio::test(start_paused = true)]
async fn during_a_shutdown_nothing_new_begins_and_what_is_in_flight_finishes() {
    let (server, mut events, mut session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    received(&mut session).await;
    let shutdown = server.sse.shutdown(DEADLINE);
    pin!(shutdown);
    assert!(poll!(&mut shutdown).is_pending());

    server.try_open(empty(get())).await.unwrap_err().assert_busy(DOWN);
    server.post(&events, request(2)).await.assert_busy(DOWN);
    let mut events = {
        let resumed = server.resume(&events.position(0)).await.unwrap();
        events.assert_ends().await;
        resumed
    };
    for json in [notification("m"), result(9)] {
        server.post(&events, json.clone()).await.assert_accepted();
        assert_eq!(received(&mut session).await, json);
    }
    session.handle().send(message(notification("progress"))).await.unwrap();
    session.handle().send(message(result(1))).await.unwrap();
    let (report, millis) = timed(shutdown).await;
    assert_eq!((counts(report), millis), ((1, 0), 0));
    assert_eq!(events.message().await, notification("progress"));
    assert_eq!(events.message().await, result(1));
    events.assert_ends().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_rest_is_answered_with_errors() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    let (report, millis) = timed(server.sse.shutdown(DEADLINE)).await;
    assert_eq!(counts(report), (0, 1));
    assert!((10_000..10_010).contains(&millis), "{millis}");
    assert_eq!(session.handle().closed().await, CloseReason::Shutdown);
    let text = "the server is shutting down and did not answer in time";
    assert_eq!(events.message().await, error(1, -32000, text));
    events.assert_ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_a_deadline_of_zero_cuts_at_once() {
    let (server, mut events, _session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    let (report, millis) = timed(server.sse.shutdown(Duration::ZERO)).await;
    assert_eq!(counts(report), (0, 1));
    assert!(millis <= 1, "{millis}");
    events.message().await;
    events.assert_ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_is_away_does_not_hold_up_a_shutdown() {
    let (server, events, session) = Server::with_session(builder()).await;
    drop(events);
    let (report, millis) = timed(server.sse.shutdown(DEADLINE)).await;
    assert_eq!((counts(report), millis), ((1, 0), 0));
    assert_eq!(session.handle().closed().await, CloseReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_the_streams_are_spread() {
    let server = Server::new(builder().shutdown_spread(Duration::from_secs(4)));
    let all = [server.open().await, server.open().await, server.open().await, server.open().await];
    let shutdown = server.sse.shutdown(DEADLINE);
    pin!(shutdown);
    for left in [3, 2, 1] {
        assert!(poll!(&mut shutdown).is_pending());
        assert_eq!(server.sse.session_counts().open, left);
        pass(Duration::from_millis(1001)).await;
    }
    assert_eq!(counts(shutdown.await), (4, 0));
    drop(all);
}

#[tokio::test(start_paused = true)]
async fn during_the_spread_no_session_takes_a_new_request() {
    let server = Server::new(builder().shutdown_spread(Duration::from_secs(4)));
    let (first, second) = (server.open().await, server.open().await);
    let shutdown = server.sse.shutdown(DEADLINE);
    pin!(shutdown);
    assert!(poll!(&mut shutdown).is_pending());
    assert_eq!(server.sse.session_counts().open, 1, "the other one's turn has not come");
    let left = server.sse.sessions()[0].id().expose_hex();
    let events = [first, second].into_iter().find(|events| events.id == left).unwrap();
    server.post(&events, request(1)).await.assert_busy(DOWN);
    assert_eq!(counts(shutdown.await), (2, 0));
}
