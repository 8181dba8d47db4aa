//! Sessions whose replica is gone, revived at another one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use mcp_sse::{Body, Message, MessageKind, Principal, ReplicaId, Session, SseServerTransport};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::{
    Random,
    engine::{Engine, Wire},
    store::Records,
};
use crate::{clock, cluster::Cluster, core::others::GONE_AFTER, records::SessionRecords, seal::ClusterKey};

const EXPIRY: Duration = Duration::from_secs(600);

/// A replica, and what its apps have seen.
#[derive(Clone)]
struct Replica {
    id: String,
    transport: SseServerTransport,
    seen: Arc<Mutex<Vec<String>>>,
}

struct World {
    engine: Engine,
    records: Records,
}

impl World {
    fn new() -> Self {
        Self { engine: Engine::good(), records: Records::new(Random::new(1), EXPIRY) }
    }

    async fn replica(&self, name: &str) -> Replica {
        let me = ReplicaId::new(name).unwrap();
        let key = ClusterKey::parse(&"5a".repeat(32)).unwrap();
        let cluster = Cluster::join(me.clone(), "sim", self.engine.carrier(&me), Some(&key)).await.unwrap();
        let records: SessionRecords = cluster.records_in(self.records.at(me.as_str()), EXPIRY);
        let transport = SseServerTransport::builder("/messages/")
            .backplane(Arc::new(cluster))
            .revive(Arc::new(records))
            .build()
            .unwrap();
        Replica { id: me.to_string(), transport, seen: Arc::default() }
    }

    async fn three(&self) -> [Replica; 3] {
        let all = [self.replica("a").await, self.replica("b").await, self.replica("c").await];
        // They have heard of each other.
        sleep(Duration::from_secs(5)).await;
        all
    }

    fn cut(&self, replica: &Replica, is_cut: bool) {
        self.engine.set_link(&replica.id, if is_cut { Wire::Cut } else { Wire::Good });
        self.records.set_cut(&replica.id, is_cut);
    }

    /// It is gone without a word.
    fn kill(&self, replica: &Replica) {
        self.records.set_cut(&replica.id, true);
        self.engine.forget(&replica.id);
    }
}

/// Keeps a text from the first message on, answers all requests but `never`, and notes what it sees.
async fn app(session: Session, seen: Arc<Mutex<Vec<String>>>) {
    let note = |line: String| seen.lock().unwrap().push(line);
    let (mut receiver, handle) = session.split();
    if let Some(revived) = handle.revived() {
        note(format!("revived with {}", revived.state));
    }
    while let Some(incoming) = receiver.recv().await {
        let method = incoming.message.method().unwrap_or_default().to_owned();
        note(method.clone());
        handle.keep(format!("kept at {method}")).unwrap();
        if let MessageKind::Request { id, .. } = incoming.message.kind()
            && method != "never"
        {
            let _ = handle.send(Message::result(id, &method).unwrap()).await;
        }
    }
}

impl Replica {
    async fn get(&self, last: Option<&str>, principal: Option<&str>) -> Response<Body> {
        let seen = Arc::clone(&self.seen);
        let connect = self.transport.connect_sse(move |session| app(session, Arc::clone(&seen)));
        let mut request = Request::get("http://localhost/sse");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut request = request.body(()).unwrap();
        if let Some(principal) = principal {
            request.extensions_mut().insert(Principal::new(principal));
        }
        connect.oneshot(request).await.unwrap()
    }

    /// Opens a stream, or resumes one.
    async fn open(&self, last: Option<&str>, principal: Option<&str>) -> Stream {
        let response = self.get(last, principal).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream { body: response.into_body(), rest: String::new() }
    }

