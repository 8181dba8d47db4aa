//! Who makes room for whom, and what one address may take.

use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use mcp_sse::{ClientIp, CloseReason, SessionHandle};

use crate::help::{Server, builder, empty, get, notification, pass, principal};

const TOO_MANY: &str = "Too many sessions, try again later";
const TOO_MANY_OF_ADDRESS: &str = "Too many sessions from this address, try again later";
/// More than the grace of a silent session.
const GRACE: Duration = Duration::from_secs(5);

fn ip(text: &str) -> ClientIp {
    ClientIp(text.parse().unwrap())
}

fn from(address: &str) -> Request<Empty<bytes::Bytes>> {
    empty(get().extension(ip(address)))
}

fn closed(handles: &[SessionHandle]) -> Vec<usize> {
    let evicted = |handle: &SessionHandle| handle.info().closed == Some(CloseReason::Evicted);
    (0..handles.len()).filter(|&at| evicted(&handles[at])).collect()
}

// ---- silent sessions ------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_client_that_never_said_anything_makes_room_after_a_grace_the_oldest_first() {
    let server = Server::new(builder().max_sessions(2));
    let mut first = server.open().await;
    pass(Duration::from_secs(1)).await;
    let second = server.open().await;
    let handles = [server.handle(&first), server.handle(&second)];
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    assert!(!server.sse.has_room(&Default::default()));
    pass(GRACE - Duration::from_secs(1)).await;
    assert!(server.sse.has_room(&Default::default()));
    let _third = server.open().await;
    assert_eq!(closed(&handles), [0]);
    first.assert_ends().await;
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    pass(GRACE).await;
    let _fourth = server.open().await;
    assert_eq!(closed(&handles), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_said_something_and_is_there_never_makes_room() {
    let server = Server::new(builder().max_sessions(1));
    let (events, session) = server.open_session().await;
    pass(2 * GRACE).await;
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    assert_eq!(session.handle().info().closed, None);
    drop(events);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_refused_says_nothing() {
    let server = Server::new(builder().max_sessions(1));
    let events = server.open().await;
    assert_eq!(server.post(&events, "{").await.status, 400);
    assert_eq!(server.sse.session_counts().silent, 1);
    pass(GRACE).await;
    let next = server.open().await;
    server.post(&events, notification("late")).await.assert_not_found();
    server.post(&next, notification("m")).await.assert_accepted();
    assert_eq!(server.sse.session_counts().silent, 0);
}

#[tokio::test(start_paused = true)]
async fn the_silent_make_room_before_those_whose_clients_are_away() {
    let server = Server::new(builder().max_sessions(3).resume_window(Duration::from_secs(60)));
    let (gone, away) = server.open_session().await;
    let left = server.open().await;
    let silent = server.open().await;
    let handles = [away.handle().clone(), server.handle(&left), server.handle(&silent)];
    drop(gone);
    pass(Duration::from_secs(30)).await;
    drop(left);
    let mut opened = Vec::new();
    for expected in [vec![1], vec![1, 2], vec![0, 1, 2]] {
        opened.push(server.open().await);
        assert_eq!(closed(&handles), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn of_the_silent_the_address_with_most_gives_way_first() {
    let server = Server::new(builder().max_sessions(4));
    let lone = server.try_open(from("192.0.2.1")).await.unwrap();
    pass(Duration::from_secs(1)).await;
    let mut crowd = Vec::new();
    // One network of addresses is one address.
    for address in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
        crowd.push(server.try_open(from(address)).await.unwrap());
        pass(Duration::from_millis(1)).await;
    }
    let handles: Vec<_> = [&lone].into_iter().chain(&crowd).map(|events| server.handle(events)).collect();
    pass(GRACE).await;
    let _new: Vec<_> = [server.open().await, server.open().await].into();
    assert_eq!(closed(&handles), [1, 2]);
    // Now each has one, and the oldest goes.
    let _new = server.open().await;
    assert_eq!(closed(&handles), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn idle_streams_of_one_client_do_not_lock_others_out() {
    let server = Server::new(builder().max_sessions(256));
    let mut idle = Vec::new();
    for _ in 0..256 {
        idle.push(server.open().await);
    }
    pass(GRACE).await;
    for _ in 0..300 {
        let (events, _session) = server.open_session().await;
        server.post(&events, notification("m")).await.assert_accepted();
    }
}

#[tokio::test(start_paused = true)]
async fn the_silent_of_a_principal_make_room_for_its_own() {
    let server = Server::new(builder().max_sessions_per_principal(1));
    let (alices, bobs) = (server.open_as("alice").await, server.open_as("bob").await);
    let handles = [server.handle(&alices), server.handle(&bobs)];
    pass(GRACE).await;
    let _alices = server.open_as("alice").await;
    assert_eq!(closed(&handles), [0]);
    let again = empty(get().extension(principal("alice")));
    server.try_open(again).await.unwrap_err().assert_busy(TOO_MANY);
}

// ---- a bound of their own for silent sessions -------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn silent_sessions_with_a_bound_of_their_own_keep_nobody_out() {
    let server = Server::new(builder().max_sessions(2).max_silent_sessions(4));
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(server.open().await);
    }
    let (_one, _session) = server.open_session().await;
    let (_two, other) = server.open_session().await;
    // No more may speak, so no more are let in; and the silent are not closed for it.
    assert!(!server.sse.has_room(&Default::default()));
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    server.post(&silent[0], notification("m")).await.assert_busy(TOO_MANY);
    pass(GRACE).await;
    server.post(&silent[0], notification("m")).await.assert_busy(TOO_MANY);
    assert_eq!((server.sse.session_counts().open, server.sse.session_counts().silent), (5, 3));
    drop(other);
    server.post(&silent[0], notification("m")).await.assert_accepted();
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_of_silent_sessions_only_they_make_room() {
    let server = Server::new(builder().max_sessions(2).max_silent_sessions(2));
    let (gone, away) = server.open_session().await;
    drop(gone);
    let first = server.open().await;
    pass(Duration::from_millis(1)).await;
    let silent = [first, server.open().await];
    let handles = silent.each_ref().map(|events| server.handle(events));
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    pass(GRACE).await;
    let _new = server.open().await;
    assert_eq!(closed(&handles), [0]);
    assert_eq!(away.handle().info().closed, None);
}

#[tokio::test(start_paused = true)]
async fn a_first_message_makes_a_session_give_way_whose_client_is_away() {
    let server = Server::new(builder().max_sessions(1).max_silent_sessions(2));
    let (gone, away) = server.open_session().await;
    server.try_open(empty(get())).await.unwrap_err().assert_busy(TOO_MANY);
    drop(gone);
    let events = server.open().await;
    assert_eq!(away.handle().info().closed, None, "a stream alone needs no place");
    server.post(&events, notification("m")).await.assert_accepted();
    assert_eq!(away.handle().info().closed, Some(CloseReason::Evicted));
}

// ---- places for sessions of other kinds -------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_place_that_was_out_of_use_for_a_resume_window_makes_room_the_longest_so_first() {
    let window = Duration::from_secs(20);
    let sse = builder().max_sessions(3).resume_window(window).build().unwrap();
    let places: Vec<_> = (0..3).map(|_| sse.reserve_session(&Default::default()).unwrap()).collect();
    assert!(sse.reserve_session(&Default::default()).is_none() && !sse.has_room(&Default::default()));
    places[1].set_in_use(false);
    pass(Duration::from_secs(1)).await;
    places[0].set_in_use(false);
    pass(window - Duration::from_millis(1001)).await;
    assert!(sse.reserve_session(&Default::default()).is_none() && !sse.has_room(&Default::default()));
    pass(Duration::from_secs(2)).await;
    assert!(sse.has_room(&Default::default()));
    let (stream, _session) = sse.connect(&empty(get())).await;
    assert_eq!(stream.status(), 200);
    places[1].evicted().await;
    assert!(!places[1].set_in_use(true), "it is another's now");
    assert!(places[0].set_in_use(true));
    assert!(sse.reserve_session(&Default::default()).is_none());
    drop(places);
    assert!((0..2).map(|_| sse.reserve_session(&Default::default())).collect::<Option<Vec<_>>>().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_place_counts_to_its_address_and_its_principal() {
    let sse = builder().max_sessions_per_address(1).max_sessions_per_principal(2).build().unwrap();
    let client = |address: &str, name: &str| {
        let mut extensions = http::Extensions::new();
        extensions.insert(ip(address));
        extensions.insert(principal(name));
        extensions
    };
    let one = sse.reserve_session(&client("192.0.2.1", "alice")).unwrap();
    assert!(sse.reserve_session(&client("192.0.2.1", "bob")).is_none());
    assert!(!sse.has_room(&client("192.0.2.1", "bob")) && sse.has_room(&Default::default()));
    let two = sse.reserve_session(&client("192.0.2.2", "alice")).unwrap();
    assert!(sse.reserve_session(&client("192.0.2.3", "alice")).is_none());
    drop((one, two));
    assert!(sse.has_room(&client("192.0.2.1", "alice")));
}

// ---- one address ------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn one_address_has_its_own_bound_and_its_endpoint_sessions_make_room_for_it() {
    let server = Server::new(builder().max_sessions_per_address(2));
    let first = server.try_open(from("192.0.2.1")).await.unwrap();
    let other = server.try_open(from("192.0.2.2")).await.unwrap();
    pass(Duration::from_millis(1)).await;
    let second = server.try_open(from("::ffff:192.0.2.1")).await.unwrap();
    let handles = [&first, &other, &second].map(|events| server.handle(events));
    server.try_open(from("192.0.2.1")).await.unwrap_err().assert_busy(TOO_MANY_OF_ADDRESS);
    let _more = server.try_open(from("192.0.2.2")).await.unwrap();
    pass(GRACE).await;
    server.try_open(from("192.0.2.1")).await.unwrap();
    assert_eq!(closed(&handles), [0]);
}

#[tokio::test(start_paused = true)]
async fn loopback_and_addresses_that_are_not_known_have_no_bound() {
    let settings = builder().max_sessions_per_address(1).sessions_per_second_per_address(1);
    let server = Server::new(settings);
    let mut streams = Vec::new();
    for _ in 0..10 {
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            streams.push(server.try_open(from(address)).await.unwrap());
        }
        streams.push(server.open().await);
    }
}

#[tokio::test(start_paused = true)]
async fn one_address_opens_so_many_sessions_a_second() {
    let server = Server::new(builder().sessions_per_second_per_address(2));
    for _ in 0..10 {
        drop(server.try_open(from("192.0.2.1")).await.unwrap());
    }
    server.try_open(from("192.0.2.1")).await.unwrap_err().assert_busy(TOO_MANY_OF_ADDRESS);
    server.try_open(from("192.0.2.2")).await.unwrap();
    pass(Duration::from_millis(500)).await;
    server.try_open(from("192.0.2.1")).await.unwrap();
    server.try_open(from("192.0.2.1")).await.unwrap_err().assert_busy(TOO_MANY_OF_ADDRESS);
}

#[tokio::test]
async fn many_addresses_leave_nothing_behind() {
    let server = Server::new(builder().resume_window(Duration::ZERO).max_sessions_per_address(1));
    for address in 0..1_000_u32 {
        let address = std::net::Ipv4Addr::from(0xc000_0000 | address).to_string();
        drop(server.try_open(from(&address)).await.unwrap());
        drop(server.try_open(from(&address)).await.unwrap());
    }
    assert_eq!(server.sse.session_counts().open, 0);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn the_address_that_axum_knows_is_the_clients() {
    let sse = builder().max_sessions_per_address(1).build().unwrap();
    let from = |address: &str| {
        let peer: std::net::SocketAddr = address.parse().unwrap();
        empty(get().extension(axum::extract::ConnectInfo(peer)))
    };
    let (_stream, _session) = sse.connect(&from("192.0.2.1:1000")).await;
    assert_eq!(sse.connect(&from("192.0.2.1:2000")).await.0.status(), 503);
    // What a layer of the user's says comes first.
    let mut forwarded = from("192.0.2.1:3000");
    forwarded.extensions_mut().insert(ip("198.51.100.1"));
    assert_eq!(sse.connect(&forwarded).await.0.status(), 200);
}
