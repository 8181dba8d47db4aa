//! What of a session a new server has to know: how it began, its log level and its subscriptions.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderValue, request::Parts};
use mcp_sse::{ClientIp, Incoming, Message, Principal, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// The most subscriptions that are kept, and their bytes; the rest would not survive.
const SUBSCRIPTIONS: usize = 1_000;
const SUBSCRIBED_BYTES: usize = 256 * 1024;
/// The most of a log level that is kept, in bytes.
const LEVEL: usize = 256;

/// The largest parameters of an `initialize` that are kept, in bytes. They stay as long as the session.
const INITIALIZE: usize = 64 * 1024;
/// How many characters of what a server says of itself are repeated.
const SHOWN: usize = 200;

/// What is kept of a session.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The client's, which was answered with a result.
    initialize: Option<Initialize>,
    pub(super) initialized: bool,
    /// What the answer said.
    pub(super) server: Greeting,
    level: Option<Box<str>>,
    /// By their URIs, as JSON.
    subscriptions: BTreeSet<Box<str>>,
    subscribed_bytes: usize,
}

/// How a client has begun.
#[derive(Debug)]
struct Initialize {
    params: Box<RawValue>,
    head: Box<Parts>,
}

/// What a server says of itself, as JSON: as values it would take several times the memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Greeting(Box<str>);

#[derive(Default, PartialEq, Deserialize, Serialize)]
struct Says {
    version: Value,
    info: Value,
    capabilities: Value,
}

impl Greeting {
    /// The same, unless the answer is too large to be kept.
    pub(super) fn short(message: &Message) -> Option<Self> {
        (message.as_bytes().len() <= INITIALIZE).then(|| Self::of(message))
    }

    /// As the answer to `initialize` has it.
    fn of(message: &Message) -> Self {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            result: Result,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Result {
            protocol_version: Value,
            server_info: Value,
            capabilities: Value,
        }
        let answer: Option<Answer> = serde_json::from_slice(message.as_bytes()).ok();
        let Result { protocol_version, server_info, capabilities } =
            answer.map(|answer| answer.result).unwrap_or_default();
        let info = |name: &str| server_info.get(name).cloned().unwrap_or_default();
        let info = serde_json::json!([info("name"), info("version")]);
        let says = Says { version: protocol_version, info, capabilities };
        Self(serde_json::to_string(&says).unwrap_or_default().into())
    }

    fn read(&self) -> Says {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// What this server cannot do that another could, which its client may count on; else what is new about it.
    pub(super) fn against(&self, before: &Self) -> Compared {
        if self == before {
            return Compared::Same;
        }
        self.read().against(&before.read())
    }

    /// The notifications by which its client learns that lists may be others now.
    pub(super) fn changed_lists(&self) -> Vec<&'static str> {
        self.read().changed_lists().collect()
    }
}

impl Says {
    fn against(&self, before: &Self) -> Compared {
        if self.version != before.version {
            let what = format!("protocol version {} instead of {}", self.version, before.version);
            return Compared::Lost(shown(&what));
        }
        if let Some(lost) = lost(&before.capabilities, &self.capabilities, "capabilities") {
            return Compared::Lost(shown(&format!("without {lost}")));
        }
        if self == before {
            return Compared::Same;
        }
        let mut news = Vec::new();
        if self.info != before.info {
            news.push(format!("{} instead of {}", self.info, before.info));
        }
        if self.capabilities != before.capabilities {
            news.push("with other capabilities".to_owned());
        }
        Compared::Other(shown(&news.join(", ")))
    }

    fn changed_lists(&self) -> impl Iterator<Item = &'static str> + '_ {
        [
            ("tools", "notifications/tools/list_changed"),
            ("prompts", "notifications/prompts/list_changed"),
            ("resources", "notifications/resources/list_changed"),
        ]
        .into_iter()
        .filter(|(of, _)| self.capabilities[*of]["listChanged"] == Value::Bool(true))
        .map(|(_, notification)| notification)
    }
}

/// A server beside the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    Other(String),
    Lost(String),
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The first thing that is declared in `before` and not in `now`.
fn lost(before: &Value, now: &Value, path: &str) -> Option<String> {
    match before {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            if *value == Value::Bool(false) {
                return None;
            }
            match now.get(name) {
                Some(now) => lost(value, now, &path),
                None => Some(path),
            }
        }),
        Value::Bool(true) => (now != before).then(|| path.to_owned()),
        _ => None,
    }
}

/// What is kept, as another replica gets it.
#[derive(Serialize, Deserialize)]
struct Written {
    /// The parameters of `initialize`; none for a client without a handshake.
    initialize: Option<Box<RawValue>>,
    initialized: bool,
    server: Box<str>,
    level: Option<Box<str>>,
    subscriptions: Vec<Box<str>>,
}

