//! Who gets in: an authenticator, what it says of a request, and how that ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Request, StatusCode, request::Parts};
use mcp_sse::{
    Authenticate, Authentication, CloseReason, Denial, Grant, GuardLayer, Principal, Revocation, Session,
    SseServerTransport,
};
use tower::{Layer as _, ServiceExt as _};

use crate::help::{
    Answer, Events, HOST, Server, builder, empty, endless, from_now, full, get, notification, now, post,
    received, request, soon,
};

const ACCEPTED: StatusCode = StatusCode::ACCEPTED;
const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;

/// Lets in those whose header `x-user` has a name of the list.
#[derive(Clone, Default)]
struct Users(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: Mutex<Vec<(&'static str, Revocation)>>,
    asked: AtomicUsize,
    /// Answers come later.
    is_slow: bool,
    /// When what it says expires; after that, it refuses everybody.
    expires: Option<(SystemTime, tokio::time::Instant)>,
}

impl Users {
    fn new(names: &[&'static str]) -> Self {
        Self::with(names, false)
    }

    fn with(names: &[&'static str], is_slow: bool) -> Self {
        Self::of(names, is_slow, None)
    }

    #[cfg(feature = "server")]
    fn expiring(names: &[&'static str], time: Duration) -> Self {
        let expires = (from_now(time), now() + time);
        Self::of(names, false, Some(expires))
    }

    fn of(
        names: &[&'static str],
        is_slow: bool,
        expires: Option<(SystemTime, tokio::time::Instant)>,
    ) -> Self {
        let known = names.iter().map(|name| (*name, Revocation::default())).collect();
        let known = Mutex::new(known);
        Self(Arc::new(Inner { known, asked: AtomicUsize::new(0), is_slow, expires }))
    }

    fn remove(&self, name: &str) {
        let mut known = self.0.known.lock().unwrap();
        let at = known.iter().position(|(other, _)| *other == name).unwrap();
        let (_, revocation) = known.remove(at);
        drop(known);
        revocation.revoke();
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
}

impl Authenticate for Users {
    fn authenticate(&self, head: &Parts) -> Authentication {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let name = head.headers.get("x-user").and_then(|name| name.to_str().ok());
        let known = self.0.known.lock().unwrap();
        let found = known.iter().find(|(known, _)| Some(*known) == name);
        let is_over = self.0.expires.is_some_and(|(_, at)| at <= now());
        let answer = found
            .filter(|_| !is_over)
            .map(|(name, revocation)| {
                let grant = Grant::new(Principal::new(*name)).revocable(revocation);
                if let Some((at, _)) = self.0.expires { grant.expires(at) } else { grant }
            })
            .ok_or_else(|| Denial::unauthorized(HeaderValue::from_static("Bearer realm=\"test\"")));
        if !self.0.is_slow {
            return answer.into();
        }
        Authentication::Pending(Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        }))
    }
}

fn get_as(user: &str) -> http::request::Builder {
    get().header("x-user", user)
}

fn post_as(events: &Events, user: &str) -> http::request::Builder {
    post(&events.uri).header("x-user", user)
}

fn assert_unauthorized(answer: &Answer) {
    assert_eq!(answer.short(), (401, "Unauthorized"));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"test\""));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_gets_nothing_and_a_colleague_nothing_of_another() {
    for users in [Users::new(&["alice", "bob"]), Users::with(&["alice", "bob"], true)] {
        let server = Server::new(builder().authenticate(users));
        for stranger in [get(), get_as("mallory")] {
            assert_unauthorized(&server.try_open(empty(stranger)).await.unwrap_err());
        }
        let events = server.try_open(empty(get_as("alice"))).await.unwrap();
        for stranger in [post(&events.uri), post_as(&events, "mallory")] {
            // Nothing of the body is read: it never comes.
            let refused = server.send(stranger.body(endless()).unwrap()).await;
            assert_unauthorized(&refused);
        }
        let message = notification("m");
        server.send(full(post_as(&events, "bob"), message.clone())).await.assert_not_found();
        let again = |user| empty(get_as(user).header("last-event-id", events.position(0)));
        server.try_open(again("bob")).await.unwrap_err().assert_not_found();
        assert_unauthorized(&server.try_open(again("mallory")).await.unwrap_err());
        server.send(full(post_as(&events, "alice"), message.clone())).await.assert_accepted();
        let mut session = server.session().await;
        let incoming = soon(session.recv()).await.unwrap();
        assert_eq!(incoming.parts().extensions.get(), Some(&Principal::new("alice")));
        assert!(server.try_open(again("alice")).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn names_and_preflights_come_before_it_and_all_else_after() {
    let users = Users::new(&["alice"]);
    let server = Server::new(builder().cors(true).authenticate(users.clone()));
    let page = "http://localhost:5173";
    let status = async |request: Request<http_body_util::Empty<bytes::Bytes>>| {
        server.try_open(request).await.err().map(|answer| answer.status)
    };
    assert_eq!(status(empty(Request::get("/sse").header("host", "evil.example"))).await, Some(421));
    assert_eq!(status(empty(get().header("origin", "https://evil.example"))).await, Some(403));
    let preflight = Request::options("/sse").header("host", HOST).header("origin", page);
    assert_eq!(status(empty(preflight.header("access-control-request-method", "GET"))).await, Some(204));
    assert_eq!(users.asked(), 0);
    // An `OPTIONS` that is none is a request like others.
    assert_eq!(status(empty(Request::options("/sse").header("host", HOST))).await, Some(401));
    assert_eq!(status(empty(Request::delete("/sse").header("host", HOST))).await, Some(401));
    assert_eq!(
        status(empty(Request::delete("/sse").header("host", HOST).header("x-user", "alice"))).await,
        Some(405)
    );
    // A page reads why.
    let refused = server.try_open(empty(get().header("origin", page))).await.unwrap_err();
    assert_unauthorized(&refused);
    assert_eq!(refused.header("access-control-allow-origin"), Some(page));
    assert!(refused.header("access-control-expose-headers").unwrap().contains("www-authenticate"));
    // Neither what is missing nor what is too much is said to a stranger.
    for uri in ["/messages/", "/messages/?session_id=x"] {
        let bare = Request::post(uri).header("host", HOST);
        assert_unauthorized(&server.send(full(bare, "x".repeat(5_000_000))).await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_ends_at_once_and_what_is_not_goes_on() {
    let users = Users::new(&["alice", "bob"]);
    let server = Server::new(builder().authenticate(users.clone()));
    let mut alice = server.try_open(empty(get_as("alice"))).await.unwrap();
    let mut bob = server.try_open(empty(get_as("bob"))).await.unwrap();
    server.send(full(post_as(&bob, "bob"), request(1))).await.assert_accepted();
    let mut session = server.session().await;
    assert_eq!(received(&mut session).await, request(1));
    let handle = server.handle(&bob);
    // It waits for the app, which does not get it any more.
    server.send(full(post_as(&bob, "bob"), request(7))).await.assert_accepted();
    users.remove("bob");
    assert_eq!(handle.closed().await, CloseReason::Unauthorized);
    // What was pending is answered first.
    for _ in 0..2 {
        assert!(bob.message().await.contains("no longer authorized"));
    }
    bob.assert_ends().await;
    assert!(session.recv().await.is_none());
    assert_unauthorized(&server.send(full(post_as(&bob, "bob"), request(2))).await);
    alice.assert_silent();
    server.send(full(post_as(&alice, "alice"), request(1))).await.assert_accepted();
}

/// Lets in whoever says who they are and for how many seconds that holds, as in `alice 4`.
struct Tokens(Duration);

impl Authenticate for Tokens {
    fn authenticate(&self, head: &Parts) -> Authentication {
        let token = head.headers.get("x-user").and_then(|token| token.to_str().ok()).unwrap_or_default();
        let (name, seconds) = token.split_once(' ').unwrap();
        let at = from_now(Duration::from_secs(seconds.parse().unwrap()));
        Ok(Grant::new(Principal::new(name)).expires(at).with_grace(self.0)).into()
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_until_the_newest_grant_has_expired_and_a_while_longer() {
    for grace in [0, 60] {
        let server = Server::new(
            builder().keep_alive(Duration::ZERO).authenticate(Tokens(Duration::from_secs(grace))),
        );
        let mut events = server.try_open(empty(get_as("alice 30"))).await.unwrap();
        let start = now();
        let handle = server.handle(&events);
        tokio::time::sleep(Duration::from_secs(20)).await;
        // Bob's does not count, nor does one that ends earlier.
        let message = notification("m");
        server.send(full(post_as(&events, "bob 1000"), message.clone())).await.assert_not_found();
        server.send(full(post_as(&events, "alice 100"), message.clone())).await.assert_accepted();
        server.send(full(post_as(&events, "alice 5"), message.clone())).await.assert_accepted();
        server.send(full(post_as(&events, "alice 5"), request(1))).await.assert_accepted();
        assert_eq!(handle.closed().await, CloseReason::Expired);
        let lived = (now() - start).as_secs();
        assert!((120 + grace - 1..=120 + grace).contains(&lived), "{lived}");
        assert!(events.message().await.contains("has expired"));
        events.assert_ends().await;
        server.send(full(post_as(&events, "alice 5"), message)).await.assert_not_found();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_away_does_not_outlive_its_grant() {
    let server =
        Server::new(builder().resume_window(Duration::from_secs(100)).authenticate(Tokens(Duration::ZERO)));
    let events = server.try_open(empty(get_as("alice 30"))).await.unwrap();
    let (handle, position) = (server.handle(&events), events.position(0));
    drop(events);
    let again = |seconds: u64| {
        let user = format!("alice {seconds}");
        empty(get_as(&user).header("last-event-id", position.clone()))
    };
    tokio::time::sleep(Duration::from_secs(29)).await;
    drop(server.try_open(again(20)).await.unwrap());
    assert_eq!(handle.closed().await, CloseReason::Expired);
    server.try_open(again(20)).await.unwrap_err().assert_not_found();
}

#[tokio::test(start_paused = true)]
async fn a_layer_in_front_is_as_good_as_an_authenticator() {
    let users = Users::new(&["alice", "bob"]);
    let layer = GuardLayer::authenticate(users.clone());
    let sse = builder().build().unwrap();
    let connect = layer.layer(
        sse.connect_sse(|mut session: Session| async move { while session.recv().await.is_some() {} }),
    );
    let post = layer.layer(sse.handle_post_message());
    let refused = connect.clone().oneshot(empty(get())).await.unwrap();
    assert_unauthorized(&Answer::read(refused).await);
    // The names are still the transport's.
    let elsewhere = Request::get("/sse").header("host", "evil.example").header("x-user", "alice");
    assert_eq!(connect.clone().oneshot(empty(elsewhere)).await.unwrap().status(), 421);
    let stream = connect.oneshot(empty(get_as("alice"))).await.unwrap();
    assert_eq!(stream.status(), 200);
    let [handle] = &sse.sessions()[..] else { panic!("one session") };
    let uri = format!("/messages/?session_id={}", handle.id().expose_hex());
    let say = async |user: &str| {
        let request = http::Request::post(&uri)
            .header("host", HOST)
            .header("content-type", "application/json")
            .header("x-user", user);
        post.clone().oneshot(full(request, notification("m"))).await.unwrap().status()
    };
    assert_eq!((say("alice").await, say("bob").await, say("eve").await), (ACCEPTED, NOT_FOUND, UNAUTHORIZED));
    users.remove("alice");
    assert_eq!(handle.closed().await, CloseReason::Unauthorized);
    assert_eq!(say("alice").await, UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn an_authenticator_may_say_that_it_is_not_enough_or_not_known_now() {
    struct Other(Denial);
    impl Authenticate for Other {
        fn authenticate(&self, _: &Parts) -> Authentication {
            Err(self.0.clone()).into()
        }
    }
    let challenge = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
    let server = Server::new(builder().authenticate(Other(Denial::forbidden(challenge))));
    let refused = server.try_open(empty(get())).await.unwrap_err();
    assert_eq!(refused.short(), (403, "Forbidden"));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"insufficient_scope\""));
    for (time, header) in [(Duration::ZERO, "1"), (Duration::from_secs(7), "7")] {
        let server = Server::new(builder().authenticate(Other(Denial::unavailable(time))));
        let refused = server.try_open(empty(get())).await.unwrap_err();
        assert_eq!(refused.short(), (503, "Service Unavailable"));
        assert_eq!((refused.header("retry-after"), refused.header("www-authenticate")), (Some(header), None));
    }
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_may_have_its_own() {
    let sse = builder().authenticate(Users::new(&["alice"])).build().unwrap();
    let other = sse.with_endpoint("/other/").unwrap().with_authentication(Users::new(&["bob"]));
    let inherits = sse.with_endpoint("/more/").unwrap();
    let status =
        async |sse: &SseServerTransport, user: &str| sse.connect(&empty(get_as(user))).await.0.status();
    assert_eq!(
        (status(&sse, "alice").await, status(&sse, "bob").await),
        (200.try_into().unwrap(), 401.try_into().unwrap())
    );
    assert_eq!(
        (status(&other, "alice").await, status(&other, "bob").await),
        (401.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(
        (status(&inherits, "alice").await, status(&inherits, "bob").await),
        (200.try_into().unwrap(), 401.try_into().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn the_guard_of_other_services_asks_it_too() {
    for users in [Users::new(&["alice"]), Users::with(&["alice"], true)] {
        let sse = builder().authenticate(users).build().unwrap();
        let behind = tower::service_fn(|request: Request<String>| async move {
            let extensions = request.extensions();
            assert!(extensions.get::<Grant>().is_some_and(Grant::is_valid));
            let name = extensions.get::<Principal>().unwrap().as_str().to_owned();
            Ok::<_, std::convert::Infallible>(http::Response::new(name))
        });
        let ask = async |request: http::request::Builder| {
            let guarded = sse.guard().layer(behind);
            Answer::read(guarded.oneshot(request.body(String::new()).unwrap()).await.unwrap()).await
        };
        assert_unauthorized(&ask(get()).await);
        assert_eq!(ask(get_as("alice")).await.short(), (200, "alice"));
        assert_eq!(
            ask(Request::get("/").header("host", "evil.example").header("x-user", "alice")).await.status,
            421
        );
    }
}

#[cfg(feature = "server")]
mod on_sockets {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn serve(server: &Server) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.http().serve(listener, std::future::pending(), std::time::Duration::ZERO));
        TcpStream::connect(address).await.unwrap()
    }

    fn raw_post(uri: &str, user: &str, json: &str) -> String {
        let length = json.len();
        format!(
            "POST {uri} HTTP/1.1\r\nHost: localhost\r\nX-User: {user}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
        )
    }

    /// The status of the answer, which is read with its body.
    async fn status(socket: &mut TcpStream) -> u16 {
        let mut heard = String::new();
        while !heard.ends_with("\r\n\r\n") {
            heard.push(char::from(soon(socket.read_u8()).await.unwrap()));
        }
        let length = heard.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        socket.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
        heard[9..12].parse().unwrap()
    }

    #[tokio::test]
    async fn a_head_that_is_known_is_not_asked_about_again_until_its_grant_is_revoked() {
        let users = Users::new(&["alice", "bob"]);
        let server = Server::new(builder().authenticate(users.clone()));
        let mut socket = serve(&server).await;
        let events = server.try_open(empty(get_as("alice"))).await.unwrap();
        let say = async |socket: &mut TcpStream, user: &str| {
            let post = raw_post(&events.uri, user, &notification("m"));
            socket.write_all(post.as_bytes()).await.unwrap();
            status(socket).await
        };
        assert_eq!(say(&mut socket, "alice").await, 202);
        let before = users.asked();
        for _ in 0..5 {
            assert_eq!(say(&mut socket, "alice").await, 202);
        }
        assert_eq!(users.asked(), before);
        // Another head on the same connection is another client.
        assert_eq!(say(&mut socket, "bob").await, 404);
        assert_eq!(say(&mut socket, "nobody").await, 401);
        assert_eq!(say(&mut socket, "alice").await, 202);
        users.remove("alice");
        assert_eq!(say(&mut socket, "alice").await, 401);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_known_is_refused_once_its_grant_has_expired() {
        let users = Users::expiring(&["alice"], Duration::from_secs(4));
        let server = Server::new(builder().authenticate(users.clone()));
        let mut socket = serve(&server).await;
        let events = server.try_open(empty(get_as("alice"))).await.unwrap();
        let say = async |socket: &mut TcpStream| {
            let post = raw_post(&events.uri, "alice", &notification("m"));
            socket.write_all(post.as_bytes()).await.unwrap();
            status(socket).await
        };
        assert_eq!((say(&mut socket).await, say(&mut socket).await), (202, 202));
        let before = users.asked();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(say(&mut socket).await, 401);
        assert_eq!(users.asked(), before + 1);
    }

    #[tokio::test]
    async fn whoever_has_to_be_asked_is_asked_for_plain_requests_too() {
        let users = Users::with(&["alice"], true);
        let server = Server::new(builder().authenticate(users));
        let mut socket = serve(&server).await;
        let events = server.try_open(empty(get_as("alice"))).await.unwrap();
        for (user, expected) in [("alice", 202), ("alice", 202), ("nobody", 401), ("alice", 202)] {
            socket.write_all(raw_post(&events.uri, user, &notification("m")).as_bytes()).await.unwrap();
            assert_eq!(status(&mut socket).await, expected);
        }
        let mut session = server.session().await;
        for _ in 0..3 {
            assert_eq!(soon(received(&mut session)).await, notification("m"));
        }
    }

    #[tokio::test]
    async fn a_stranger_is_answered_before_its_body_is_read() {
        let server = Server::new(builder().authenticate(Users::new(&["alice"])));
        for body in ["content-length: 1000000", "content-length: 10", "transfer-encoding: chunked"] {
            let mut socket = serve(&server).await;
            let head = format!("POST /messages/ HTTP/1.1\r\nhost: localhost\r\n{body}\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            assert_eq!(status(&mut socket).await, 401, "{body}");
        }
    }
}
