//! What a bad request gets: the table of the wire contract, and the order of its rows.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use mcp_sse::{ConfigError, TransportSecuritySettings};

use crate::help::{
    Answer, HOST, Server, UNKNOWN, builder, call, empty, endless, full, get, message, notification, post,
    principal, received, request, streamed,
};

const LIMIT: usize = 1000;

/// A POST with all that can be wrong with it.
#[derive(Clone)]
struct Attempt {
    method: Method,
    content_type: &'static str,
    host: &'static str,
    origin: &'static str,
    body: Bytes,
    uri: String,
    /// Whether the body declares its length.
    declared: bool,
}

impl Attempt {
    fn all_wrong(declared: bool) -> Self {
        Self {
            method: Method::PUT,
            content_type: "text/plain",
            host: "evil.com",
            origin: "http://evil.com",
            body: Bytes::from(vec![b'x'; LIMIT + 1]),
            uri: "/messages/".into(),
            declared,
        }
    }

    fn all_right(uri: &str) -> Self {
        Self {
            method: Method::POST,
            content_type: "application/json",
            host: HOST,
            origin: "http://localhost:3000",
            body: notification("m").into(),
            uri: uri.into(),
            declared: true,
        }
    }

    async fn send(&self, server: &Server) -> Answer {
        let head = Request::builder()
            .method(self.method.clone())
            .uri(&self.uri)
            .header(header::CONTENT_TYPE, self.content_type)
            .header(header::HOST, self.host)
            .header(header::ORIGIN, self.origin);
        if self.declared {
            return server.send(full(head, self.body.clone())).await;
        }
        let chunks = self.body.chunks(300).map(Bytes::copy_from_slice).collect();
        server.send(head.body(streamed(chunks)).expect("a request")).await
    }
}

fn server() -> Server {
    Server::new(builder().max_body_bytes(LIMIT))
}

async fn get_from(host: Option<&str>) -> u16 {
    let request = host.into_iter().fold(Request::get("/sse"), |get, host| get.header(header::HOST, host));
    call(&server().connect, empty(request)).await.status().as_u16()
}

