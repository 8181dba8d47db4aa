//! Several replicas: what a transport asks of its backplane, and what clients see. The backplane here calls the others
//! directly; `mcp-sse-cluster` has real ones, and tests of what these can lose.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use mcp_sse::{
    Authenticate, Authentication, Backplane, Body, ClientIp, Denial, Forwarded, Grant, Host, NotForwarded,
    Principal, ReplicaId, SseServerTransport,
};

use crate::help::{
    Answer, Events, HOST, Server, UNKNOWN, builder, call, empty, endless, full, get, message, notification,
    post, principal, received, request, result, streamed,
};

type Hosts = HashMap<(ReplicaId, &'static str), Weak<dyn Host>>;

/// What all replicas of a test share.
#[derive(Clone, Default)]
struct Net {
    hosts: Arc<Mutex<Hosts>>,
    /// What becomes of requests, instead of an answer.
    fails: Arc<Mutex<Option<NotForwarded>>>,
    carried: Arc<Mutex<Vec<(String, Forwarded)>>>,
}

struct Direct {
    id: ReplicaId,
    net: Net,
}

impl Net {
    fn at(&self, name: &str) -> Arc<Direct> {
        Arc::new(Direct { id: ReplicaId::new(name).unwrap(), net: self.clone() })
    }
}

impl Backplane for Direct {
    fn id(&self) -> &ReplicaId {
        &self.id
    }

    fn replicas(&self) -> Vec<ReplicaId> {
        let hosts = self.net.hosts.lock().unwrap();
        let mut all: Vec<_> = hosts.keys().map(|(id, _)| id.clone()).filter(|id| *id != self.id).collect();
        all.sort();
        all.dedup();
        all
    }

    fn bind(&self, service: &'static str, host: Weak<dyn Host>) {
        self.net.hosts.lock().unwrap().insert((self.id.clone(), service), host);
    }

    fn forward(
        &self,
        to: &ReplicaId,
        service: &'static str,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, NotForwarded>> + Send + '_>> {
        let forwarded = request.extensions().get::<Forwarded>().cloned().unwrap();
        self.net.carried.lock().unwrap().push((request.uri().to_string(), forwarded));
        let fails = *self.net.fails.lock().unwrap();
        let host = self.net.hosts.lock().unwrap().get(&(to.clone(), service)).and_then(Weak::upgrade);
        Box::pin(async move {
            match (fails, host) {
                (Some(why), _) => Err(why),
                (None, None) => Err(NotForwarded::Gone),
                (None, Some(host)) => Ok(host.answer(request).await),
            }
        })
    }
}

fn two() -> (Net, Server, Server) {
    let net = Net::default();
    let server = |name| Server::new(builder().backplane(net.at(name)));
    let (here, there) = (server("here"), server("there"));
    (net, here, there)
}

/// The part of a URI that says where a session is.
fn at(events: &Events) -> &str {
    events.uri.split("&at=").nth(1).unwrap()
}

/// The session's id without that.
fn id(events: &Events) -> &str {
    events.id.split('&').next().unwrap()
}

fn last(events: &Events, sequence: u64) -> String {
    format!("{}:{sequence}:{}", id(events), at(events))
}

async fn posted(server: &Server, uri: &str, body: &str) -> Answer {
    Answer::read(server.sse.post(full(post(uri), body.to_owned())).await).await
}

#[tokio::test]
async fn the_endpoint_and_the_ids_of_events_say_where_the_session_is() {
    let (_net, here, there) = two();
    let mut events = there.open().await;
    assert!(at(&events).starts_with("there."), "{}", events.uri);
    assert!(events.endpoint.contains(&format!("id: {}\n", last(&events, 0))), "{}", events.endpoint);
    let mut session = there.start(&events).await;
    session.handle().send(message(notification("x"))).await.unwrap();
    let block = events.block().await.unwrap();
    assert!(block.contains(&format!("id: {}\n", last(&events, 1))), "{block}");
    posted(&here, &events.uri, &request(1)).await.assert_accepted();
    assert_eq!(received(&mut session).await, request(1));
}

#[tokio::test]
async fn the_host_answers_and_its_answer_is_the_answer() {
    let (_net, here, there) = two();
    let events = there.open().await;
    let _session = there.start(&events).await;
    let duplicate = request(1);
    posted(&here, &events.uri, &duplicate).await.assert_accepted();
    for (uri, body) in [
        (events.uri.clone(), "{".to_owned()),
        (events.uri.clone(), duplicate),
        (events.uri.replace(id(&events), UNKNOWN), request(2)),
        (events.uri.replace("session_id", "x"), request(2)),
    ] {
        let [at_host, elsewhere] = [posted(&there, &uri, &body).await, posted(&here, &uri, &body).await];
        assert!(at_host.status >= 400);
        assert_eq!(elsewhere, at_host);
    }
}

#[tokio::test]
async fn what_is_not_answered_has_an_answer_that_says_whether_it_may_have_been_taken() {
    let (net, here, there) = two();
    let events = there.open().await;
    for (why, status, retries) in [
        (NotForwarded::Gone, 404, None),
        (NotForwarded::Unavailable, 503, Some("1")),
        (NotForwarded::Unknown, 504, None),
    ] {
        *net.fails.lock().unwrap() = Some(why);
        let answer = posted(&here, &events.uri, &request(1)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, retries), "{why}");
        // A browser gives up on anything but 200, so it hears when to come again.
        let resumed = call(&here.connect, empty(get().header("last-event-id", last(&events, 0)))).await;
        let resumed = Answer::read(resumed).await;
        if why == NotForwarded::Gone {
            assert_eq!(resumed.status, 404);
        } else {
            assert_eq!((resumed.status, &*resumed.body), (200, "retry: 1000\n\n"), "{why}");
            assert_eq!(resumed.header("content-type"), Some("text/event-stream; charset=utf-8"));
        }
    }
}

#[tokio::test]
async fn nothing_is_forwarded_that_is_refused_here_or_names_no_other_replica() {
    let (net, here, there) = two();
    let events = there.open().await;
    let (uri, at) = events.uri.split_once("&at=").unwrap();
    for (uri, status) in [
        (uri.to_owned(), 404),
        (format!("{uri}&at="), 404),
        (format!("{uri}&at={}", at.to_uppercase()), 404),
        (format!("{uri}&at={at}x"), 404),
        (format!("{uri}&at=%74{}", &at[1..]), 404),
        (events.uri.replace("session_id=", "session_id=x"), 400),
    ] {
        assert_eq!(posted(&here, &uri, &request(1)).await.status, status, "{uri}");
    }
    let wrong_host = Request::post(&events.uri).header("host", "evil.example");
    let wrong_host = full(wrong_host.header("content-type", "application/json"), request(1));
    assert_eq!(here.sse.post(wrong_host).await.status(), 421);
    let wrong_type = full(Request::post(&events.uri).header("host", HOST), request(1));
    assert_eq!(here.sse.post(wrong_type).await.status(), 400);
    assert!(net.carried.lock().unwrap().is_empty());
    // Nor is what was forwarded forwarded again.
    let mut again = full(post(&events.uri), request(1)).map(|_| Bytes::from(request(1)));
    again.extensions_mut().insert(Forwarded::new());
    let host = net
        .hosts
        .lock()
        .unwrap()
        .iter()
        .find(|((id, service), _)| id.name() == "here" && *service == "sse")
        .unwrap()
        .1
        .upgrade();
    assert_eq!(host.unwrap().answer(again).await.status(), 404);
    assert!(net.carried.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_is_resumed_through_another_replica_with_the_prefix_there() {
    let net = Net::default();
    let here = Server::new(builder().backplane(net.at("here")).mount_prefix("/front"));
    let there = Server::new(builder().backplane(net.at("there")));
    let mut events = there.open().await;
    let session = there.start(&events).await;
    session.handle().send(message(result(1))).await.unwrap();
    events.message().await;
    let last = last(&events, 1);
    let uri = events.uri.clone();
    drop(events);
    session.handle().send(message(result(2))).await.unwrap();
    let mut events = here.resume(&last).await.unwrap();
    assert_eq!(events.uri, format!("/front{uri}"));
    assert_eq!(events.message().await, result(2));
    session.handle().close();
    events.assert_ends().await;
}

#[tokio::test]
async fn a_session_belongs_to_its_principal_and_each_replica_asks_who_comes() {
    struct Named;
    impl Authenticate for Named {
        fn authenticate(&self, head: &http::request::Parts) -> Authentication {
            let name = head.headers.get("x-name").and_then(|name| name.to_str().ok());
            let denied = || Denial::unauthorized(http::HeaderValue::from_static("Bearer"));
            name.map(|name| Grant::new(Principal::new(name))).ok_or_else(denied).into()
        }
    }
    let net = Net::default();
    let server = |name| Server::new(builder().backplane(net.at(name)).authenticate(Named));
    let (here, there) = (server("here"), server("there"));
    let events = there.try_open(empty(get().header("x-name", "alice"))).await.unwrap();
    let send = async |name: Option<&str>| {
        let mut head = post(&events.uri);
        if let Some(name) = name {
            head = head.header("x-name", name);
        }
        here.sse.post(full(head, request(1))).await.status().as_u16()
    };
    assert_eq!(send(None).await, 401);
    assert!(net.carried.lock().unwrap().is_empty());
    assert_eq!(send(Some("mallory")).await, 404);
    assert_eq!(send(Some("alice")).await, 202);
    let mut session = there.session().await;
    let incoming = session.recv().await.unwrap();
    assert_eq!(incoming.parts().extensions.get::<Principal>(), Some(&principal("alice")));
}

#[tokio::test]
async fn who_a_layer_has_named_and_the_address_cross() {
    let (net, here, there) = two();
    let mut open = empty(get());
    open.extensions_mut().insert(principal("alice"));
    let events = there.try_open(open).await.unwrap();
    let mut sent = full(post(&events.uri), request(1));
    sent.extensions_mut().insert(principal("alice"));
    sent.extensions_mut().insert(ClientIp([192, 0, 2, 1].into()));
    assert_eq!(here.sse.post(sent).await.status(), 202);
    let mut session = there.session().await;
    let incoming = session.recv().await.unwrap();
    let extensions = &incoming.parts().extensions;
    assert_eq!(extensions.get(), Some(&principal("alice")));
    assert_eq!(ClientIp::of(extensions), Some(ClientIp([192, 0, 2, 1].into())));
    assert_eq!(net.carried.lock().unwrap()[0].1.principal, Some(principal("alice")));
    assert_eq!(posted(&here, &events.uri, &request(2)).await.status, 404);
}

#[tokio::test]
async fn endpoints_that_share_their_sessions_are_told_apart_elsewhere_too() {
    let net = Net::default();
    let transports = |name| {
        let git = builder().backplane(net.at(name)).build().unwrap();
        let time = git.with_endpoint("/time/messages/").unwrap();
        (Server::of(git), Server::of(time))
    };
    let (git_here, time_here) = transports("here");
    let (_git_there, time_there) = transports("there");
    let events = time_there.open().await;
    let mut session = time_there.start(&events).await;
    assert_eq!(posted(&git_here, &events.uri, &request(1)).await.status, 404);
    posted(&time_here, &events.uri, &request(2)).await.assert_accepted();
    assert_eq!(received(&mut session).await, request(2));
}

#[tokio::test(start_paused = true)]
async fn bodies_for_other_replicas_are_bounded_in_size_and_time() {
    let net = Net::default();
    let server = |name| Server::new(builder().backplane(net.at(name)).max_body_bytes(200_000));
    let (here, there) = (server("here"), server("there"));
    let events = there.open().await;
    let mut session = there.start(&events).await;
    let fill = |length: usize| {
        format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"x":"{}"}}}}"#, "y".repeat(length))
    };
    let chunks = |length| fill(length).into_bytes().chunks(10_000).map(Bytes::copy_from_slice).collect();
    assert_eq!(here.sse.post(post(&events.uri).body(streamed(chunks(150_000))).unwrap()).await.status(), 202);
    assert_eq!(received(&mut session).await, fill(150_000));
    assert_eq!(here.sse.post(post(&events.uri).body(streamed(chunks(200_000))).unwrap()).await.status(), 413);
    assert_eq!(posted(&here, &events.uri, &fill(200_000)).await.status, 413);
    assert_eq!(here.sse.post(post(&events.uri).body(endless()).unwrap()).await.status(), 408);
}

