//! How a session ends: every accepted request is answered or the stream ends, and the app hears why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture, poll};
use mcp_sse::{CloseReason, SendError, Session};
use tokio::{pin, sync::oneshot};

use crate::help::{
    Events, Server, builder, empty, error, get, idle, message, notification, pass, received, request, result,
    timed,
};

const APP_ENDED: &str = "the server ended before it answered";

/// What the client reads to the end of the stream, sorted: requests in flight have no order.
async fn rest(events: &mut Events) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(block) = events.block().await {
        rest.push(block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned());
    }
    rest.sort_unstable();
    rest
}

/// Answers the request 1, and then ends as told, with the requests 2 and "a" unanswered.
async fn app_that_ends(end: fn(Session) -> BoxFuture<'static, ()>) -> (Server, Events) {
    let server = Server::with_app(builder(), move |mut session: Session| async move {
        for _ in 0..3 {
            session.recv().await.unwrap();
        }
        session.handle().send(message(result(1))).await.unwrap();
        end(session).await;
    });
    let events = server.open().await;
    server.post(&events, request(1)).await.assert_accepted();
    let handle = server.handle(&events);
    server.post(&events, request(2)).await.assert_accepted();
    server.post(&events, r#"{"jsonrpc":"2.0","id":"a","method":"m"}"#).await.assert_accepted();
    assert_eq!(handle.closed().await, CloseReason::AppEnded);
    assert_eq!(handle.info().closed, Some(CloseReason::AppEnded));
    (server, events)
}

#[tokio::test]
async fn an_app_that_ends_in_whatever_way_has_its_requests_answered_and_its_stream_ended() {
    let ways: [fn(Session) -> BoxFuture<'static, ()>; 4] = [
        |session| async move { drop(session) }.boxed(),
        |_session| async { panic!("as a test") }.boxed(),
        |session| {
            async move {
                drop(session.split().0);
                std::future::pending::<()>().await;
            }
            .boxed()
        },
        |mut session| async move { futures_util::SinkExt::close(&mut session).await.unwrap() }.boxed(),
    ];
    for end in ways {
        let (server, mut events) = app_that_ends(end).await;
        assert_eq!(server.sse.session_counts().open, 0);
        server.post(&events, notification("m")).await.assert_not_found();
        server.resume(&events.position(0)).await.unwrap_err().assert_not_found();
        assert_eq!(events.message().await, result(1), "what was sent comes first");
        let expected = [error("\"a\"", -32000, APP_ENDED), error(2, -32000, APP_ENDED)];
        assert_eq!(rest(&mut events).await, expected);
    }
}

#[tokio::test]
async fn a_stream_that_waits_sees_the_end_at_once() {
    let (_server, mut events, session) = Server::with_session(builder()).await;
    let reader = tokio::spawn(async move { rest(&mut events).await });
    tokio::task::yield_now().await;
    drop(session);
    assert_eq!(reader.await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_the_app_did_not_read_is_answered_too() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    drop(session);
    assert_eq!(rest(&mut events).await, [error(1, -32000, APP_ENDED)]);
}

#[tokio::test]
async fn an_app_that_panics_before_it_begins_is_no_fault_of_the_post_that_started_it() {
    let server = Server::with_app(builder(), |_| -> std::future::Ready<()> { panic!("as a test") });
    let mut events = server.open().await;
    server.post(&events, request(1)).await.assert_accepted();
    assert_eq!(rest(&mut events).await, [error(1, -32000, APP_ENDED)]);
}

#[tokio::test]
async fn a_panic_of_one_app_leaves_the_others_alone() {
    let server = Server::with_app(builder(), |mut session: Session| async move {
        while let Some(incoming) = session.recv().await {
            assert_ne!(incoming.message.method(), Some("panic"), "as a test");
            session.handle().send(message(notification("alive"))).await.unwrap();
        }
    });
    let (mut bad, mut good) = (server.open().await, server.open().await);
    server.post(&good, notification("m")).await.assert_accepted();
    assert_eq!(good.message().await, notification("alive"));
    server.post(&bad, notification("panic")).await.assert_accepted();
    bad.assert_ends().await;
    server.post(&good, notification("m")).await.assert_accepted();
    assert_eq!(good.message().await, notification("alive"));
}

#[tokio::test]
async fn a_send_into_an_ended_session_says_that_it_is_closed_and_why() {
    let (_server, _events, mut session) = Server::with_session(builder()).await;
    session.handle().close();
    let sent = session.handle().send(message(notification("m"))).await.unwrap_err();
    assert_eq!(sent, SendError::Closed(CloseReason::ClosedByServer));
    assert_eq!(
        sent.to_string(),
        "the session is closed (closed by the server); nothing can be sent any more"
    );
    assert!(session.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_session_ends_still_goes_to_a_client_that_is_there() {
    let (_server, mut events, session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    session.handle().send(message(notification("first"))).await.unwrap();
    let second = session.handle().send(message(notification("second")));
    pin!(second);
    assert!(poll!(&mut second).is_pending());
    session.handle().close();
    assert_eq!(second.await, Ok(()));
    assert_eq!(rest(&mut events).await, [notification("first"), notification("second")]);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_when_the_session_ends_without_a_client_says_so() {
    let (_server, events, session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    session.handle().send(message(notification("first"))).await.unwrap();
    let second = session.handle().send(message(notification("second")));
    pin!(second);
    assert!(poll!(&mut second).is_pending());
    drop(events);
    session.handle().close();
    assert_eq!(second.await, Err(SendError::Closed(CloseReason::ClosedByServer)));
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_send_is_dropped_while_it_waits_still_comes() {
    let (server, mut events, mut session) = Server::with_session(builder().outbound_queue(1, 1000)).await;
    server.post(&events, request(1)).await.assert_accepted();
    received(&mut session).await;
    session.handle().send(message(notification("first"))).await.unwrap();
    let sending = session.handle().send(message(result(1)));
    assert_eq!(session.handle().info().requests_in_flight, 1);
    drop(sending);
    assert_eq!(events.message().await, notification("first"));
    assert_eq!(events.message().await, result(1));
    assert_eq!(session.handle().info().requests_in_flight, 0);
}

#[tokio::test]
async fn the_server_can_close_a_session_and_its_requests_are_answered() {
    let (server, mut events, mut session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    server.handle(&events).close();
    let text = "the server closed the session before it answered";
    assert_eq!(rest(&mut events).await, [error(1, -32000, text)]);
    assert_eq!(session.handle().closed().await, CloseReason::ClosedByServer);
    assert_eq!(received(&mut session).await, request(1), "it was accepted, so the app may still read it");
    assert!(session.recv().await.is_none());
}

/// Notes its drop.
struct Noted(Arc<AtomicUsize>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_that_ignores_the_end_of_its_session_is_dropped_after_the_grace() {
    let drops = Arc::new(AtomicUsize::new(0));
    let in_app = Arc::clone(&drops);
    let server = Server::with_app(builder().app_grace(Duration::from_secs(5)), move |session| {
        let noted = Noted(Arc::clone(&in_app));
        async move {
            let _kept = (session, noted);
            std::future::pending::<()>().await;
        }
    });
    let events = server.open().await;
    server.post(&events, notification("m")).await.assert_accepted();
    pass(Duration::from_secs(10)).await;
    assert_eq!(drops.load(Ordering::SeqCst), 0, "the grace begins with the end of the session");
    server.handle(&events).close();
    pass(Duration::from_millis(4990)).await;
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    pass(Duration::from_millis(20)).await;
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_ends_within_the_grace_is_left_to_it() {
    let (done, is_done) = oneshot::channel();
    let done = std::sync::Mutex::new(Some(done));
    let server = Server::with_app(builder(), move |mut session: Session| {
        let done = done.lock().unwrap().take().unwrap();
        async move {
            while session.recv().await.is_some() {}
            pass(Duration::from_secs(29)).await;
            done.send("tidied up").unwrap();
        }
    });
    let events = server.open().await;
    server.post(&events, notification("m")).await.assert_accepted();
    idle().await;
    drop(events);
    let (done, millis) = timed(is_done).await;
    assert_eq!(done, Ok("tidied up"));
    assert!((58_990..59_010).contains(&millis), "{millis}");
}

#[tokio::test]
async fn a_session_that_ends_before_its_first_message_starts_no_app() {
    let server = Server::new(builder());
    let mut events = server.open().await;
    server.handle(&events).close();
    events.assert_ends().await;
    server.assert_no_app_was_started();
}

#[tokio::test]
async fn the_end_of_the_transport_ends_its_sessions() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    server.post(&events, request(1)).await.assert_accepted();
    drop(server);
    assert_eq!(session.handle().closed().await, CloseReason::Shutdown);
    assert_eq!(rest(&mut events).await.len(), 1);
}

#[tokio::test]
async fn closed_resolves_for_all_who_wait() {
    let (_server, _events, session) = Server::with_session(builder()).await;
    let handles = [(); 3].map(|()| session.handle().clone());
    let waiting = handles.map(|handle| tokio::spawn(async move { handle.closed().await }));
    tokio::task::yield_now().await;
    session.handle().close();
    for one in waiting {
        assert_eq!(one.await.unwrap(), CloseReason::ClosedByServer);
    }
    assert_eq!(session.handle().closed().await, CloseReason::ClosedByServer, "and for who comes later");
}

#[tokio::test]
async fn the_first_reason_stays() {
    let server = Server::new(builder());
    let (response, session) = server.sse.connect(&empty(get())).await;
    let handle = session.as_ref().unwrap().handle().clone();
    handle.close();
    drop((response, session));
    assert_eq!(handle.closed().await, CloseReason::ClosedByServer);
}

#[tokio::test]
async fn an_app_that_fails_says_why_to_every_request_that_waits_and_the_stream_ends() {
    let (server, mut events, session) = Server::with_session(builder()).await;
    server.post(&events, request(7)).await.assert_accepted();
    server.post(&events, request(8)).await.assert_accepted();
    let handle = session.handle();
    handle.close_with_error("the backend said \"no\"");
    let mut told = [events.message().await, events.message().await];
    told.sort();
    assert_eq!(told, [7, 8].map(|id| error(id, -32000, "the backend said \\\"no\\\"")));
    events.assert_ends().await;
    assert_eq!(handle.info().closed, Some(CloseReason::AppEnded));
    handle.close_with_error("too late");
    drop(session);
}

/// Answers one request, and lets go of the session until the next one; counts those that it has answered.
fn answers_one(mut session: Session, before: i64, dropped: Arc<AtomicUsize>) -> BoxFuture<'static, ()> {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    async move {
        let Some(incoming) = session.recv().await else { return };
        let id = incoming.message.id().unwrap().clone();
        let answer = mcp_sse::Message::result(&id, &before).unwrap();
        session.handle().send(answer).await.unwrap();
        let counts = Counts(dropped);
        session.park(move |session| answers_one(session, before + 1, Arc::clone(&counts.0)));
    }
    .boxed()
}

#[tokio::test(start_paused = true)]
async fn an_app_that_lets_go_of_its_session_is_followed_by_another_at_the_next_message() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&dropped);
    let server = Server::with_app(builder(), move |session| answers_one(session, 0, Arc::clone(&counts)));
    let mut events = server.open().await;
    for id in 1..=3 {
        server.post(&events, request(id)).await.assert_accepted();
        assert_eq!(events.message().await, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, id - 1));
    }
    // Several at once: each has its answer, in order.
    for id in 4..=9 {
        server.post(&events, request(id)).await.assert_accepted();
    }
    for id in 4..=9 {
        assert_eq!(events.message().await, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, id - 1));
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 8, "one waits");
    server.handle(&events).close();
    assert!(events.block().await.is_none(), "the stream ends");
    assert_eq!(dropped.load(Ordering::Relaxed), 9, "what waits is dropped with its session");
}