    async fn post(&self, uri: &str, principal: Option<&str>, id: Option<u64>, method: &str) -> u16 {
        let id = id.map(|id| format!(r#""id":{id},"#)).unwrap_or_default();
        let json = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}"}}"#);
        let mut request = Request::post(format!("http://localhost{uri}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(json)))
            .unwrap();
        if let Some(principal) = principal {
            request.extensions_mut().insert(Principal::new(principal));
        }
        self.transport.handle_post_message().oneshot(request).await.unwrap().status().as_u16()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

struct Stream {
    body: Body,
    rest: String,
}

impl Stream {
    /// The id and the data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (id, data) = (field("id: ").unwrap_or_default(), field("data: "));
                self.rest = rest.to_owned();
                match data {
                    Some(data) => return Some((id, data)),
                    None => continue,
                }
            }
            let frame = timeout(Duration::from_secs(60), self.body.frame()).await.expect("an event")?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.rest.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }
}

/// A client that comes back until it is told something else than to wait.
async fn come_back(at: &Replica, last: &str, principal: Option<&str>) -> (Stream, String, String) {
    for _ in 0..60 {
        let mut stream = at.open(Some(last), principal).await;
        if let Some((id, uri)) = stream.next().await {
            return (stream, id, uri);
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("it is told to wait for ever");
}

const ALICE: Option<&str> = Some("alice");

/// A session at a replica, with an answer that its client has, and a request that has none.
async fn session(at: &Replica) -> (Stream, String, String) {
    let mut stream = at.open(None, ALICE).await;
    let (_, uri) = stream.next().await.unwrap();
    assert_eq!(at.post(&uri, ALICE, Some(1), "first").await, 202);
    let (last, answer) = stream.next().await.unwrap();
    assert!(answer.contains(r#""id":1"#));
    assert_eq!(at.post(&uri, ALICE, Some(2), "never").await, 202);
    // What has changed is written.
    sleep(Duration::from_secs(1)).await;
    (stream, uri, last)
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_replica_that_has_died_goes_on_at_another_one() {
    let world = World::new();
    let [a, b, c] = world.three().await;
    let (stream, uri, last) = session(&a).await;
    world.kill(&a);
    drop(stream);
    let (mut stream, _, new_uri) = come_back(&b, &last, ALICE).await;
    assert!(new_uri.contains("&at=b."), "{new_uri}");
    let (_, error) = stream.next().await.unwrap();
    assert!(error.contains(r#""id":2"#) && error.contains("-32000"), "{error}");
    // Its app is started at once.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(b.seen(), ["revived with kept at never"]);
    // By its old URI, at any replica; by the new one too.
    for (at, uri, id) in [(&c, &uri, 3), (&b, &uri, 4), (&c, &new_uri, 5), (&b, &new_uri, 6)] {
        assert_eq!(at.post(uri, ALICE, Some(id), "next").await, 202);
        let (_, answer) = stream.next().await.unwrap();
        assert!(answer.contains(&format!(r#""id":{id}"#)), "{answer}");
    }
    // It is nobody else's.
    for at in [&b, &c] {
        assert_eq!(at.post(&uri, Some("mallory"), Some(9), "stolen").await, 404);
        assert_eq!(at.get(Some(&last), Some("mallory")).await.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(b.seen(), ["revived with kept at never", "next", "next", "next", "next"]);
    assert!(c.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn and_at_a_third_one_when_that_has_died_too() {
    let world = World::new();
    let [a, b, c] = world.three().await;
    let (_, uri, last) = session(&a).await;
    world.kill(&a);
    let (mut stream, _, new_uri) = come_back(&b, &last, ALICE).await;
    let (last, _) = stream.next().await.unwrap();
    assert_eq!(b.post(&new_uri, ALICE, Some(3), "never").await, 202);
    sleep(Duration::from_secs(1)).await;
    world.kill(&b);
    let (mut stream, _, _) = come_back(&c, &last, ALICE).await;
    let (_, error) = stream.next().await.unwrap();
    assert!(error.contains(r#""id":3"#), "{error}");
    assert_eq!(c.post(&uri, ALICE, Some(4), "next").await, 202);
    assert!(stream.next().await.unwrap().1.contains(r#""id":4"#));
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_a_while_until_its_session_is_revived() {
    let world = World::new();
    let [a, b, c] = world.three().await;
    let (_, uri, last) = session(&a).await;
    world.kill(&a);
    sleep(GONE_AFTER + Duration::from_secs(5)).await;
    let revived = async {
        sleep(Duration::from_secs(2)).await;
        come_back(&b, &last, ALICE).await
    };
    let (status, (mut stream, ..)) = tokio::join!(c.post(&uri, ALICE, Some(3), "next"), revived);
    assert_eq!(status, 202);
    assert!(stream.next().await.unwrap().1.contains(r#""id":2"#));
    assert!(stream.next().await.unwrap().1.contains(r#""id":3"#));
    // One that is never revived.
    let (_, uri, _) = session(&b).await;
    world.kill(&b);
    sleep(GONE_AFTER + Duration::from_secs(5)).await;
    let began = clock::now();
    assert_eq!(c.post(&uri, ALICE, Some(3), "next").await, 404);
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_ends_well_lets_its_sessions_go_with_all_that_their_clients_have_missed() {
    let world = World::new();
    let [a, b, _c] = world.three().await;
    let mut stream = a.open(None, ALICE).await;
    let (_, uri) = stream.next().await.unwrap();
    assert_eq!(a.post(&uri, ALICE, Some(1), "first").await, 202);
    let (last, _) = stream.next().await.unwrap();
    drop(stream);
    // Its client is away while this is answered.
    assert_eq!(b.post(&uri, ALICE, Some(2), "second").await, 202);
    // It comes back at any time, to any replica, and never hears that its session is gone.
    let comes = async {
        loop {
            for at in [&a, &b] {
                let mut stream = at.open(Some(&last), ALICE).await;
                if let Some((_, uri)) = stream.next().await
                    && uri.contains("&at=b.")
                {
                    return stream;
                }
            }
            sleep(Duration::from_millis(7)).await;
        }
    };
    let (_, mut stream) = tokio::join!(a.transport.shutdown(Duration::from_secs(10)), comes);
    let (_, answer) = stream.next().await.unwrap();
    assert!(answer.contains(r#""id":2"#) && answer.contains("result"), "{answer}");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(b.seen(), ["revived with kept at second"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cut_off_takes_nothing_for_a_session_that_others_may_have_by_now() {
    let world = World::new();
    let [a, b, _c] = world.three().await;
    let (stream, uri, last) = session(&a).await;
    world.cut(&a, true);
    // With a stream, nobody else has it.
    assert_eq!(a.post(&uri, ALICE, Some(3), "next").await, 202);
    drop(stream);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(a.post(&uri, ALICE, Some(4), "lost").await, 503);
    let (mut stream, _, _) = come_back(&b, &last, ALICE).await;
    assert!(stream.next().await.unwrap().1.contains(r#""id":2"#));
    assert_eq!(a.post(&uri, ALICE, Some(5), "lost").await, 503);
    world.cut(&a, false);
    sleep(Duration::from_secs(3)).await;
    // It hears that the session is elsewhere, and brings it there.
    assert_eq!(a.post(&uri, ALICE, Some(6), "found").await, 202);
    assert!(stream.next().await.unwrap().1.contains(r#""id":6"#));
    assert!(!a.seen().contains(&"lost".to_owned()) && !a.seen().contains(&"found".to_owned()));
    assert_eq!(a.transport.session_counts().open, 0);
    let back = a.open(Some(&last), ALICE).await.next().await;
    assert!(back.is_some(), "its stream is relayed");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_revive_a_session_one_has_it() {
    let world = World::new();
    let [a, b, c] = world.three().await;
    let (_, _, last) = session(&a).await;
    world.kill(&a);
    sleep(GONE_AFTER + Duration::from_secs(5)).await;
    let (first, second) = tokio::join!(come_back(&b, &last, ALICE), come_back(&c, &last, ALICE));
    let open = [&b, &c].map(|replica| replica.transport.session_counts().open);
    assert_eq!(open.iter().sum::<usize>(), 1, "{open:?}");
    assert_eq!(b.seen().len() + c.seen().len(), 1);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn of_two_requests_at_one_replica_one_revives_the_session_whenever_the_other_comes() {
    for late in 0..24 {
        let world = World::new();
        let [a, b, _c] = world.three().await;
        let (_, _, last) = session(&a).await;
        world.kill(&a);
        sleep(GONE_AFTER + Duration::from_secs(5)).await;
        let second = async {
            sleep(Duration::from_micros(250 * late)).await;
            come_back(&b, &last, ALICE).await
        };
        let (_first, _second) = tokio::join!(come_back(&b, &last, ALICE), second);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(b.transport.session_counts().open, 1, "{late}");
        assert_eq!(b.seen(), ["revived with kept at never"], "{late}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_ended_stays_so_even_if_the_answer_to_a_write_was_lost() {
    let world = World::new();
    let [a, b, _c] = world.three().await;
    for _ in 0..40 {
        let (_stream, uri, last) = session(&a).await;
        world.records.set_silence(80);
        assert_eq!(a.post(&uri, ALICE, Some(3), "next").await, 202);
        sleep(Duration::from_millis(150)).await;
        a.transport.sessions().iter().for_each(mcp_sse::SessionHandle::close);
        sleep(Duration::from_millis(300)).await;
        world.records.set_silence(0);
        sleep(Duration::from_secs(30)).await;
        for at in [&a, &b] {
            assert_eq!(at.get(Some(&last), ALICE).await.status(), StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_ended_is_not_revived() {
    let world = World::new();
    let [a, b, _c] = world.three().await;
    let (_stream, _, last) = session(&a).await;
    a.transport.sessions().iter().for_each(mcp_sse::SessionHandle::close);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(b.get(Some(&last), ALICE).await.status(), StatusCode::NOT_FOUND);
    world.kill(&a);
    sleep(GONE_AFTER + Duration::from_secs(5)).await;
    assert_eq!(b.get(Some(&last), ALICE).await.status(), StatusCode::NOT_FOUND);
}
