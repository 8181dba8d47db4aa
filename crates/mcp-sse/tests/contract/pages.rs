//! Pages of other origins: the CORS headers that a browser wants, and who gets none.

use http::{Method, Request};
use http_body_util::BodyExt as _;
use tower::{Layer as _, ServiceExt as _};

use crate::help::{Answer, Server, UNKNOWN, builder, call, empty, full, get, post};

const PAGE: &str = "http://localhost:5173";

fn preflight(origin: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::OPTIONS)
        .uri("/sse")
        .header("host", "localhost:8000")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type, x-own")
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

#[tokio::test]
async fn without_the_setting_there_are_no_cors_headers_and_no_preflights() {
    let server = Server::new(builder());
    let answer = server.send(full(post("/messages/").header("origin", PAGE), "{}")).await;
    assert_eq!((answer.status, allowed(&answer)), (400, None));
    let answer = Answer::read(call(&server.connect, empty(preflight(PAGE))).await).await;
    assert_eq!((answer.status, allowed(&answer)), (405, None));
}

#[tokio::test]
async fn a_page_that_may_use_the_server_is_told_so_with_refusals_too() {
    let server = Server::new(builder().cors(true));
    for answer in [
        Answer::read(call(&server.connect, empty(preflight(PAGE))).await).await,
        server.send(empty(preflight(PAGE))).await,
    ] {
        assert_eq!((answer.status, allowed(&answer)), (204, Some(PAGE)));
        assert_eq!(answer.header("access-control-allow-headers"), Some("content-type, x-own"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST, DELETE"));
    }
    let events = server.try_open(empty(get().header("origin", PAGE))).await.unwrap();
    assert_eq!(events.headers["access-control-allow-origin"], PAGE);
    assert_eq!(events.headers["vary"], "origin");
    let uri = format!("/messages/?session_id={UNKNOWN}");
    let answer = server.send(full(post(&uri).header("origin", PAGE), "{}")).await;
    assert_eq!((answer.status, allowed(&answer)), (404, Some(PAGE)));
    // No page, no headers.
    let answer = server.send(full(post(&uri), "{}")).await;
    assert_eq!((answer.status, allowed(&answer)), (404, None));
}

#[tokio::test]
async fn a_page_that_may_not_is_told_nothing() {
    let server = Server::new(builder().cors(true));
    let evil = "https://evil.example";
    let answer = Answer::read(call(&server.connect, empty(preflight(evil))).await).await;
    assert_eq!((answer.status, allowed(&answer)), (405, None));
    let answer = server.send(full(post("/messages/").header("origin", evil), "{}")).await;
    assert_eq!((answer.status, allowed(&answer)), (403, None));
}

#[tokio::test]
async fn the_guard_checks_for_what_is_served_beside() {
    let server = Server::new(builder().cors(true));
    let beside = tower::service_fn(async |_: Request<()>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::from(
            "mine",
        )))
    });
    let guarded = server.sse.guard().layer(beside);
    let ask = async |request: http::request::Builder| {
        let response = guarded.clone().oneshot(request.body(()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, headers, body) = ask(get().header("origin", PAGE)).await;
    assert_eq!((status, body.as_str()), (200, "mine"));
    assert_eq!(headers["access-control-allow-origin"], PAGE);
    assert_eq!(ask(preflight(PAGE)).await.0, 204);
    let (status, headers, body) = ask(get().header("origin", "https://evil.example")).await;
    assert_eq!((status, body.as_str()), (403, "Invalid Origin header"));
    assert!(!headers.contains_key("access-control-allow-origin"));
    assert_eq!(ask(Request::get("/mcp").header("host", "evil.example")).await.0, 421);
    let (status, headers, body) = ask(get()).await;
    assert_eq!((status, body.as_str(), headers.len()), (200, "mine", 0), "no page asks");
}
