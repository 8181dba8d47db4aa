//! Messages of real clients and servers, changed at random: whatever they have become, what is kept stays in order, what
//! goes out is JSON-RPC, and no one message becomes much more than it was.
//!
//! This is what a fuzzer does in the crates that it can reach; here it has no eye on the branches, but starts from real
//! messages. `INPUTS=10000000 cargo test --release -p mcp-sse-gateway mutated` goes on for longer.

mod json;

use std::collections::BTreeSet;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use self::json::{Json, Mutator};
use super::{
    super::{super::tool_headers::ToolHeaders, errors::for_legacy},
    *,
};
use crate::message::{
    members::Members,
    modern::{LEGACY_VERSIONS, VERSION, decoded, encoded, meta},
};

const OF_SERVERS: &str = include_str!("mutated/server.jsonl");
const OF_CLIENTS: &str = include_str!("mutated/client.jsonl");

/// How many inputs each test has.
fn inputs() -> u64 {
    std::env::var("INPUTS").map_or(5_000, |inputs| inputs.parse().expect("a number"))
}

/// Does this with inputs made of these lines.
fn each(lines: &str, does: impl Fn(&mut Mutator<'_>, Json)) {
    let corpus: Vec<Json> = lines.lines().map(Json::read).collect();
    for seed in 0..inputs() {
        let mut mutator = Mutator::new(seed, &corpus);
        let json = mutator.json();
        let shown = json.to_string();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| does(&mut mutator, json)));
        assert!(done.is_ok(), "input {seed}: {}", shown.chars().take(10_000).collect::<String>());
    }
}

/// The names of an object's members as a reader of JSON finds them, with those that are there twice.
fn names(json: &str) -> Vec<String> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry()? {
                names.push(name);
            }
            Ok(names)
        }
    }

    serde_json::Deserializer::from_str(json).deserialize_map(Names).unwrap_or_default()
}

/// A session in the middle of its life.
struct Session {
    pair: Pair,
    /// Bytes that came in, and that went out.
    bytes: (usize, usize),
    /// Answers to its requests 7 and 8.
    answers: usize,
}

