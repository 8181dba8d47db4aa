//! Where clients are told to post to: the endpoint, and the prefix that it is mounted under.

use http::Request;
use mcp_sse::{Builder, ConfigError, SseServerTransport};

use crate::help::{Events, HOST, Server, builder, empty, full, get, notification, post};

/// What the transport says, without the query.
async fn told(builder: Builder, request: http::request::Builder) -> String {
    let events = Server::new(builder).try_open(empty(request)).await.unwrap();
    events.uri.strip_suffix(&format!("?session_id={}", events.id)).unwrap().to_owned()
}

async fn endpoint(path: &str) -> String {
    told(SseServerTransport::builder(path), get()).await
}

fn forwarded(prefix: &str) -> http::request::Builder {
    get().header("x-forwarded-prefix", prefix)
}

#[tokio::test]
async fn the_endpoint_is_told_as_an_absolute_path_percent_encoded() {
    assert_eq!(endpoint("/messages/").await, "/messages/");
    assert_eq!(endpoint("messages").await, "/messages");
    assert_eq!(endpoint("/a b/ü%").await, "/a%20b/%C3%BC%25");
    assert_eq!(endpoint("/a\"<>\\^`{|}").await, "/a%22%3C%3E%5C%5E%60%7B%7C%7D");
}

#[test]
fn an_endpoint_that_is_no_relative_path_is_refused_with_what_it_is() {
    for (endpoint, what) in [
        ("https://example.com/messages/", "a full URL"),
        ("HTTP://example.com", "a full URL"),
        ("//example.com/messages/", "a network-path reference"),
        ("/\\example.com", "a network-path reference"),
        ("\\\\example.com", "a network-path reference"),
        ("/messages/?a=b", "a path with a query"),
        ("/messages/#a", "a path with a fragment"),
        ("/messages/\r\ndata: x", "a path with control characters"),
        ("/a/../b", "a path with dot segments"),
    ] {
        let error = SseServerTransport::new(endpoint).unwrap_err();
        assert_eq!(error, ConfigError::Endpoint { endpoint: endpoint.to_owned(), why: what });
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("expected a relative path"), "{text}");
    }
}

#[tokio::test]
async fn the_users_mount_prefix_stands_before_the_endpoint() {
    for (prefix, expected) in [
        ("/api", "/api/messages/"),
        ("/api/", "/api/messages/"),
        ("/a/b c", "/a/b%20c/messages/"),
        ("/50%25", "/50%2525/messages/"),
        ("", "/messages/"),
        ("/", "/messages/"),
    ] {
        assert_eq!(told(builder().mount_prefix(prefix), get()).await, expected, "{prefix}");
    }
    for bad in ["api", "//evil.com", "/\\evil.com", "https://evil.com", "/a?b", "/a#b", "/a\nb", "/../a"] {
        let error = builder().mount_prefix(bad).build().unwrap_err();
        assert_eq!(error, ConfigError::MountPrefix(bad.to_owned()));
    }
}

#[tokio::test]
async fn a_forwarded_prefix_counts_only_where_it_is_trusted() {
    assert_eq!(told(builder(), forwarded("/proxy")).await, "/messages/");
    let trusting = || builder().trust_forwarded_prefix(true);
    assert_eq!(told(trusting(), forwarded("/proxy")).await, "/proxy/messages/");
    assert_eq!(told(trusting(), forwarded("/proxy/")).await, "/proxy/messages/");
    assert_eq!(told(trusting(), forwarded("/a%20b")).await, "/a%20b/messages/");
    assert_eq!(told(trusting(), forwarded("/outer, /inner")).await, "/outer/messages/");
    assert_eq!(told(trusting(), get()).await, "/messages/");
    let both = trusting().mount_prefix("/api");
    assert_eq!(told(both, forwarded("/proxy")).await, "/proxy/api/messages/");
}

