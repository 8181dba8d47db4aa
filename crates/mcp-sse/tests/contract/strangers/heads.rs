//! Those who say half a head, or nothing.

use super::help::{Clock, PREFACE, Raw, serve, serve_as};
use crate::help::{Server, builder};

const POST: &str = "POST /messages/?session_id=0123456789abcdef0123456789abcdef HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

#[tokio::test]
async fn every_beginning_of_an_http2_preface_has_the_time_of_a_head() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut strangers = Vec::new();
    for end in 1..PREFACE.len() {
        let mut raw = Raw::connect(address).await;
        raw.say(&PREFACE[..end]).await;
        strangers.push(raw);
    }
    let clock = Clock::stop(address).await;
    clock.pass(29).await;
    for raw in &strangers {
        assert!(!raw.is_closed(&mut Vec::new()));
    }
    clock.pass(2).await;
    for (raw, said) in strangers.iter().zip(1..) {
        assert!(raw.is_closed(&mut Vec::new()), "the first {said} bytes of the preface");
    }
}

#[tokio::test]
async fn every_beginning_of_a_head_has_its_time_and_is_told_so() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let head = POST.len() - 2;
    let mut strangers = Vec::new();
    for end in (1..head).step_by(7) {
        let mut raw = Raw::connect(address).await;
        raw.say(&POST[..end]).await;
        strangers.push(raw);
    }
    let clock = Clock::stop(address).await;
    clock.pass(29).await;
    let mut heard = Vec::new();
    for raw in &strangers {
        assert!(!raw.is_closed(&mut heard));
    }
    assert_eq!(heard, b"");
    clock.pass(5).await;
    for raw in &strangers {
        let mut heard = Vec::new();
        assert!(raw.is_closed(&mut heard));
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{heard}");
        assert!(heard.contains("connection: close\r\n"), "{heard}");
        assert!(heard.ends_with("\r\n\r\nRequest head took too long"), "{heard}");
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_has_no_more_time_than_another() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say("G").await;
    let clock = Clock::stop(address).await;
    let trickle = async |raw: &mut Raw, second| raw.say(&POST[second as usize % 50..][..1]).await;
    let (seconds, _) = clock.until_closed(&mut raw, trickle).await;
    assert!((29..=33).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_head_that_trickles_in_behind_the_handover_has_no_more_time_than_another() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    raw.say("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.hear("ok").await;
    let clock = Clock::stop(address).await;
    clock.pass(20).await;
    let trickle = async |raw: &mut Raw, second| raw.say(&POST[second as usize % 50..][..1]).await;
    let (seconds, _) = clock.until_closed(&mut raw, trickle).await;
    assert!((29..=33).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_said_ends_after_a_minute() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let mut raw = Raw::connect(address).await;
    let clock = Clock::stop(address).await;
    let (seconds, heard) = clock.until_silent_one_is_closed(&mut raw).await;
    assert!((59..=62).contains(&seconds) && heard.is_empty(), "{seconds} {heard}");
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_ends_when_it_is_idle() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    // One that is served here, and one that was handed over.
    for request in [POST, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut raw = Raw::connect(address).await;
        raw.say(request).await;
        raw.hear(if request == POST { "Could not find session" } else { "ok" }).await;
        let clock = Clock::stop(address).await;
        let (seconds, heard) = clock.until_silent_one_is_closed(&mut raw).await;
        assert!((58..=122).contains(&seconds) && heard.is_empty(), "{seconds} {heard}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_time_of_a_head_is_a_setting() {
    let server = Server::new(builder());
    let address = serve_as(&server, |server| server.header_timeout(std::time::Duration::from_secs(5))).await;
    let mut here = Raw::connect(address).await;
    here.say("GET /").await;
    let mut preface = Raw::connect(address).await;
    preface.say(PREFACE).await;
    let mut handed_over = Raw::connect(address).await;
    handed_over.say("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    handed_over.hear("ok").await;
    handed_over.say("GET /").await;
    let clock = Clock::stop(address).await;
    clock.pass(4).await;
    for raw in [&here, &preface, &handed_over] {
        assert!(!raw.is_closed(&mut Vec::new()));
    }
    clock.pass(8).await;
    for raw in [&here, &preface, &handed_over] {
        assert!(raw.is_closed(&mut Vec::new()));
    }
}

#[tokio::test]
async fn a_head_over_its_bound_is_refused_wherever_it_is_read() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let large = |path: &str, bytes: usize| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n", "x".repeat(bytes))
    };
    for (request, status) in [
        (large("/health", 15_000), "200"),
        (large("/health", 17_000), "431"),
        (large("/sse", 15_000), "200"),
        (large("/sse", 17_000), "431"),
        (large("/sse", 60_000), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(17_000)), "431"),
        (format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(90)), "200"),
        (format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(200)), "431"),
    ] {
        for behind_another in [false, true] {
            let mut raw = Raw::connect(address).await;
            if behind_another {
                raw.say("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                raw.hear("ok").await;
            }
            raw.say(&request).await;
            let answer = crate::help::soon(raw.hear("\r\n\r\n")).await;
            assert_eq!(&answer[9..12], status, "{} {}", request.len(), &request[..20]);
        }
    }
}
