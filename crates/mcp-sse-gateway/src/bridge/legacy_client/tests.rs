//! The translator against what it promises: each row of the table between the eras to the byte, what hostile ones on either
//! side can do to it, and random sequences against a model.

mod hostile;
mod listens;
mod model;
mod mutated;
mod rows;

use http::{HeaderValue, request::Parts};
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{super::discovered::Discovered, Core, Purpose, Side, State};
use crate::{clock, message::modern::Headers};

/// A generator of numbers that is the same each time.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03)
    }

    fn below(&mut self, bound: usize) -> usize {
        // Numerical Recipes.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).unwrap()
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn parse(json: impl Into<String>) -> Message {
    let json = json.into();
    Message::parse(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn no_head() -> Parts {
    http::Request::new(()).into_parts().0
}

fn discovered(capabilities: &Value) -> Discovered {
    let result = json!({
        "supportedVersions": ["2026-07-28"],
        "capabilities": capabilities,
        "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "s", "version": "1" } },
    });
    Discovered::read(&parse(json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string())).unwrap()
}

/// A server that tells of all changes.
fn all() -> Value {
    json!({
        "logging": {}, "tools": { "listChanged": true }, "prompts": {}, "resources": { "subscribe": true },
    })
}

/// What the client of these tests says of itself.
const CAPABILITIES: &str = r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}"#;
const INFO: &str = r#"{"name":"c","version":"1"}"#;
/// And what its server hears of it with each request.
const SAID: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}},"#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}"#
);

/// A translator, with what it says in messages that can be compared: ids of its own are `own-1`, `own-2` and so on.
struct Pair {
    core: Core,
    now: Instant,
    over_http: bool,
}

impl Pair {
    /// Of a client that has not begun.
    fn silent(capabilities: &Value, over_http: bool) -> Self {
        let core = Core::new(discovered(capabilities), over_http, no_head());
        Self { core, now: clock::now(), over_http }
    }

    /// Of a client that has sent its `initialize`.
    fn new(capabilities: &Value, over_http: bool) -> Self {
        let mut pair = Self::silent(capabilities, over_http);
        let initialize = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{CAPABILITIES},"clientInfo":{INFO}}}}}"#
        );
        assert_eq!(pair.client(initialize).1.len(), 1);
        pair
    }

    /// What our ids begin with at this side.
    fn stem(&self, side: Side) -> String {
        match side {
            Side::Server => self.core.ids.prefix(),
            Side::Client => self.core.ids_at_client.prefix(),
        }
    }

    fn named(&self, message: &Message) -> String {
        let json = message.as_str().replace(&self.stem(Side::Server), "own-");
        json.replace(&self.stem(Side::Client), "own-")
    }

    fn unnamed(&self, json: &str, side: Side) -> String {
        json.replace("own-", &self.stem(side))
    }

    /// What waits for the server, and for the client.
    fn said(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while let Some(incoming) = self.core.poll_server() {
            to_server.push(self.named(&incoming.message));
        }
        while let Some(message) = self.core.poll_client() {
            to_client.push(self.named(&message));
        }
        (to_server, to_client)
    }

    /// The client says this; what follows for the server, and for the client.
    fn client(&mut self, json: impl AsRef<str>) -> (Vec<String>, Vec<String>) {
        let message = parse(self.unnamed(json.as_ref(), Side::Client));
        self.core.client(Incoming::new(message, no_head()), self.now);
        self.said()
    }

    /// The same of the server.
    fn server(&mut self, json: impl AsRef<str>) -> (Vec<String>, Vec<String>) {
        let message = parse(self.unnamed(json.as_ref(), Side::Server));
        self.core.server(message, self.now);
        self.said()
    }

    /// A call with this id, for which only the server is told.
    fn calls(&mut self, id: impl std::fmt::Display) {
        let (to_server, to_client) =
            self.client(request(id, "tools/call", r#"{"name":"t","arguments":{"a": 1.0}}"#));
        assert_eq!((to_server.len(), to_client.len()), (1, 0));
    }

    /// No request is open, and nothing of one is kept.
    fn is_quiet(&self) -> bool {
        let only_listens = self.core.at_server.values().all(|purpose| matches!(purpose, Purpose::Listen));
        self.core.calls.is_empty()
            && self.core.asked.is_empty()
            && self.core.tokens.is_empty()
            && only_listens
    }
}

fn request(id: impl std::fmt::Display, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn result(id: impl std::fmt::Display, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn error(id: impl std::fmt::Display, error: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

fn cancelled(id: impl std::fmt::Display) -> String {
    notification("notifications/cancelled", &format!(r#"{{"requestId":{id}}}"#))
}

/// Nothing for the server, and this for the client.
fn for_client<const N: usize>(messages: [String; N]) -> (Vec<String>, Vec<String>) {
    (Vec::new(), messages.into())
}

/// This for the server, and nothing for the client.
fn for_server<const N: usize>(messages: [String; N]) -> (Vec<String>, Vec<String>) {
    (messages.into(), Vec::new())
}

fn nothing() -> (Vec<String>, Vec<String>) {
    (Vec::new(), Vec::new())
}