#[tokio::test]
async fn no_forwarded_prefix_leads_away_from_the_origin() {
    for evil in [
        "//evil.com",
        "///evil.com",
        "https://evil.com",
        "/\\evil.com",
        "\\\\evil.com",
        "evil.com",
        "/..",
        "/a/../..",
        "/x?y",
        "/x#y",
        "/x\ty",
        "@evil.com",
        "/, //evil.com",
    ] {
        let prefix = told(builder().trust_forwarded_prefix(true), forwarded(evil)).await;
        assert_eq!(prefix, "/messages/", "{evil:?}");
    }
    let not_ascii = get().header("x-forwarded-prefix", &b"/\xff"[..]);
    assert_eq!(told(builder().trust_forwarded_prefix(true), not_ascii).await, "/messages/");
    assert!("/x\r\nevil: y".parse::<http::HeaderValue>().is_err(), "no line end gets this far");
}

#[tokio::test]
async fn what_could_end_a_line_or_a_tag_is_percent_encoded() {
    let trusting = builder().trust_forwarded_prefix(true);
    assert_eq!(told(trusting, forwarded("/a<b>\"c%zz%0A")).await, "/a%3Cb%3E%22c%25zz%0A/messages/");
}

#[tokio::test]
async fn a_client_can_post_to_what_it_was_told_whatever_the_path_of_the_service() {
    let server = Server::new(builder().mount_prefix("/elsewhere"));
    let events = server.open().await;
    server.post(&events, notification("m")).await.assert_accepted();
    let path = format!("/?session_id={}", events.id);
    server.send(full(post(&path), notification("m"))).await.assert_accepted();
    let request = Request::get("/any/path").header("host", HOST);
    assert!(server.try_open(empty(request)).await.is_ok());
}

#[cfg(feature = "axum")]
mod in_axum {
    use axum::Router;
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;
    use crate::help::Events;

    fn router(builder: Builder) -> Router {
        builder.build().unwrap().router("/sse", |session| async move { drop(session) })
    }