impl Session {
    fn new(mutator: &mut Mutator<'_>) -> Self {
        let mut pair = Pair::new(&all(), mutator.random.once_in(2));
        if mutator.random.once_in(2) {
            pair.client(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        }
        let method =
            *mutator.random.of(&["tools/call", "tools/list", "resources/read", "prompts/get", "ping"]);
        let params =
            r#"{"name":"region","uri":"a:b","arguments":{"region":"eu"},"_meta":{"progressToken":"t"}}"#;
        pair.client(request(7, method, params));
        Self { pair, bytes: (0, 0), answers: 0 }
    }

    /// Ids that mean something here take the place of those that do not, most times.
    fn id(&mut self, mutator: &mut Mutator<'_>, side: Side) -> Option<String> {
        let ids: Vec<String> = match side {
            Side::Server => self.pair.core.at_server.keys().map(ToString::to_string).collect(),
            Side::Client => self.pair.core.asked.keys().map(ToString::to_string).collect(),
        };
        (!ids.is_empty() && !mutator.random.once_in(20)).then(|| mutator.random.of(&ids).clone())
    }

    /// One says this.
    fn hears(&mut self, side: Side, json: &str) {
        let Ok(message) = Message::parse(json.to_owned()) else { return };
        self.bytes.0 += json.len();
        match side {
            Side::Server => self.pair.core.server(message, self.pair.now),
            Side::Client => self.pair.core.client(Incoming::new(message, no_head()), self.pair.now),
        }
        self.is_in_order();
    }

    fn is_in_order(&mut self) {
        while let Some(incoming) = self.pair.core.poll_server() {
            let message = &incoming.message;
            self.bytes.1 += message.as_bytes().len();
            let again = Message::parse(message.as_str().to_owned()).expect("it is a message");
            assert_eq!(again.kind(), message.kind());
            if matches!(message.kind(), MessageKind::Request { .. }) {
                says_who_asks(message);
            }
        }
        while let Some(message) = self.pair.core.poll_client() {
            self.bytes.1 += message.as_bytes().len();
            let again = Message::parse(message.as_str().to_owned()).expect("it is a message");
            assert_eq!(again.kind(), message.kind());
            match message.kind() {
                MessageKind::Response { id: Some(id), .. } => {
                    self.answers += usize::from(*id == RequestId::from(7));
                }
                MessageKind::Request { method, .. } => assert!(
                    ["sampling/createMessage", "elicitation/create", "roots/list"].contains(&&**method),
                    "{method}"
                ),
                _ => {}
            }
        }
        let (came, went) = self.bytes;
        assert!(went <= 16 * came + 64 * 1024, "{came} bytes became {went}");
        let core = &self.pair.core;
        for (key, call) in &core.calls {
            match &call.state {
                State::AtServer(id) => assert!(core.at_server.contains_key(id), "{key} is nowhere"),
                State::AtClient => {
                    let open: Vec<_> = call.round.as_ref().expect("it waits").open().collect();
                    assert!(!open.is_empty(), "{key} waits for nothing");
                    assert!(open.iter().all(|id| core.asked.get(id) == Some(key)));
                }
            }
        }
        assert!(core.asked.values().all(|of| core.calls.contains_key(of)));
        assert!(core.tokens.values().all(|of| core.calls.contains_key(of)));
    }

    /// All are done with it.
    fn ends(mut self) {
        let mut open: Vec<String> = self.pair.core.calls.keys().map(ToString::to_string).collect();
        open.push("7".to_owned());
        for id in open {
            self.hears(Side::Client, &cancelled(id));
        }
        self.pair.core.at_server.retain(|_, purpose| !matches!(purpose, Purpose::Ping(_)));
        assert!(self.pair.is_quiet());
        assert!(self.answers <= 1, "{} answers", self.answers);
    }
}

/// A request says once, and truly, who asks.
fn says_who_asks(request: &Message) {
    let params = request.params().expect("it has some");
    assert_eq!(names(params).iter().filter(|name| *name == "_meta").count(), 1, "{params}");
    let inner = request.param(&["_meta"]).expect("once");
    let mut known = BTreeSet::new();
    for name in names(inner) {
        assert!(known.insert(name.clone()), "{name} is there twice");
    }
    let version = request.param(&["_meta", meta::PROTOCOL_VERSION]);
    assert_eq!(version, Some(&*format!("\"{VERSION}\"")));
    assert!(request.param(&["_meta", meta::CLIENT_CAPABILITIES]).is_some_and(|json| json.starts_with('{')));
}

#[test]
fn whatever_servers_say_is_mutated_and_kept_in_order() {
    each(OF_SERVERS, |mutator, mut json| {
        let mut session = Session::new(mutator);
        for _ in 0..3 {
            if let Some(id) = session.id(mutator, Side::Server)
                && json.has("id")
            {
                json.set("id", &id);
            }
            session.hears(Side::Server, &mutator.written(&json));
            while let Some(id) = session.id(mutator, Side::Client) {
                session.hears(Side::Client, &result(id, "{}"));
                if mutator.random.once_in(3) {
                    break;
                }
            }
            if !mutator.random.once_in(3) {
                break;
            }
            json = mutator.json();
        }
        session.ends();
    });
}

#[test]
fn whatever_clients_say_is_mutated_and_kept_in_order() {
    each(OF_CLIENTS, |mutator, mut json| {
        let mut session = Session::new(mutator);
        if mutator.random.once_in(2) {
            let needs = r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"b":{"method":"roots/list"}}}"#;
            session.hears(Side::Server, &result(7, needs));
        }
        for _ in 0..3 {
            if (json.has("result") || json.has("error"))
                && let Some(id) = session.id(mutator, Side::Client)
            {
                json.set("id", &id);
            }
            session.hears(Side::Client, &mutator.written(&json));
            if !mutator.random.once_in(3) {
                break;
            }
            json = mutator.json();
        }
        session.ends();
    });
}

#[test]
fn what_is_mutated_of_a_discovery_is_refused_or_answers_initialize() {
    each(OF_SERVERS, |mutator, json| {
        let Ok(message) = Message::parse(mutator.written(&json)) else { return };
        let Ok(discovered) = Discovered::read(&message) else { return };
        let whole: Value = serde_json::from_str(message.as_str()).unwrap_or_default();
        if !whole.is_null() {
            let versions = whole["result"]["supportedVersions"].as_array().expect("there are some");
            assert!(versions.iter().any(|version| version == VERSION));
        }
        let version = *mutator.random.of(&[None, Some("2024-11-05"), Some("2026-07-28"), Some("x")]);
        let answer = discovered.initialized(&RequestId::from(1), version);
        // What is nested too deeply for this reader was passed on as it came.
        let Ok(result) = serde_json::from_str::<Value>(answer.as_str()) else { return };
        let result = &result["result"];
        assert!(LEGACY_VERSIONS.contains(&result["protocolVersion"].as_str().unwrap()));
        assert!(result["capabilities"].is_object() && result["serverInfo"].is_object());
        assert!(result["instructions"].is_string() || result.get("instructions").is_none());
    });
}

