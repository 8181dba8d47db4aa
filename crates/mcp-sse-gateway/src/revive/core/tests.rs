//! The core against what it promises, with random sequences on virtual time: each request answered once, no answer at
//! another server, nothing of ours at the client.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::{
    clock,
    revive::{Keep, Restart},
};

const TIME: Duration = Duration::from_secs(10);

/// A generator of numbers that is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // Numerical Recipes.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn incoming(json: String) -> Incoming {
    Incoming::new(Message::parse(json).unwrap(), http::Request::new(()).into_parts().0)
}

fn request(id: impl std::fmt::Display, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn result(id: impl std::fmt::Display, result: &str) -> Message {
    Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).unwrap()
}

const GREETING: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"serverInfo":{"name":"a","version":"1"}}"#;

/// A server: what it was sent and has not answered.
#[derive(Default)]
struct Server {
    number: u32,
    open: Vec<RequestId>,
    /// Requests of its own, whose ids start anew with each server, and those that were answered.
    asked: u64,
    answered: HashSet<u64>,
    subscriptions: HashSet<String>,
}

/// The client: what it waits for, and what it was asked.
#[derive(Default)]
struct Client {
    next: u64,
    open: HashSet<u64>,
    answered: HashSet<u64>,
    /// Questions by the ids that it sees, with the server that asks and the id that this knows.
    questions: HashMap<String, (u32, u64)>,
    subscriptions: HashSet<String>,
    lists_changed: u32,
}

struct World {
    core: Core,
    now: Instant,
    server: Server,
    client: Client,
    random: Random,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = clock::now();
        let keep = Keep { restart: Some(Restart::Always), ping_interval: Some(TIME), ..Keep::default() };
        let core = Core::new(keep.policy(TIME, false).unwrap(), now);
        let mut world =
            Self { core, now, server: Server::default(), client: Client::default(), random: Random(seed) };
        world.core.starts(now);
        let initialize = request("\"first\"", "initialize", r#"{"capabilities":{}}"#);
        assert!(world.core.asks(incoming(initialize), now).is_some());
        assert!(matches!(world.core.says(result("\"first\"", GREETING), now), Said::ToClient(_)));
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned();
        assert!(world.core.asks(incoming(initialized), now).is_some());
        world
    }

    /// What reaches the server.
    fn sent(&mut self, message: &Message) {
        match message.kind() {
            MessageKind::Request { id, method } => {
                if &**method == "resources/subscribe" {
                    let uri = message.param(&["uri"]).unwrap().to_owned();
                    if id.to_string().starts_with("\"mcp-sse-") {
                        self.server.subscriptions.insert(uri);
                    }
                }
                self.server.open.push(id.clone());
            }
            MessageKind::Notification { .. } => {
                if let Some(id) = message.cancelled_id() {
                    assert!(self.server.open.contains(&id), "a cancellation of what it never had");
                }
            }
            MessageKind::Response { id: Some(id), .. } => {
                let id = id.as_integer().expect("its own ids are numbers") as u64;
                assert!(
                    id < self.server.asked && self.server.answered.insert(id),
                    "an answer to another server"
                );
            }
            MessageKind::Response { id: None, .. } => {}
        }
    }

    /// What reaches the client.
    fn heard(&mut self, message: &Message) {
        let is_answer = matches!(message.kind(), MessageKind::Response { .. });
        assert!(!is_answer || !message.as_str().contains("mcp-sse-"), "{message:?}");
        match message.kind() {
            MessageKind::Response { id: Some(id), .. } => {
                let id = id.as_integer().expect("the client's ids are numbers") as u64;
                assert!(self.client.open.remove(&id), "an answer to nothing: {message:?}");
                assert!(self.client.answered.insert(id), "two answers");
            }
            MessageKind::Request { id, .. } => {
                let number = self.server.asked - 1;
                let before = self.client.questions.insert(id.to_string(), (self.server.number, number));
                assert!(before.is_none(), "two questions by one id");
            }
            MessageKind::Notification { method } => match &**method {
                "notifications/cancelled" => {
                    let id = message.param(&["requestId"]).unwrap();
                    assert!(self.client.questions.contains_key(id), "nobody has asked that");
                }
                "notifications/tools/list_changed" => self.client.lists_changed += 1,
                other => panic!("{other}"),
            },
            MessageKind::Response { id: None, .. } => panic!("an answer to nobody"),
        }
    }