impl Kept {
    /// For another replica.
    pub(super) fn written(&self) -> String {
        let written = Written {
            initialize: self.initialize.as_ref().map(|initialize| initialize.params.clone()),
            initialized: self.initialized,
            server: self.server.0.clone(),
            level: self.level.clone(),
            subscriptions: self.subscriptions.iter().cloned().collect(),
        };
        // All of it is text.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// What another replica has written, for a client that is here now with a request with this head; `Some(None)`: nothing is
    /// needed to be known of it.
    #[allow(clippy::option_option, reason = "taken apart at once")]
    pub(super) fn read(written: &str, head: &Parts) -> Option<Option<Self>> {
        let written: Written = serde_json::from_str(written).ok()?;
        let Some(params) = written.initialize else { return Some(None) };
        let mut kept = Self {
            initialize: Some(Initialize { params, head: Box::new(head.clone()) }),
            initialized: written.initialized,
            server: Greeting(written.server),
            ..Self::default()
        };
        kept.level(written.level);
        for uri in written.subscriptions {
            kept.subscribed(uri);
        }
        Some(Some(kept))
    }

    /// The client has begun, and the server has taken it. Returns whether that is kept.
    /// Of its head, headers are kept if they matter.
    pub(super) fn greeted(&mut self, initialize: &Incoming, answer: &Message, keeps_heads: bool) -> bool {
        let params = initialize.message.params().filter(|params| params.len() <= INITIALIZE).and_then(raw);
        let kept = params.zip(Greeting::short(answer));
        // The client may have said that it has initialized before it had the answer.
        let initialized = self.initialized;
        *self = Self { initialized, ..Self::default() };
        let Some((params, server)) = kept else { return false };
        let head = Box::new(lean(initialize.parts(), keeps_heads));
        (self.initialize, self.server) = (Some(Initialize { params, head }), server);
        true
    }

    pub(super) fn level(&mut self, level: Option<Box<str>>) {
        self.level = level.filter(|level| level.len() <= LEVEL);
    }

    /// Whether it is kept.
    pub(super) fn subscribed(&mut self, uri: Box<str>) -> bool {
        let bytes = self.subscribed_bytes + uri.len();
        if self.subscriptions.contains(&uri) {
            return true;
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS || bytes > SUBSCRIBED_BYTES {
            return false;
        }
        self.subscribed_bytes = bytes;
        self.subscriptions.insert(uri);
        true
    }

    pub(super) fn unsubscribed(&mut self, uri: &str) {
        if self.subscriptions.remove(uri) {
            self.subscribed_bytes -= uri.len();
        }
    }

    pub(super) fn has_subscriptions(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// The client's `initialize`, with an id of ours; `None` if there was none.
    pub(super) fn initialize(&self, id: &RequestId) -> Option<Message> {
        request(id, "initialize", &self.initialize.as_ref()?.params)
    }

    /// The head of the request that it came with.
    pub(super) fn head(&self) -> Option<&Parts> {
        self.initialize.as_ref().map(|initialize| &*initialize.head)
    }

    /// How many requests are needed to tell a new server the rest.
    pub(super) fn told(&self) -> usize {
        usize::from(self.level.is_some()) + self.subscriptions.len()
    }

    /// What else a new server has to be told, with ids of ours.
    pub(super) fn rest(&self, mut id: impl FnMut() -> Option<RequestId>) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.initialized {
            messages.extend(notification("notifications/initialized"));
        }
        let level = self.level.as_deref().map(|level| ("logging/setLevel", "level", level));
        let subscriptions = self.subscriptions.iter().map(|uri| ("resources/subscribe", "uri", &**uri));
        for (method, name, value) in level.into_iter().chain(subscriptions) {
            let params = raw(value).map(|value| BTreeMap::from([(name, value)]));
            messages.extend(id().zip(params).and_then(|(id, params)| request(&id, method, &params)));
        }
        messages
    }
}

/// Whether what was kept is that of a client without a handshake.
pub(super) fn is_stateless(written: &str) -> bool {
    serde_json::from_str::<Written>(written).is_ok_and(|written| written.initialize.is_none())
}

/// What a server is started with, of the head of a request. It stays for long, so it is a copy of its own: as it came, it
/// holds all that was read with it.
pub(super) fn lean(head: &Parts, keeps_headers: bool) -> Parts {
    let (mut lean, ()) = http::Request::new(()).into_parts();
    if keeps_headers {
        let copied = head.headers.iter().filter_map(|(name, value)| {
            let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            copy.set_sensitive(value.is_sensitive());
            Some((name.clone(), copy))
        });
        lean.headers.extend(copied);
    }
    let extensions = &head.extensions;
    extensions.get::<Principal>().cloned().map(|principal| lean.extensions.insert(principal));
    extensions.get::<ClientIp>().copied().map(|address| lean.extensions.insert(address));
    lean
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

fn request(id: &RequestId, method: &str, params: &impl serde::Serialize) -> Option<Message> {
    Message::request(id.clone(), method, params).ok()
}

/// A notification without parameters.
pub(super) fn notification(method: &str) -> Option<Message> {
    Message::parse(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn greeting(version: &str, name: &str, capabilities: &Value) -> Greeting {
        let result = json!({ "protocolVersion": version, "serverInfo": { "name": name, "version": "1" }, "capabilities": capabilities });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "result": result });
        Greeting::of(&Message::parse(message.to_string()).unwrap())
    }

    #[test]
    fn a_server_that_can_do_less_is_another_one() {
        let all =
            json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {} });
        let before = greeting("2024-11-05", "a", &all);
        assert_eq!(before.against(&before), Compared::Same);
        let more = json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {}, "prompts": {} });
        assert_eq!(
            greeting("2024-11-05", "a", &more).against(&before),
            Compared::Other("with other capabilities".to_owned())
        );
        assert_eq!(
            greeting("2024-11-05", "b", &all).against(&before),
            Compared::Other(r#"["b","1"] instead of ["a","1"]"#.to_owned())
        );
        for (less, what) in [
            (
                json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true } }),
                "without capabilities.logging",
            ),
            (
                json!({ "tools": {}, "resources": { "subscribe": true }, "logging": {} }),
                "without capabilities.tools.listChanged",
            ),
            (
                json!({ "tools": { "listChanged": false }, "resources": { "subscribe": true }, "logging": {} }),
                "without capabilities.tools.listChanged",
            ),
        ] {
            assert_eq!(greeting("2024-11-05", "a", &less).against(&before), Compared::Lost(what.to_owned()));
        }
        assert!(matches!(greeting("2025-06-18", "a", &all).against(&before), Compared::Lost(_)));
        assert_eq!(before.changed_lists(), ["notifications/tools/list_changed"]);
    }
}