#[tokio::test]
async fn a_message_for_all_reaches_every_session_of_every_replica_once() {
    let (net, here, there) = two();
    let mut first = here.open().await;
    let mut second = there.open().await;
    let changed = message(notification("notifications/tools/list_changed"));
    let (sessions, replicas) = here.sse.send_to_all_replicas(&changed).await;
    assert!(sessions.is_empty() && replicas.is_empty());
    for events in [&mut first, &mut second] {
        assert_eq!(events.message().await, changed.as_str());
    }
    *net.fails.lock().unwrap() = Some(NotForwarded::Unknown);
    let (_, replicas) = here.sse.send_to_all_replicas(&changed).await;
    assert_eq!(
        replicas.iter().map(|(id, why)| (id.name(), *why)).collect::<Vec<_>>(),
        [("there", NotForwarded::Unknown)]
    );
    for events in [&mut first, &mut second] {
        here.sse.send_to_all(&message(notification("last"))).await;
        there.sse.send_to_all(&message(notification("last"))).await;
        let _ = events.message().await;
    }
}

#[tokio::test]
async fn a_service_of_ones_own_is_answered_by_another_replica() {
    struct Echo;
    impl Host for Echo {
        fn answer(
            &self,
            request: Request<Bytes>,
        ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
            let text = format!("{} {}", request.uri(), String::from_utf8_lossy(request.body()));
            Box::pin(std::future::ready(Response::new(Body::from(text))))
        }
    }
    let net = Net::default();
    let there = net.at("there");
    let echo: Arc<dyn Host> = Arc::new(Echo);
    there.bind("echo", Arc::downgrade(&echo));
    let here = Server::new(builder().backplane(net.at("here")));
    let ask = async |server: &SseServerTransport| {
        let request = Request::post("/x?y").body(Full::new(Bytes::from("z"))).unwrap();
        Answer::read(server.forward(there.id(), "echo", request).await).await
    };
    let answer = ask(&here.sse).await;
    assert_eq!((answer.status, &*answer.body), (200, "/x?y z"));
    drop(echo);
    assert_eq!(ask(&here.sse).await.status, 404);
    assert_eq!(ask(&builder().build().unwrap()).await.status, 404);
}