#[tokio::test]
async fn each_bad_post_gets_its_status_and_text_and_nothing_else() {
    let server = server();
    let events = server.open().await;
    let with = |change: &dyn Fn(&mut Attempt)| {
        let mut attempt = Attempt::all_right(&events.uri);
        change(&mut attempt);
        attempt
    };
    let rows = [
        (with(&|a| a.method = Method::GET), 405, ""),
        (with(&|a| a.method = Method::DELETE), 405, ""),
        (with(&|a| a.method = Method::OPTIONS), 405, ""),
        (with(&|a| a.content_type = ""), 400, "Invalid Content-Type header"),
        (with(&|a| a.content_type = "application/jsonseq"), 400, "Invalid Content-Type header"),
        (with(&|a| a.host = "evil.com"), 421, "Invalid Host header"),
        (with(&|a| a.origin = "http://evil.com"), 403, "Invalid Origin header"),
        (with(&|a| a.body = vec![b' '; LIMIT + 1].into()), 413, "Request body too large"),
        (with(&|a| a.uri = "/messages/".into()), 400, "session_id is required"),
        (with(&|a| a.uri = "/messages/?session_id=".into()), 400, "session_id is required"),
        (with(&|a| a.uri = "/messages/?session_id=7".into()), 400, "Invalid session ID"),
        (with(&|a| a.uri += "0"), 400, "Invalid session ID"),
        (with(&|a| a.uri = format!("/messages/?session_id={UNKNOWN}")), 404, "Could not find session"),
        (with(&|a| a.body = "{".into()), 400, "Could not parse message"),
        (with(&|a| a.body = "[]".into()), 400, "Could not parse message"),
        (with(&|a| a.body = r#"{"jsonrpc":"1.0","method":"m"}"#.into()), 400, "Could not parse message"),
        (with(&|a| a.body = format!("[{}]", request(1)).into()), 400, "Could not parse message"),
        (with(&|a| a.body = Bytes::new()), 400, "Could not parse message"),
        (with(&|_| ()), 202, "Accepted"),
    ];
    for (attempt, status, text) in rows {
        let answer = attempt.send(&server).await;
        assert_eq!(answer.short(), (status, text));
        let mut headers = http::HeaderMap::new();
        if status == 405 {
            headers.insert("allow", "POST".parse().unwrap());
        } else {
            headers.insert("content-type", "text/plain; charset=utf-8".parse().unwrap());
        }
        assert_eq!(answer.headers, headers, "{status} {text}");
    }
}

#[tokio::test]
async fn a_post_that_fails_several_checks_is_told_the_first_and_has_no_other_effect() {
    for declared in [true, false] {
        let server = server();
        let events = server.open().await;
        let mut attempt = Attempt::all_wrong(declared);
        let right = Attempt::all_right(&events.uri);
        let check = async |attempt: &Attempt, status, text| {
            assert_eq!(attempt.send(&server).await.short(), (status, text), "declared: {declared}");
        };
        check(&attempt, 405, "").await;
        attempt.method = right.method;
        check(&attempt, 400, "Invalid Content-Type header").await;
        attempt.content_type = right.content_type;
        check(&attempt, 421, "Invalid Host header").await;
        attempt.host = right.host;
        check(&attempt, 403, "Invalid Origin header").await;
        attempt.origin = right.origin;
        check(&attempt, 413, "Request body too large").await;
        attempt.body = "{".into();
        check(&attempt, 400, "session_id is required").await;
        attempt.uri = "/messages/?session_id=x".into();
        check(&attempt, 400, "Invalid session ID").await;
        attempt.uri = format!("/messages/?session_id={UNKNOWN}");
        check(&attempt, 404, "Could not find session").await;
        attempt.uri = right.uri;
        check(&attempt, 400, "Could not parse message").await;
        let info = server.handle(&events).info();
        assert_eq!((info.messages_in, info.inbound_queued, info.requests_in_flight), (0, 0, 0));
        assert_eq!(server.sse.session_counts().open, 1);
        server.assert_no_app_was_started();
        attempt.body = right.body;
        check(&attempt, 202, "Accepted").await;
        assert_eq!(received(&mut server.session().await).await, notification("m"));
    }
}

#[tokio::test]
async fn a_streamed_body_over_the_limit_comes_before_any_fault_of_the_session_id() {
    let server = server();
    for uri in ["/messages/", "/messages/?session_id=x", &format!("/messages/?session_id={UNKNOWN}")] {
        let body = streamed(vec![Bytes::from(vec![b' '; LIMIT]), Bytes::from_static(b" ")]);
        let answer = server.send(post(uri).body(body).unwrap()).await;
        assert_eq!(answer.short(), (413, "Request body too large"), "{uri}");
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes() {
    let (server, events, mut session) = Server::with_session(builder().max_body_bytes(LIMIT)).await;
    let json = notification(&"m".repeat(LIMIT - notification("").len()));
    server.post(&events, json.clone()).await.assert_accepted();
    let halves = json.as_bytes().chunks(LIMIT / 2).map(Bytes::copy_from_slice).collect();
    server.send(post(&events.uri).body(streamed(halves)).unwrap()).await.assert_accepted();
    assert_eq!(received(&mut session).await, json);
    assert_eq!(received(&mut session).await, json);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_gets_408() {
    let (server, events, session) =
        Server::with_session(builder().body_timeout(Duration::from_secs(7))).await;
    let request = post(&events.uri).body(endless()).unwrap();
    let (answer, millis) = crate::help::timed(server.send(request)).await;
    assert_eq!(answer.short(), (408, "Request body took too long"));
    assert!((7000..7010).contains(&millis), "{millis}");
    assert_eq!(session.handle().info().inbound_queued, 0);
}

#[tokio::test]
async fn a_post_that_is_accepted_says_so_in_plain_text() {
    let server = server();
    let events = server.open().await;
    let answer = server.post(&events, notification("m")).await;
    answer.assert_accepted();
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn the_content_type_may_be_in_any_case_and_have_parameters() {
    let server = server();
    let events = server.open().await;
    let send = async |values: &[&str]| {
        let head = Request::post(&events.uri).header(header::HOST, HOST);
        let head = values.iter().fold(head, |head, value| head.header(header::CONTENT_TYPE, *value));
        server.send(full(head, notification("m"))).await.status
    };
    for good in
        ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;x"]
    {
        assert_eq!(send(&[good]).await, 202, "{good}");
    }
    for bad in [&["application/json-rpc"][..], &["json"], &[], &["application/json", "application/json"]] {
        assert_eq!(send(bad).await, 400, "{bad:?}");
    }
}

#[tokio::test]
async fn the_accept_header_is_not_checked() {
    let server = server();
    for accept in ["*/*", "application/json", "text/event-stream", "image/png"] {
        assert!(server.try_open(empty(get().header(header::ACCEPT, accept))).await.is_ok());
    }
}

#[tokio::test]
async fn the_session_id_is_a_uuid_in_hex_of_either_case_with_or_without_hyphens() {
    let server = server();
    let events = server.open().await;
    let id = &events.id;
    let upper = id.to_uppercase();
    let hyphens = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    for form in [id, &upper, &hyphens, &format!("{id}&x=y")] {
        let request = full(post(&format!("/messages/?session_id={form}")), notification("m"));
        server.send(request).await.assert_accepted();
    }
    let twice = full(post(&format!("/messages/?session_id={id}&session_id={id}")), notification("m"));
    assert_eq!(server.send(twice).await.short(), (400, "Invalid session ID"));
}

#[tokio::test]
async fn a_request_for_a_stream_is_checked_for_method_host_and_origin_in_this_order() {
    let server = server();
    let bad = |method: Method, host: &str, origin: &str| {
        let head = Request::builder().method(method).uri("/sse").header(header::HOST, host);
        empty(head.header(header::ORIGIN, origin))
    };
    for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::DELETE, Method::PUT] {
        let answer = server.try_open(bad(method, "evil.com", "http://evil.com")).await.unwrap_err();
        assert_eq!(answer.short(), (405, ""));
        assert_eq!(answer.headers.len(), 1);
        assert_eq!(answer.header("allow"), Some("GET"));
    }
    let answer = server.try_open(bad(Method::GET, "evil.com", "http://evil.com")).await.unwrap_err();
    assert_eq!(answer.short(), (421, "Invalid Host header"));
    let answer = server.try_open(bad(Method::GET, HOST, "http://evil.com")).await.unwrap_err();
    assert_eq!(answer.short(), (403, "Invalid Origin header"));
    assert_eq!(server.sse.session_counts().open, 0);
    assert!(server.try_open(bad(Method::GET, HOST, "http://localhost:1")).await.is_ok());
}

// ---- names ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn by_default_only_loopback_names_pass_on_any_port() {
    for good in ["localhost", "localhost:1", "LOCALHOST:65535", "127.0.0.1:80", "[::1]:8080", "[::1]"] {
        assert_eq!(get_from(Some(good)).await, 200, "{good}");
    }
    for bad in [
        "localhost:evil",
        "localhost:80:80",
        "localhost:",
        "localhost:65536",
        "localhost.evil.com",
        "localhost@evil.com",
        "evil.com",
        "evil.com:80",
        "0.0.0.0",
        "127.0.0.2",
        "[::2]:80",
        "[::1]evil",
        "::1",
        "",
    ] {
        assert_eq!(get_from(Some(bad)).await, 421, "{bad}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_refused() {
    assert_eq!(get_from(None).await, 421);
    let server = server();
    let twice = empty(get().header(header::HOST, HOST));
    assert_eq!(server.try_open(twice).await.unwrap_err().short(), (421, "Invalid Host header"));
    let not_ascii = Request::get("/sse").header(header::HOST, &b"localh\xf6st"[..]);
    assert_eq!(server.try_open(empty(not_ascii)).await.unwrap_err().status, 421);
}

#[tokio::test]
async fn over_http2_the_name_stands_in_the_uri() {
    let server = server();
    let from = async |uri: &str, host: Option<&str>| {
        let head = host.into_iter().fold(Request::get(uri), |head, host| head.header(header::HOST, host));
        call(&server.connect, empty(head)).await.status().as_u16()
    };
    assert_eq!(from("http://localhost:8000/sse", None).await, 200);
    assert_eq!(from("http://evil.com/sse", None).await, 421);
    assert_eq!(from("http://localhost:8000/sse", Some(HOST)).await, 200);
    assert_eq!(from("http://evil.com/sse", Some(HOST)).await, 421, "both must pass");
    assert_eq!(from("http://localhost:8000/sse", Some("evil.com")).await, 421, "both must pass");
    assert_eq!(from("http://evil@localhost:8000/sse", None).await, 421, "no user");
}

#[tokio::test]
async fn an_allowed_name_matches_exactly_or_with_any_port() {
    let server = Server::new(
        builder().security(
            TransportSecuritySettings::default()
                .with_allowed_hosts(["mcp.example.com", "a.example.com:81", "[2001:db8::1]:*"])
                .with_allowed_origins(["https://app.example.com", "http://dev:*", "null"]),
        ),
    );
    let from = async |host: &str, origin: Option<&str>| {
        let head = Request::get("/sse").header(header::HOST, host);
        let head = origin.into_iter().fold(head, |head, origin| head.header(header::ORIGIN, origin));
        call(&server.connect, empty(head)).await.status().as_u16()
    };
    for good in ["mcp.example.com", "MCP.example.com", "a.example.com:81", "[2001:DB8:0::1]:9"] {
        assert_eq!(from(good, None).await, 200, "{good}");
    }
    for bad in ["mcp.example.com:80", "a.example.com", "x.mcp.example.com", HOST] {
        assert_eq!(from(bad, None).await, 421, "{bad}");
    }
    for good in ["https://app.example.com", "http://dev", "http://dev:9", "null"] {
        assert_eq!(from("mcp.example.com", Some(good)).await, 200, "{good}");
    }
    for bad in ["http://app.example.com", "https://app.example.com:1", "https://dev:9", "http://dev:x", ""] {
        assert_eq!(from("mcp.example.com", Some(bad)).await, 403, "{bad}");
    }
}

#[tokio::test]
async fn by_default_only_pages_from_loopback_names_pass() {
    let server = server();
    let from = async |origins: &[&str]| {
        let head = origins.iter().fold(get(), |head, origin| head.header(header::ORIGIN, *origin));
        call(&server.connect, empty(head)).await.status().as_u16()
    };
    for good in ["http://localhost:3000", "https://localhost", "http://127.0.0.1:1", "http://[::1]:8080"] {
        assert_eq!(from(&[good]).await, 200, "{good}");
    }
    for bad in ["null", "http://evil.com", "http://localhost:evil", "http://localhost:1/", "localhost:1"] {
        assert_eq!(from(&[bad]).await, 403, "{bad}");
    }
    assert_eq!(from(&["http://localhost", "http://localhost"]).await, 403, "two");
}

#[tokio::test]
async fn without_protection_any_name_passes() {
    let server = Server::new(builder().security(TransportSecuritySettings::dangerously_unprotected()));
    let head =
        Request::get("/sse").header(header::HOST, "evil.com").header(header::ORIGIN, "http://evil.com");
    assert!(server.try_open(empty(head)).await.is_ok());
    assert!(server.try_open(empty(Request::get("/sse"))).await.is_ok());
}

#[test]
fn a_wrong_entry_of_the_lists_is_an_error_that_names_it() {
    let build = |hosts: &[&str], origins: &[&str]| {
        let security = TransportSecuritySettings::default()
            .with_allowed_hosts(hosts.iter().copied())
            .with_allowed_origins(origins.iter().copied());
        builder().security(security).build().unwrap_err()
    };
    assert_eq!(build(&["http://a"], &[]), ConfigError::AllowedHost("http://a".into()));
    assert_eq!(build(&["*"], &[]), ConfigError::AllowedHost("*".into()));
    assert_eq!(build(&[], &["a.com"]), ConfigError::AllowedOrigin("a.com".into()));
    let text = build(&["*.example.com"], &[]).to_string();
    assert!(text.contains("\"*.example.com\"") && text.contains("localhost:*"), "{text}");
}

// ---- principals -----------------------------------------------------------------------------------------

#[tokio::test]
async fn to_anyone_but_its_principal_a_session_does_not_exist() {
    let server = server();
    let (alices, anyones) = (server.open_as("alice").await, server.open().await);
    let head = |uri: &str, name: Option<&str>| {
        name.into_iter().fold(post(uri), |head, name| head.extension(principal(name)))
    };
    let unknown = server.send(full(post(&format!("/messages/?session_id={UNKNOWN}")), request(1))).await;
    unknown.assert_not_found();
    for (uri, name) in [(&alices.uri, Some("bob")), (&alices.uri, None), (&anyones.uri, Some("alice"))] {
        assert_eq!(server.send(full(head(uri, name), request(1))).await, unknown);
    }
    server.assert_no_app_was_started();

    let unknown = server.resume(&format!("{UNKNOWN}:0")).await.unwrap_err();
    unknown.assert_not_found();
    for (events, name) in [(&alices, Some("bob")), (&alices, None), (&anyones, Some("alice"))] {
        let head = get().header("last-event-id", events.position(0));
        let head = name.into_iter().fold(head, |head, name| head.extension(principal(name)));
        assert_eq!(server.try_open(empty(head)).await.unwrap_err(), unknown);
    }

    server.send(full(head(&alices.uri, Some("alice")), request(1))).await.assert_accepted();
    let session = server.session().await;
    assert_eq!(session.handle().principal(), Some(&principal("alice")));
    let (mut alices, mut anyones) = (alices, anyones);
    session.handle().send(message(notification("hers"))).await.unwrap();
    assert_eq!(alices.message().await, notification("hers"));
    anyones.assert_silent();
    let head = get().header("last-event-id", alices.position(1)).extension(principal("alice"));
    assert!(server.try_open(empty(head)).await.is_ok());
}

#[tokio::test]
async fn a_principal_is_text_whoever_made_it_of_what() {
    let server = server();
    let head = get().extension(mcp_sse::Principal::new("alice"));
    let events = server.try_open(empty(head)).await.unwrap();
    let send = async |principal| server.send(full(post(&events.uri).extension(principal), request(1))).await;
    send(mcp_sse::Principal::new("Alice")).await.assert_not_found();
    send(mcp_sse::Principal::new("alice\0")).await.assert_not_found();
    send(mcp_sse::Principal::new(String::from("alice"))).await.assert_accepted();
}
