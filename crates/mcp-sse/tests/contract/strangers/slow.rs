//! Those who take what is sent to them slowly, or not at all.

use std::time::Duration;

use mcp_sse::CloseReason;

use super::help::{Clock, Raw, serve_as};
use crate::help::{Server, builder, message, soon};

/// Sends until the session ends.
async fn fill(server: &Server) {
    let handle = server.sse.sessions().remove(0);
    let large = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(100_000));
    while soon(handle.send(message(large.clone()))).await.is_ok() {}
    assert_eq!(soon(handle.closed()).await, CloseReason::Stalled);
}

#[tokio::test]
async fn an_ended_sessions_stream_that_hyper_serves_ends_though_its_client_takes_nothing() {
    let server = Server::new(builder().stall_timeout(Duration::from_millis(100)));
    let address = serve_as(&server, |server| server).await;
    let mut raw = Raw::connect(address).await;
    // Not a plain request: hyper's.
    raw.say("GET /sse HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, x\r\n\r\n").await;
    soon(raw.hear("\n\n\r\n")).await;
    fill(&server).await;
    let clock = Clock::stop(address).await;
    clock.pass(75).await;
    // What is in the kernel still comes, and then the end: nothing more is to be waited for.
    let mut heard = Vec::new();
    while !raw.is_closed(&mut heard) {
        clock.settle().await;
    }
    assert!(!heard.ends_with(b"0\r\n\r\n"), "no clean end of what was cut");
}

#[tokio::test]
async fn a_large_answer_is_taken_as_slowly_as_its_client_wants() {
    let server = Server::new(builder());
    let large = "x".repeat(8_000_000);
    let answer = large.clone();
    let address = serve_as(&server, |server| {
        server.fallback(
            axum::Router::new()
                .route("/health", axum::routing::get(|| async { "ok" }))
                .route("/large", axum::routing::get(|| async { answer })),
        )
    })
    .await;
    let mut raw = Raw::connect_narrow(address).await;
    raw.say("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(raw.hear("\r\n\r\n")).await;
    let clock = Clock::stop(address).await;
    let mut heard = Vec::new();
    // A megabyte in twenty seconds, and nothing in between.
    while heard.len() < large.len() {
        clock.pass(20).await;
        let until = (heard.len() + 1_000_000).min(large.len());
        while heard.len() < until {
            let mut room = vec![0; until - heard.len()];
            use tokio::io::AsyncReadExt as _;
            let length = raw.0.read(&mut room).await.unwrap();
            assert!(length > 0, "it was cut after {} bytes", heard.len());
            heard.extend_from_slice(&room[..length]);
        }
    }
    assert!(heard == large.as_bytes());
    // And the connection goes on.
    raw.say("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.hear("ok").await;
}

/// Reads this much of what is there or comes.
async fn take(raw: &mut Raw, bytes: usize) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let mut taken = vec![0; bytes];
    raw.0.read_exact(&mut taken).await.expect("it was cut");
    taken
}

#[tokio::test]
async fn a_large_event_is_taken_as_slowly_as_its_client_wants_while_some_of_it_leaves() {
    const LARGE: usize = 6_000_000;
    let server = Server::new(builder().max_outbound_message_bytes(2 * LARGE).outbound_backlog(9, 9 * LARGE));
    let address = serve_as(&server, |server| server).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(raw.hear("\n\n\r\n")).await;
    let handle = server.sse.sessions().remove(0);
    handle.send(message(format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(LARGE)))).await.unwrap();
    let clock = Clock::stop(address).await;
    let mut heard = 0;
    // Far slower than an event in the time of a stall, and never longer silent than that.
    while heard < LARGE {
        clock.pass(20).await;
        heard += take(&mut raw, 500_000.min(LARGE - heard)).await.len();
        clock.settle().await;
        assert_eq!(handle.info().closed, None, "after {heard} bytes");
    }
    // And one that takes nothing any more is not waited for, once the kernel's buffers are full too.
    for _ in 0..4 {
        drop(handle.send(message(format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(LARGE)))));
    }
    // They fill in their own time, in which the clock may have gone on far.
    for _ in 0..10 {
        clock.pass(75).await;
    }
    assert_eq!(handle.info().closed, Some(CloseReason::Stalled));
}