/// Over HTTP/1.1 the library's own server has a quick way for messages, which must not be in the way.
#[cfg(feature = "server")]
#[tokio::test]
async fn the_own_server_takes_messages_and_resumptions_for_other_replicas() {
    use tokio::net::TcpListener;

    let net = Net::default();
    let there = Server::new(builder().backplane(net.at("there")));
    let mut events = there.open().await;
    let mut session = there.start(&events).await;
    session.handle().send(message(result(1))).await.unwrap();
    events.message().await;
    let last = last(&events, 1);
    let transport = builder().backplane(net.at("here")).build().unwrap();
    let server = mcp_sse::Server::new().mount("/sse", &transport, |_session| async {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.serve(listener, std::future::pending(), std::time::Duration::ZERO));
    let mut http = crate::help::Http::connect(address).await;
    // Large enough to arrive in several pieces.
    let large = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"x":"{}"}}}}"#, "y".repeat(1_000_000));
    for body in [notification("one"), large, notification("two")] {
        let answer = Answer::read(http.send(full(post(&events.uri), body.clone())).await).await;
        answer.assert_accepted();
        assert_eq!(received(&mut session).await, body);
    }
    drop(events);
    session.handle().send(message(result(2))).await.unwrap();
    let mut events = Events::begin(http.send(full(get().header("last-event-id", last), "")).await).await;
    assert_eq!(crate::help::soon(events.message()).await, result(2));
    session.handle().close();
    crate::help::soon(events.assert_ends()).await;
}