    fn asks(&mut self, json: String) {
        if let Some(incoming) = self.core.asks(incoming(json), self.now) {
            self.sent(&incoming.message.clone());
        }
    }

    fn says(&mut self, message: Message) {
        if let Said::ToClient(message) = self.core.says(message, self.now) {
            self.heard(&message);
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(3_000));
        match self.random.below(9) {
            0 | 1 => {
                let id = self.client.next;
                self.client.next += 1;
                self.client.open.insert(id);
                self.asks(request(id, "tools/call", r#"{"name":"echo"}"#));
            }
            2 => {
                let id = self.client.next;
                self.client.next += 1;
                self.client.open.insert(id);
                let uri = format!("\"demo://{}\"", self.random.below(3));
                self.asks(request(id, "resources/subscribe", &format!(r#"{{"uri":{uri}}}"#)));
                // At once.
                self.server.open.retain(|open| open.as_integer() != Some(id as i64));
                self.server.subscriptions.insert(uri.clone());
                self.client.subscriptions.insert(uri);
                self.says(result(id, "{}"));
            }
            3 | 4 if !self.server.open.is_empty() => {
                let at = self.random.below(self.server.open.len() as u64) as usize;
                let id = self.server.open.swap_remove(at);
                self.says(result(&id, "{}"));
            }
            5 => {
                let id = self.server.asked;
                self.server.asked += 1;
                self.says(Message::parse(request(id, "sampling/createMessage", "{}")).unwrap());
            }
            6 if !self.client.questions.is_empty() => {
                let at = self.random.below(self.client.questions.len() as u64) as usize;
                let id = self.client.questions.keys().nth(at).unwrap().clone();
                let (number, _) = self.client.questions.remove(&id).unwrap();
                let before = self.server.answered.len();
                self.asks(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
                let reached = self.server.answered.len() > before;
                assert_eq!(reached, number == self.server.number, "an answer is for who has asked");
            }
            7 if self.client.next > 0 => {
                // Maybe of what died, or was answered.
                let id = self.random.below(self.client.next);
                if self.client.open.remove(&id) {
                    self.client.answered.insert(id);
                    let has_it = self.server.open.iter().any(|open| open.as_integer() == Some(id as i64));
                    assert!(has_it, "an open request is at the server");
                    let cancel = format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                    );
                    self.asks(cancel);
                    self.server.open.retain(|open| open.as_integer() != Some(id as i64));
                } else if self.core.generation > 0 {
                    let cancel = format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                    );
                    self.asks(cancel);
                }
            }
            8 => self.dies(),
            _ => {}
        }
        if let Some(deadline) = self.core.deadline(self.now)
            && self.now >= deadline
        {
            match self.core.due(self.now) {
                Ok(Some(ping)) => self.sent(&ping),
                Ok(None) => {}
                Err(_) => self.dies(),
            }
        }
    }

    fn dies(&mut self) {
        let (messages, verdict) = self.core.dies(&Failure::new("it died"), self.now);
        for message in messages {
            self.heard(&message);
        }
        assert!(self.client.open.is_empty(), "what was asked is answered at once");
        let Verdict::Again { first: None, .. } = verdict else {
            // Nobody had asked it for anything, five times.
            assert!(matches!(verdict, Verdict::End));
            *self = Self::new(self.random.0);
            return;
        };
        self.server = Server { number: self.server.number + 1, ..Server::default() };
        self.core.starts(self.now);
        let greet = self.core.greet().unwrap();
        assert_eq!((greet.method(), greet.params()), (Some("initialize"), Some(r#"{"capabilities":{}}"#)));
        let changed = self.client.lists_changed;
        let Said::Greeting(answer) = self.core.says(result(greet.id().unwrap(), GREETING), self.now) else {
            panic!("it is for us")
        };
        let (rest, changes) = self.core.greeted(&answer, self.now).unwrap();
        for message in rest {
            self.sent(&message);
        }
        for message in changes {
            self.heard(&message);
        }
        assert_eq!(self.client.lists_changed, changed + 1);
        assert_eq!(self.server.subscriptions, self.client.subscriptions, "subscriptions survive");
    }
}

#[test]
fn random_sequences_keep_every_promise() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
    }
}

#[test]
fn another_id_changes_nothing_else() {
    let message =
        Message::parse(r#"{"a":{"id":1}, "jsonrpc":"2.0","id" : 7 ,"result":{"id":7,"x":1e400}}"#).unwrap();
    let renamed = with_id(&message, &RequestId::from("é\"")).unwrap();
    assert_eq!(
        renamed.as_str(),
        r#"{"a":{"id":1}, "jsonrpc":"2.0","id" : "é\"" ,"result":{"id":7,"x":1e400}}"#
    );
}

#[test]
fn what_a_server_says_for_a_request_of_another_is_dropped_and_counted() {
    let mut world = World::new(1);
    world.asks(request(70, "tools/call", "{}"));
    world.client.open.insert(70);
    world.dies();
    assert!(matches!(world.core.says(result(70, "{}"), world.now), Said::Nothing));
    assert_eq!(world.core.take_dropped(), 1);
}

#[test]
fn what_a_server_has_not_taken_is_tried_once_more_if_it_is_the_clients_and_not_an_answer() {
    let mut world = World::new(1);
    let message = |json: &str| Message::parse(json.to_owned()).unwrap();
    let call = request(70, "tools/call", "{}");
    world.core.asks(incoming(call.clone()), world.now);
    assert!(world.core.untaken(&message(&call)));
    // What comes of it at the next server is its answer, also if that is the error for a second refusal.
    world.core.asks(incoming(call.clone()), world.now);
    assert!(!world.core.untaken(&message(&call)));
    let (errors, _) = world.core.dies(&Failure::new("it is gone"), world.now);
    assert!(matches!(&errors[..], [error] if error.id() == Some(&RequestId::from(70))), "{errors:?}");
    for other in [
        &*request("\"mcp-sse-1\"", "ping", "{}"),
        r#"{"jsonrpc":"2.0","id":0,"result":{"action":"accept"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":70}}"#,
    ] {
        assert!(!world.core.untaken(&message(other)), "{other}");
    }
    assert!(world.core.untaken(&message(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#)));
}

#[test]
fn a_server_that_withdraws_its_question_is_understood_by_either_id() {
    let mut world = World::new(1);
    let ask = || Message::parse(request(0, "elicitation/create", "{}")).unwrap();
    let withdraw = || {
        let json = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId": 0 ,"reason":"slow"}}"#;
        Message::parse(json.to_owned()).unwrap()
    };
    let to_client = |said| match said {
        Said::ToClient(message) => message,
        other => panic!("{other:?}"),
    };
    let seen = to_client(world.core.says(ask(), world.now));
    assert_eq!(seen.as_str(), ask().as_str());
    world.core.dies(&Failure::new("it died"), world.now);
    world.core.starts(world.now);
    // The client still has the other one.
    let seen = to_client(world.core.says(ask(), world.now)).id().unwrap().clone();
    assert_ne!(seen, RequestId::from(0));
    let told = to_client(world.core.says(withdraw(), world.now));
    assert_eq!(
        told.as_str(),
        withdraw().as_str().replace("\"requestId\": 0 ", &format!("\"requestId\": {seen} "))
    );
    assert!(!world.core.asked.contains_key(&seen) && world.core.asked.contains_key(&RequestId::from(0)));
}

#[test]
fn whoever_says_something_is_not_stuck_and_nobody_is_pinged_before_it_has_begun() {
    let mut world = World::new(1);
    let ping = world.core.due(world.now + TIME).unwrap().unwrap();
    assert_eq!(ping.method(), Some("ping"));
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#.to_owned();
    world.core.says(Message::parse(progress).unwrap(), world.now + TIME);
    assert!(world.core.due(world.now + 2 * TIME - Duration::from_secs(1)).unwrap().is_none());
    assert!(world.core.due(world.now + 2 * TIME).unwrap().is_some());
    assert_eq!(world.core.due(world.now + 3 * TIME).unwrap_err().how, How::Stuck);
    world.core.asks(incoming(request(1, "initialize", "{}")), world.now);
    assert!(world.core.due(world.now + 9 * TIME).unwrap().is_none());
}

#[test]
fn a_server_that_has_settled_is_not_away_any_more() {
    let mut world = World::new(1);
    // Hours apart, with nothing asked in between.
    for _ in 0..10 {
        world.dies();
        world.now += Duration::from_secs(3600);
    }
    assert_eq!(world.core.generation, 10);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut world = World::new(1);
    for id in 0..2 * ASKED {
        let ask = Message::parse(request(id, "roots/list", "{}")).unwrap();
        assert!(matches!(world.core.says(ask, world.now), Said::ToClient(_)));
    }
    assert_eq!(world.core.asked.len(), ASKED);
    // Their server dies, and the next asks and dies too: the oldest are forgotten.
    world.core.dies(&Failure::new("it died"), world.now);
    world.core.starts(world.now);
    world.core.dies(&Failure::new("it died"), world.now);
    assert!(world.core.asked.len() <= WITHDRAWN, "{}", world.core.asked.len());
    for number in 0..2_000 {
        let id = 100 + number;
        let subscribe = request(id, "resources/subscribe", &format!(r#"{{"uri":"demo://{number}"}}"#));
        world.core.asks(incoming(subscribe), world.now);
        world.core.says(result(id, "{}"), world.now);
    }
    assert_eq!(world.core.kept.told(), 1_000);
}

#[test]
fn a_client_that_says_too_much_of_itself_has_no_session_that_outlives_its_server() {
    let now = clock::now();
    let mut core = Core::new(Keep::default().policy(TIME, false).unwrap(), now);
    core.starts(now);
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(64 * 1024));
    core.asks(incoming(request(1, "initialize", &large)), now);
    assert!(matches!(core.says(result(1, GREETING), now), Said::ToClient(_)));
    assert!(matches!(core.dies(&Failure::new("it died"), now), (_, Verdict::End)));
}

#[test]
fn a_client_without_a_handshake_has_a_session_that_outlives_its_server() {
    let now = clock::now();
    let mut core = Core::new(Keep::default().policy(TIME, false).unwrap(), now);
    core.starts(now);
    let params = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    core.asks(incoming(request(1, "server/discover", params)), now);
    assert!(matches!(core.says(result(1, "{}"), now), Said::ToClient(_)));
    core.asks(incoming(request(2, "tools/call", params)), now);
    let (messages, verdict) = core.dies(&Failure::new("it died"), now);
    assert_eq!(messages.len(), 1);
    assert!(matches!(verdict, Verdict::Again { first: None, .. }), "{verdict:?}");
    core.starts(now);
    assert!(core.greet().is_none());
}

#[test]
fn a_server_that_dies_of_what_comes_before_initialize_is_started_again_for_the_client_that_tries_both() {
    let now = clock::now();
    let mut core = Core::new(Keep::default().policy(TIME, false).unwrap(), now);
    let params = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    let dies = |core: &mut Core, id| {
        core.starts(now);
        core.asks(incoming(request(id, "server/discover", params)), now);
        let (messages, verdict) = core.dies(&Failure::new("it died"), now);
        (messages.len(), matches!(verdict, Verdict::Asleep))
    };
    assert_eq!(dies(&mut core, 1), (1, true));
    core.starts(now);
    core.asks(incoming(request(9, "initialize", "{}")), now);
    assert!(matches!(core.says(result(9, GREETING), now), Said::ToClient(_)));
    assert!(core.has_begun());
    // And one that asks the same for ever is not served for ever.
    let mut core = Core::new(Keep::default().policy(TIME, false).unwrap(), now);
    let ends = (0..10).position(|id| !dies(&mut core, id).1);
    assert_eq!(ends, Some(FIRST_ATTEMPTS as usize));
}