    /// The prefix that a client of this router is told, after a POST there was accepted.
    async fn told(router: Router, path: &str) -> String {
        let request = empty(Request::get(path).header("host", HOST));
        let response = router.clone().oneshot(request).await.unwrap();
        let events = Events::begin(response).await;
        let response = router.oneshot(full(post(&events.uri), notification("m"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{}", events.uri);
        events.uri.split_once("/messages/").unwrap().0.to_owned()
    }

    #[tokio::test]
    async fn a_nested_router_tells_its_prefix() {
        assert_eq!(told(router(builder()), "/sse").await, "");
        assert_eq!(told(Router::new().nest("/api", router(builder())), "/api/sse").await, "/api");
        let twice = Router::new().nest("/a", Router::new().nest("/b", router(builder())));
        assert_eq!(told(twice, "/a/b/sse").await, "/a/b");
        let named = Router::new().nest("/{tenant}", router(builder()));
        assert_eq!(told(named, "/x%20y/sse").await, "/x%20y");
    }

    #[tokio::test]
    async fn a_nested_prefix_does_not_lead_away_from_the_origin() {
        for path in ["/%2F%2Fevil.com/sse", "/%0d%0aevil/sse", "/https:%2f%2fevil/sse", "/evil.com:80/sse"] {
            let named = Router::new().nest("/{tenant}", router(builder()));
            let request = empty(Request::get(path).header("host", HOST));
            let events = Events::begin(named.oneshot(request).await.unwrap()).await;
            let prefix = path.strip_suffix("/sse").unwrap();
            assert_eq!(events.uri, format!("{prefix}/messages/?session_id={}", events.id));
        }
    }

    #[tokio::test]
    async fn the_users_prefix_takes_the_place_of_the_routers() {
        let server = Server::new(builder().mount_prefix("/mine"));
        let inner = Router::new().route_service("/sse", server.connect.clone());
        let router = Router::new().nest("/api", inner);
        let request = empty(Request::get("/api/sse").header("host", HOST));
        let events = Events::begin(router.oneshot(request).await.unwrap()).await;
        assert_eq!(events.uri, format!("/mine/messages/?session_id={}", events.id));
    }

    #[tokio::test]
    async fn a_trusted_proxys_prefix_stands_before_the_routers() {
        let router = Router::new().nest("/api", router(builder().trust_forwarded_prefix(true)));
        let head = Request::get("/api/sse").header("host", HOST).header("x-forwarded-prefix", "/proxy");
        let events = Events::begin(router.oneshot(empty(head)).await.unwrap()).await;
        assert_eq!(events.uri, format!("/proxy/api/messages/?session_id={}", events.id));
    }

    #[tokio::test]
    async fn the_services_can_be_mounted_as_the_reference_does() {
        let server = Server::new(builder());
        let router = Router::new()
            .route_service("/sse", server.connect.clone())
            .nest_service("/messages/", server.post.clone());
        assert_eq!(told(router, "/sse").await, "");
    }

    #[tokio::test]
    async fn the_wrong_method_is_answered_by_the_transport() {
        for (method, path, allow) in [("POST", "/sse", "GET"), ("GET", "/messages/", "POST")] {
            let request = Request::builder().method(method).uri(path).header("host", HOST);
            let response = router(builder()).oneshot(empty(request)).await.unwrap();
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(response.headers()["allow"], allow);
        }
    }
}

#[tokio::test]
async fn transports_beside_each_other_share_the_bounds_and_not_the_sessions() {
    let git = builder().max_sessions(2).build().unwrap();
    let time = git.with_endpoint("/time/messages/").unwrap();
    let (_git_stream, git_session) = git.connect(&empty(get())).await;
    let (stream, time_session) = time.connect(&empty(get())).await;
    let events = Events::begin(stream).await;
    assert!(events.uri.starts_with("/time/messages/?session_id="), "{}", events.uri);
    assert_eq!((git.session_counts().open, time.session_counts().open), (2, 2));
    assert!(!git.has_room(&Default::default()) && !time.has_room(&Default::default()));
    assert_eq!(git.connect(&empty(get())).await.0.status(), 503);

    // At the other's endpoint a session does not exist.
    let ping = notification("notifications/initialized");
    assert_eq!(time.post(full(post(&events.uri), ping.clone())).await.status(), 202);
    let astray = events.uri.replace("/time", "");
    assert_eq!(git.post(full(post(&astray), ping)).await.status(), 404);
    let resumed = get().header("last-event-id", events.position(0));
    assert_eq!(git.connect(&empty(resumed)).await.0.status(), 404);

    // A transport that is dropped does not take its sessions along; the last one does.
    drop(time);
    let time_session = time_session.unwrap();
    assert_eq!(time_session.handle().info().closed, None);
    assert_eq!(git.shutdown(std::time::Duration::ZERO).await.drained, 2);
    drop((git_session, time_session));
    assert!(matches!(git.with_endpoint("//evil"), Err(ConfigError::Endpoint { .. })));
}

#[tokio::test]
async fn a_place_that_is_taken_for_another_kind_counts_and_the_absent_make_room_for_it() {
    let sse = builder().max_sessions(2).build().unwrap();
    let place = sse.reserve_session(&Default::default()).unwrap();
    let (stream, session) = sse.connect(&empty(get())).await;
    assert_eq!(sse.connect(&empty(get())).await.0.status(), 503);
    assert!(sse.reserve_session(&Default::default()).is_none() && !sse.has_room(&Default::default()));
    drop(stream);
    let other = sse.reserve_session(&Default::default()).unwrap();
    assert_eq!(session.unwrap().handle().closed().await, mcp_sse::CloseReason::Evicted);
    assert!(!sse.has_room(&Default::default()));
    drop((place, other));
    assert_eq!(sse.connect(&empty(get())).await.0.status(), 200);
    sse.shutdown(std::time::Duration::ZERO).await;
    assert!(sse.reserve_session(&Default::default()).is_none());
}
