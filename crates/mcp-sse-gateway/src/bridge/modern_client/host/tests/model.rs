//! Random sequences of what clients, a server and time may do, against what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// How many sequences, and how long each is.
const SEQUENCES: u64 = 300;
const STEPS: usize = 80;

/// Xorshift: the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }
}

/// A request as its client sees it.
#[derive(Debug, PartialEq)]
enum Seen {
    Waits,
    Parked {
        state: String,
        keys: Vec<String>,
    },
    /// It was answered, or its client has left.
    Over,
}

struct Client {
    id: String,
    seen: Seen,
    flag: Arc<Flag>,
    sleeps: bool,
    listens: bool,
}

/// What the server knows.
#[derive(Default)]
struct Server {
    /// Requests that it has and has not answered.
    open: BTreeSet<i64>,
    known: BTreeSet<i64>,
    cancelled: BTreeSet<i64>,
    /// Questions without an answer.
    questions: BTreeSet<String>,
    asked: usize,
    subscribed: BTreeSet<String>,
}

struct Play {
    world: World,
    random: Random,
    clients: BTreeMap<i64, Client>,
    server: Server,
    ids: usize,
    freed: BTreeSet<String>,
    parked: BTreeSet<String>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let plan = random.of(&[Plan::Ask, Plan::Legacy, Plan::Modern]).unwrap();
        Self {
            world: World::new(plan, ALL),
            random,
            clients: BTreeMap::new(),
            server: Server::default(),
            ids: 0,
            freed: BTreeSet::new(),
            parked: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=3 => self.asks(),
            4 => self.leaves(),
            5..=8 => self.reads(),
            9..=12 => drop(self.serves()),
            13..=14 => self.server_answers(),
            15..=16 => self.server_asks(),
            17 => self.server_says(),
            18 => self.comes_back(),
            _ => {
                let time = self.random.of(&[30, 1_000, 10_000, 61_000, 601_000]).unwrap();
                self.world.passes(Duration::from_millis(time));
                self.gone();
            }
        }
        self.holds();
    }

    /// Those whose states were freed by time or for want of room are over.
    fn gone(&mut self) {
        self.freed.extend(self.world.host.take_freed().iter().map(|state| state.expose().to_owned()));
        for client in self.clients.values_mut() {
            if let Seen::Parked { state, .. } = &client.seen
                && self.freed.contains(state)
            {
                client.seen = Seen::Over;
            }
        }
    }

    fn asks(&mut self) {
        self.ids += 1;
        let id = if self.random.below(2) == 0 { self.ids.to_string() } else { format!(r#""c{}""#, self.ids) };
        let kinds = ["tools/call", "tools/call", "tools/list", "server/discover", "subscriptions/listen"];
        let method = self.random.of(&kinds).unwrap();
        let params = match method {
            "tools/call" => r#""name":"t","#,
            "subscriptions/listen" => {
                r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]},"#
            }
            _ => "",
        };
        let meta = self
            .random
            .of(&["", r#","progressToken":"p""#, r#","io.modelcontextprotocol/logLevel":"info""#])
            .unwrap();
        let taken = self.world.try_ask(&id, method, params, meta);
        self.gone();
        if let Ok(key) = taken {
            let listens = method == "subscriptions/listen";
            let client = Client { id, seen: Seen::Waits, flag: Arc::default(), sleeps: false, listens };
            assert!(self.clients.insert(key, client).is_none());
        } else {
            // A server that does not answer its greeting ends it all.
            let why = if self.world.host.is_over() { Refused::Over } else { Refused::Full };
            assert_eq!(taken, Err(why));
        }
    }

    fn waiting(&self) -> Vec<i64> {
        self.clients.iter().filter(|(_, client)| client.seen == Seen::Waits).map(|(key, _)| *key).collect()
    }

    fn leaves(&mut self) {
        let waiting = self.waiting();
        if let Some(key) = self.random.of(&waiting) {
            self.world.host.leave(key, self.world.now);
            self.clients.get_mut(&key).unwrap().seen = Seen::Over;
        }
    }

    fn reads(&mut self) {
        let waiting = self.waiting();
        let Some(key) = self.random.of(&waiting) else { return };
        self.world.may_mint = self.random.below(8) > 0;
        self.read(key);
        self.world.may_mint = true;
    }

    fn read(&mut self, key: i64) -> bool {
        let flag = Arc::<Flag>::default();
        let minted = format!("state-{}", self.world.minted);
        let next = self.world.poll(key, &Waker::from(Arc::clone(&flag)));
        let client = self.clients.get_mut(&key).unwrap();
        (client.flag, client.sleeps) = (flag, next.is_pending());
        let Poll::Ready(next) = next else { return false };
        match next.expect("who waits gets something") {
            Out::Notification(message) => assert!(message.id().is_none()),
            Out::InputRequired(message) => {
                assert_eq!(message.id().unwrap().to_string(), client.id);
                let value: serde_json::Value = serde_json::from_str(message.as_str()).unwrap();
                let keys: Vec<String> =
                    value["result"]["inputRequests"].as_object().unwrap().keys().cloned().collect();
                assert!(!keys.is_empty());
                assert!(self.world.host.calls[&key].gathers.is_none());
                assert_eq!(value["result"]["requestState"], *minted);
                self.parked.insert(minted.clone());
                client.seen = Seen::Parked { state: minted, keys };
            }
            Out::Answer(answer) => {
                assert_eq!(answer.message().id().unwrap().to_string(), client.id);
                client.seen = Seen::Over;
            }
        }
        true
    }

    fn comes_back(&mut self) {
        let parked: Vec<i64> = self
            .clients
            .iter()
            .filter(|(_, client)| matches!(client.seen, Seen::Parked { .. }))
            .map(|(key, _)| *key)
            .collect();
        let Some(key) = self.random.of(&parked) else { return };
        let all = self.random.below(3) > 0;
        self.come_back(key, all);
    }

    fn come_back(&mut self, key: i64, all: bool) {
        self.ids += 1;
        let id = self.ids.to_string();
        let Seen::Parked { state, keys } = &self.clients[&key].seen else { return };
        let keys = if all { &keys[..] } else { &keys[..keys.len() / 2] };
        let responses: Vec<String> = keys.iter().map(|key| format!(r#""{key}":{{}}"#)).collect();
        let (state, responses) = (state.clone(), format!("{{{}}}", responses.join(",")));
        assert_eq!(self.world.resume(key, &id, "another", &responses), Err(Refused::State));
        assert_eq!(self.world.resume(key, &id, &state, &responses), Ok(()));
        assert_eq!(self.world.resume(key, &id, &state, &responses), Err(Refused::State));
        let client = self.clients.get_mut(&key).unwrap();
        (client.id, client.seen) = (id, Seen::Waits);
        self.gone();
    }

    /// The server takes a message.
    fn serves(&mut self) -> bool {
        let Some(message) = self.world.try_sent() else { return false };
        let key = message.id().and_then(RequestId::as_integer);
        match message.method() {
            Some("initialize" | "server/discover") if key.is_none() => {
                let is_error = message.method() == Some("server/discover") && self.random.below(2) == 0;
                let id = message.id().unwrap();
                let answer = if is_error {
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"m"}}}}"#)
                } else {
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{GREETING}}}"#)
                };
                // It may never come.
                if message.method() == Some("initialize") || self.random.below(3) > 0 {
                    self.world.says(&answer);
                }
            }
            Some("notifications/initialized") => {}
            Some("logging/setLevel") => {
                if self.random.below(2) == 0 {
                    self.world.answer(&message, "{}");
                }
            }
            Some("notifications/cancelled") => {
                let key = message.cancelled_id().unwrap().as_integer().unwrap();
                assert!(self.server.known.contains(&key), "it has never had request {key}");
                assert!(self.server.cancelled.insert(key), "request {key} was cancelled twice");
                // It may have been answered meanwhile.
                self.server.open.remove(&key);
            }
            Some("resources/subscribe") => {
                assert!(self.server.subscribed.insert(message.param(&["uri"]).unwrap().to_owned()));
            }
            Some("resources/unsubscribe") => {
                assert!(self.server.subscribed.remove(message.param(&["uri"]).unwrap()));
            }
            Some(_) => {
                let key = key.unwrap();
                assert!(self.server.known.insert(key), "request {key} came twice");
                self.server.open.insert(key);
            }
            None => {
                let id = message.id().unwrap().to_string();
                assert!(self.server.questions.remove(&id), "it did not ask {id}");
            }
        }
        true
    }

    fn server_answers(&mut self) {
        let open: Vec<i64> = self.server.open.iter().copied().collect();
        if let Some(key) = self.random.of(&open) {
            self.server_answer(key);
        }
    }

    fn server_answer(&mut self, key: i64) {
        self.server.open.remove(&key);
        let what = if self.random.below(3) == 0 {
            r#""error":{"code":-32002,"message":"m"}"#
        } else {
            r#""result":{}"#
        };
        self.world.says(&format!(r#"{{"jsonrpc":"2.0","id":{key},{what}}}"#));
        // It says it again, which nobody hears.
        self.world.says(&format!(r#"{{"jsonrpc":"2.0","id":{key},{what}}}"#));
    }

    fn server_asks(&mut self) {
        let method = self
            .random
            .of(&["sampling/createMessage", "elicitation/create", "roots/list", "ping", "own"])
            .unwrap();
        let id = format!(r#""q{}""#, self.server.asked);
        self.server.asked += 1;
        self.server.questions.insert(id.clone());
        self.world.question(&id, method);
    }

    fn server_says(&mut self) {
        let questions: Vec<String> = self.server.questions.iter().cloned().collect();
        match self.random.below(3) {
            0 => self.world.says(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#),
            1 => self
                .world
                .says(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error"}}"#),
            _ => {
                let Some(id) = questions.first() else { return };
                self.world.says(&format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                ));
                let answers = |outgoing: &Outgoing<()>| {
                    outgoing.message().is_some_and(|message| {
                        message.method().is_none() && message.id().is_some_and(|of| of.to_string() == *id)
                    })
                };
                // Unless an answer is on its way, there is none any more.
                if !self.world.host.outgoing.iter().any(answers) {
                    self.server.questions.remove(id);
                }
            }
        }
    }

    /// What must hold at any time.
    fn holds(&self) {
        let host = &self.world.host;
        for (key, client) in &self.clients {
            let call = host.calls.get(key);
            assert_eq!(call.is_some(), client.seen != Seen::Over, "{key} {:?}", client.seen);
            let is_parked = call.is_some_and(|call| call.parked.is_some());
            assert_eq!(is_parked, matches!(client.seen, Seen::Parked { .. }));
            if client.sleeps && client.seen == Seen::Waits && call.is_some_and(Call::has_news) {
                assert!(client.flag.0.load(Ordering::Relaxed), "{key} was not woken");
            }
        }
        let requests = host.calls.values().filter(|call| !call.is_listener()).count();
        assert!(requests <= host.bounds.requests);
        assert!(host.calls.values().filter(|call| call.is_listener()).count() <= LISTENERS);
        let parked = host.calls.values().filter_map(|call| call.parked.as_ref());
        for parked in parked {
            assert!(host.deadline().unwrap() <= parked.since + PARKED);
        }
        assert!(host.deadline().is_none_or(|deadline| deadline > self.world.now));
        assert_eq!(host.is_used(), !host.calls.is_empty());
    }

    /// Everybody does what there is to do, until all is over.
    fn end(mut self) {
        for _ in 0..10_000 {
            let waiting = self.waiting();
            let mut did = self.serves();
            for key in std::mem::take(&mut self.server.open) {
                self.server_answer(key);
                did = true;
            }
            for key in waiting {
                did |= self.read(key);
                if self.clients[&key].listens {
                    self.world.host.leave(key, self.world.now);
                    self.clients.get_mut(&key).unwrap().seen = Seen::Over;
                    did = true;
                }
                self.come_back(key, true);
            }
            self.holds();
            if !did {
                // What is left waits for time, or for a client that is away.
                self.world.passes(GATHERED);
                self.gone();
                if self.random.below(4) == 0 {
                    self.world.passes(PARKED);
                    self.gone();
                }
                if !self.world.host.is_used() && self.world.host.outgoing.is_empty() {
                    break;
                }
            }
        }
        // Questions that belong to no request wait for one.
        self.world.passes(PARKED);
        self.gone();
        while self.serves() {}
        let host = &self.world.host;
        assert!(!host.is_used(), "{:?}", host.calls);
        assert_eq!((host.kept_bytes, host.subscriptions.len(), self.server.subscribed.len()), (0, 0, 0));
        assert_eq!(self.freed, self.parked, "each state is freed");
        assert!(host.is_over() || self.server.questions.is_empty(), "{:?}", self.server.questions);
        assert!(host.early.is_empty() && host.orphans.is_empty());
    }
}

#[test]
fn whatever_happens_each_request_and_each_question_is_answered_once() {
    for seed in 0..SEQUENCES {
        let mut play = Play::new(seed);
        for _ in 0..STEPS {
            play.step();
        }
        play.end();
    }
}