#[test]
fn what_is_mutated_of_tools_is_left_out_only_for_its_headers() {
    each(OF_SERVERS, |mutator, json| {
        let Ok(message) = Message::parse(mutator.written(&json)) else { return };
        let whole = Members::read(message.as_str()).unwrap_or_default();
        let Some(result) = whole.get("result").and_then(Members::read) else { return };
        let Some(tools) = result.get("tools") else { return };
        let Ok(tools) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(tools) else { return };
        let mut headers = ToolHeaders::default();
        if let Some(kept) = headers.learn(&result) {
            let kept: Vec<&serde_json::value::RawValue> = serde_json::from_str(&kept).expect("a list");
            let mut rest = tools.iter();
            for kept in &kept {
                let before = rest.by_ref().take_while(|tool| tool.get() != kept.get());
                for out in before {
                    let unescaped: Value = serde_json::from_str(out.get()).expect("it was read");
                    assert!(unescaped.to_string().contains("x-mcp-header"), "{unescaped}");
                }
            }
            assert!(kept.len() < tools.len());
        }
        // What is called has headers that can be sent, and that say what the arguments do.
        for tool in &tools {
            let Ok(tool) = serde_json::from_str::<Value>(tool.get()) else { continue };
            let arguments = mutator.json().to_string();
            let mut sent = http::HeaderMap::new();
            headers.of(tool["name"].as_str().unwrap_or_default(), Some(&arguments), &mut sent);
            for (name, value) in &sent {
                assert!(name.as_str().starts_with("mcp-param-"));
                assert!(decoded(value.to_str().expect("visible")).is_some());
            }
        }
    });
}

#[test]
fn what_is_mutated_of_an_error_has_a_code_that_clients_know() {
    each(OF_SERVERS, |mutator, json| {
        let Ok(message) = Message::parse(mutator.written(&json)) else { return };
        let whole = Members::read(message.as_str()).unwrap_or_default();
        let Some(error) = whole.get("error") else { return };
        let method = *mutator.random.of(&["tools/call", "resources/read", "x"]);
        let (legacy, is_refused) = for_legacy(method, error);
        let (Ok(before), Ok(after)) =
            (serde_json::from_str::<Value>(error), serde_json::from_str::<Value>(&legacy))
        else {
            return;
        };
        if Members::read(error).is_some() {
            assert!(![-32020, -32021, -32022].iter().any(|code| after["code"] == *code), "{after}");
        }
        let without = |value: &Value| {
            let mut value = value.clone();
            if let Some(members) = value.as_object_mut() {
                members.remove("code");
            }
            value
        };
        assert_eq!(without(&before), without(&after));
        assert!(!is_refused || before["code"] == -32022);
    });
}

#[test]
fn what_is_mutated_of_an_object_is_read_as_others_read_it() {
    each(OF_SERVERS, |mutator, json| {
        let text = mutator.written(&json);
        let all = names(&text);
        let has_each_once = all.iter().collect::<BTreeSet<_>>().len() == all.len();
        let value = serde_json::from_str::<Value>(&text);
        match Members::read(&text) {
            Some(members) => {
                assert!(has_each_once);
                assert_eq!(members.iter().map(|(name, _)| name).collect::<Vec<_>>(), all);
                if let Ok(value) = value {
                    assert_eq!(serde_json::from_str::<Value>(&members.write()).expect("JSON"), value);
                }
            }
            None => assert!(!has_each_once || !value.is_ok_and(|value| value.is_object())),
        }
        // And any text is a header, and comes back.
        let any: String = text.chars().skip(mutator.random.below(40)).take(30).collect();
        let header = encoded(&any);
        assert!(HeaderValue::from_str(&header).is_ok_and(|value| value.to_str().is_ok()));
        assert_eq!(decoded(&header).as_deref(), Some(&*any));
    });
}
