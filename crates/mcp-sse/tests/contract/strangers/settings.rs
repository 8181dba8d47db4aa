//! The bound on connections, and settings at the ends of their ranges.

use std::time::Duration;

use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

use super::help::{Clock, Raw, serve_as};
use crate::{
    help::{Server, builder, soon},
    logs::Log,
};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn a_full_house_is_in_the_log_once_in_a_while_with_the_setting() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let server = Server::new(builder());
    let address = serve_as(&server, |server| server.max_connections(2)).await;
    let mut first = Raw::connect(address).await;
    let mut second = Raw::connect(address).await;
    for raw in [&mut first, &mut second] {
        raw.say(HEALTH).await;
        soon(raw.hear("ok")).await;
    }
    for _ in 0..20 {
        // It waits until another one ends.
        let mut third = Raw::connect(address).await;
        third.say(HEALTH).await;
        assert!(!third.is_closed(&mut Vec::new()));
        drop(std::mem::replace(&mut first, third));
        soon(first.hear("ok")).await;
    }
    let line = log.line(&["WARN", "all connections are taken"]);
    assert!(line.contains("limit=2") && line.contains("max_connections"), "{line}");
}

#[tokio::test]
async fn half_said_things_do_not_keep_others_out_for_longer_than_their_time() {
    let server = Server::new(builder());
    let address = serve_as(&server, |server| server.max_connections(50)).await;
    let mut strangers = Vec::new();
    for _ in 0..49 {
        let mut raw = Raw::connect(address).await;
        raw.say("PRI * HTTP/2.0\r\n").await;
        strangers.push(raw);
    }
    let clock = Clock::stop(address).await;
    // The last place is the clock's; from here on it is the stranger's, and others wait.
    let mut last = Raw::connect(address).await;
    last.say(HEALTH).await;
    last.hear("ok").await;
    let mut waits = Raw::connect(address).await;
    waits.say(HEALTH).await;
    // The time of a head, and a little for what may still be on its way.
    for _ in 0..35 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    waits.hear("ok").await;
    drop(clock);
}

#[tokio::test]
async fn the_ends_of_every_settings_range_are_settings() {
    let server = Server::new(builder());
    for end in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for connections in [0, usize::MAX] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let http = server.http().max_connections(connections).tcp_user_timeout(end).header_timeout(end);
            let running = tokio::spawn(http.serve(listener, async { drop(stopped.await) }, end));
            let mut raw = Raw::connect(address).await;
            // In two parts, the first of which sets the timer of a head.
            raw.say("GET /sse HTTP/1.1\r\n").await;
            tokio::task::yield_now().await;
            raw.say("Host: nobody\r\n\r\n").await;
            assert!(soon(raw.hear("Invalid Host header")).await.starts_with("HTTP/1.1 421"));
            // By hyper.
            raw.say("PUT /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert!(soon(raw.hear("\r\n\r\n")).await.starts_with("HTTP/1.1 405"));
            stop.send(()).unwrap();
            soon(running).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_time_that_is_too_short_to_be_meant_is_a_second() {
    let server = Server::new(builder());
    let address = serve_as(&server, |server| server.header_timeout(Duration::ZERO)).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET").await;
    let clock = Clock::stop(address).await;
    assert!(!raw.is_closed(&mut Vec::new()));
    let (seconds, _) = clock.until_silent_one_is_closed(&mut raw).await;
    assert!((1..=4).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_time_that_is_too_long_to_be_meant_is_long() {
    let server = Server::new(builder());
    let address = serve_as(&server, |server| server.header_timeout(Duration::MAX)).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET /health HTTP/1.1\r\n").await;
    let mut preface = Raw::connect(address).await;
    preface.say(super::help::PREFACE).await;
    let clock = Clock::stop(address).await;
    tokio::time::advance(Duration::from_secs(20 * 24 * 3600)).await;
    clock.settle().await;
    raw.say("Host: localhost\r\n\r\n").await;
    raw.hear("ok").await;
}
