//! Those who announce a body and do not send it; and endpoints that are gone.

use super::help::{Clock, Raw, serve, serve_as};
use crate::help::{Http, Server, UNKNOWN, builder, notification, soon};

fn post(uri: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {uri} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_whatever_its_length() {
    let server = Server::new(builder().body_timeout(std::time::Duration::from_secs(10)));
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let unknown = format!("/messages/?session_id={UNKNOWN}");
    let mut strangers = Vec::new();
    for uri in [&events.uri, &unknown] {
        for length in [2, 100, 60_000, 100_000] {
            for missing in [1, length] {
                let request = post(uri, &"x".repeat(length));
                let mut raw = Raw::connect(address).await;
                raw.say(&request[..request.len() - missing]).await;
                strangers.push(raw);
            }
        }
    }
    let clock = Clock::stop(address).await;
    clock.pass(9).await;
    for raw in &strangers {
        assert!(!raw.is_closed(&mut Vec::new()));
    }
    clock.pass(5).await;
    for raw in &mut strangers {
        let mut heard = Vec::new();
        raw.is_closed(&mut heard);
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{heard}");
        assert!(heard.ends_with("\r\n\r\nRequest body took too long"), "{heard}");
    }
}

#[tokio::test]
async fn a_body_that_trickles_in_has_no_more_time_than_another() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut raw = Raw::connect(address).await;
    // The second one's head is known.
    let first = post(&events.uri, &notification("m"));
    raw.say(&first).await;
    raw.hear("Accepted").await;
    raw.say(&first[..first.len() - notification("m").len()]).await;
    let clock = Clock::stop(address).await;
    let trickle = async |raw: &mut Raw, second: u32| {
        if second.is_multiple_of(3) {
            raw.say("{").await;
        }
    };
    let (seconds, heard) = clock.until_closed(&mut raw, trickle).await;
    assert!((29..=36).contains(&seconds), "{seconds}");
    assert!(heard.ends_with(b"Request body took too long"));
}

#[tokio::test]
async fn a_head_and_its_body_may_come_apart() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut raw = Raw::connect(address).await;
    for id in 1..=5 {
        let body = crate::help::request(id * 1000);
        let request = post(&events.uri, &body);
        raw.say(&request[..request.len() - body.len()]).await;
        tokio::task::yield_now().await;
        raw.say(&body).await;
        soon(raw.hear("\r\n\r\nAccepted")).await;
    }
    let mut session = server.session().await;
    for id in 1..=5 {
        assert_eq!(crate::help::received(&mut session).await, crate::help::request(id * 1000));
    }
}

/// A notification of about this many bytes.
fn large(bytes: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"x":"{}"}}}}"#, "x".repeat(bytes))
}

#[tokio::test]
async fn a_large_body_arrives_whole_however_it_is_cut_and_what_follows_it_is_read() {
    let server = Server::new(builder());
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut raw = Raw::connect(address).await;
    let mut expected = Vec::new();
    for (bytes, part) in
        [(60_000, 50_000), (66_000, 7_001), (66_000, 66_000), (300_000, 65_536), (3_000, 999)]
    {
        let body = large(bytes);
        let requests = format!("{}{}", post(&events.uri, &body), post(&events.uri, &notification("m")));
        for part in requests.as_bytes().chunks(part) {
            raw.say(part).await;
            tokio::task::yield_now().await;
        }
        soon(raw.hear("\r\n\r\nAccepted")).await;
        soon(raw.hear("\r\n\r\nAccepted")).await;
        expected.extend([body, notification("m")]);
    }
    let mut session = server.session().await;
    for body in expected {
        assert!(crate::help::received(&mut session).await == body);
    }
}

#[tokio::test]
async fn a_large_body_for_which_there_is_no_room_is_not_read() {
    let limited = builder().inbound_queue(8, 150_000).queue_timeout(std::time::Duration::from_millis(1));
    let server = Server::new(limited);
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let (mut first, mut second) = (Raw::connect(address).await, Raw::connect(address).await);
    let request = post(&events.uri, &large(100_000));
    // What is announced has its room before it arrives.
    let (begun, rest) = request.split_at(request.len() - 50_000);
    first.say(begun).await;
    soon(async {
        while server.sse.sessions()[0].info().inbound_queued == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    second.say(&request[..request.len() - 100_000]).await;
    let head = soon(second.hear("\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("connection: close"), "{head}");
    soon(async {
        while !second.is_closed(&mut Vec::new()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The first one's room is still there.
    first.say(rest).await;
    soon(first.hear("\r\n\r\nAccepted")).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_before_it_arrives() {
    let server = Server::new(builder().max_body_bytes(70_000));
    let address = serve(&server).await;
    let events = Http::open(address).await;
    let mut raw = Raw::connect(address).await;
    // The second one's head is known.
    let first = post(&events.uri, &notification("m"));
    raw.say(&first).await;
    raw.hear("\r\n\r\nAccepted").await;
    let request = post(&events.uri, &large(70_000));
    raw.say(&request[..1000]).await;
    let head = soon(raw.hear("\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
}

#[tokio::test]
async fn an_endpoint_that_is_gone_takes_nothing_more_on_connections_that_are_open() {
    let server = Server::new(builder());
    let mut routes = None;
    let address = serve_as(&server, |server| {
        routes = Some(server.routes());
        server
    })
    .await;
    let routes = routes.unwrap();
    let events = Http::open(address).await;
    let request = post(&events.uri, &notification("m"));
    let answer = async |raw: &mut Raw| {
        raw.say(&request).await;
        let head = soon(raw.hear("\r\n\r\n")).await;
        head[9..12].to_owned()
    };
    let (mut raw, mut other) = (Raw::connect(address).await, Raw::connect(address).await);
    for raw in [&mut raw, &mut other] {
        assert_eq!(answer(raw).await, "202");
        raw.hear("Accepted").await;
    }
    // Another endpoint's transport in its place: the session does not exist there.
    routes.messages("/messages/", Server::new(builder()).post.clone());
    assert_eq!(answer(&mut raw).await, "404");
    raw.hear("Could not find session").await;
    assert!(routes.remove("/messages/"));
    assert_eq!(answer(&mut raw).await, "404");
    assert_eq!(answer(&mut other).await, "404");

    // And back again.
    routes.messages("/messages/", server.post.clone());
    let mut raw = Raw::connect(address).await;
    assert_eq!(answer(&mut raw).await, "202");
}
