//! The translator for a legacy client at a modern server, without IO: messages and times in, messages out.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the state of a session, and the messages that are written |
//! | `asking` | the client's messages |
//! | `answering` | the server's messages |
//! | `client` | what the client has said of itself, which the server hears with each request |
//! | `rounds` | what a server needs of the client before it answers a call |
//! | `listening` | what the client is told of changes |
//! | `errors` | errors of the server, as the client knows them |
//!
//! Invariants:
//! - Each request of the client is answered once, or was cancelled by it, however many rounds it takes.
//! - The server's `requestState` and our own requests never reach the client.
//! - What needs no change is passed on as it came.

mod answering;
mod asking;
mod client;
mod errors;
mod listening;
mod rounds;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use http::request::Parts;
use mcp_sse::{Incoming, Message, RequestId};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    client::Client,
    errors::for_legacy,
    listening::{Follows, Listening},
    rounds::{Asks, Round},
};
use super::{discovered::Discovered, own_ids::OwnIds, tool_headers::ToolHeaders};
use crate::message::{
    members::{Members, with_id},
    modern::{self, Headers, code},
};

/// How many pages of a list of tools are read again for one call.
const PAGES: u32 = 32;
/// How many rounds a call may take.
const ROUNDS: u32 = 1_000;
/// The most that the rounds of a session may keep at once, in bytes.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// The longest token of a request whose progress is told, in bytes.
const TOKEN_BYTES: usize = 1024;
/// How many messages may wait for a server that asks what it may not ask.
const REFUSALS: usize = 16;
/// How often in a row a server may want a call to be repeated without anything new.
const REPEATS: u32 = 100;

/// The question which revisions a server speaks; over HTTP, with the head of a request of its client.
pub(crate) fn discover(id: &RequestId, head: Option<&Parts>) -> Incoming {
    let stamped = Client::unknown().stamp(None).unwrap_or_default();
    // Its parameters are made of JSON.
    let message = Message::request(id.clone(), "server/discover", &stamped);
    let message = message.unwrap_or_else(|_| Message::error(id, code::INTERNAL_ERROR, "cannot be written"));
    let mut parts = head.cloned().unwrap_or_else(|| http::Request::new(()).into_parts().0);
    parts.extensions.insert(Headers(modern::headers_of(&message)));
    Incoming::new(message, parts)
}

/// The translator of one session.
pub(crate) struct Core {
    discovered: Discovered,
    /// Headers say again what requests say; a request is cancelled by closing its response.
    over_http: bool,
    client: Client,
    /// The client's requests, by the ids that it knows.
    calls: HashMap<RequestId, Call>,
    /// What the server has of us, by the ids that it knows.
    at_server: HashMap<RequestId, Purpose>,
    /// What the client is asked, by the ids that it knows: for which of its calls.
    asked: HashMap<RequestId, RequestId>,
    /// The tokens of the client's requests.
    tokens: HashMap<Token, RequestId>,
    listening: Listening,
    tool_headers: ToolHeaders,
    /// That of the client's last request, for ours.
    head: Box<Parts>,
    to_server: VecDeque<Incoming>,
    to_client: VecDeque<Message>,
    refuses_revision: bool,
    /// Our ids at the server and at the client: neither can tell those of the other.
    ids: OwnIds,
    ids_at_client: OwnIds,
    next: u64,
}

/// Why the server has a request.
enum Purpose {
    Call(RequestId),
    Ping(RequestId),
    Listen,
    /// The tools are read again, for a call.
    Tools {
        of: RequestId,
        page: u32,
    },
}

/// Who an id is for.
#[derive(Clone, Copy)]
enum Side {
    Server,
    Client,
}

/// What a client knows the progress of a request by. Servers may write it in another way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Token {
    Text(Box<str>),
    Integer(i64),
    /// Its bits.
    Number(u64),
}

impl Token {
    /// Of this JSON; `None` if it is no token, or too long for one.
    fn read(json: &str) -> Option<Self> {
        if json.len() > TOKEN_BYTES {
            return None;
        }
        match serde_json::from_str(json).ok()? {
            Value::String(text) => Some(Self::Text(text.into())),
            Value::Number(number) => number.as_i64().map(Self::Integer).or_else(|| {
                let float = number.as_f64()?;
                let integer: Option<i64> = shortest(float).parse().ok();
                Some(integer.map_or(Self::Number(float.to_bits()), Self::Integer))
            }),
            _ => None,
        }
    }
}

/// A request of the client that is not answered yet.
struct Call {
    method: Box<str>,
    /// As the client has asked, if there may be another round.
    asked: Option<Message>,
    head: Option<Box<Parts>>,
    token: Option<Token>,
    /// What is added to the progress of this round, and what the client has seen last.
    offset: f64,
    progress: f64,
    state: State,
    /// What the client is asked now, or what it has answered, which the server has.
    round: Option<Round>,
    rounds: u32,
    /// Rounds without anything new, in a row.
    repeats: u32,
    /// Its headers were wrong once, and the tools were read again.
    is_relisted: bool,
}

enum State {
    /// The server has it, by this id; or reads its list of tools to us for it.
    AtServer(RequestId),
    AtClient,
}

impl Core {
    pub(crate) fn new(discovered: Discovered, over_http: bool, head: Parts) -> Self {
        Self {
            listening: Listening::new(discovered.lists),
            discovered,
            over_http,
            client: Client::unknown(),
            calls: HashMap::new(),
            at_server: HashMap::new(),
            asked: HashMap::new(),
            tokens: HashMap::new(),
            tool_headers: ToolHeaders::default(),
            head: Box::new(head),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            refuses_revision: false,
            ids: OwnIds::default(),
            ids_at_client: OwnIds::default(),
            next: 0,
        }
    }

    /// The next message for the server.
    pub(crate) fn poll_server(&mut self) -> Option<Incoming> {
        self.to_server.pop_front()
    }

    /// The next message for the client.
    pub(crate) fn poll_client(&mut self) -> Option<Message> {
        self.to_client.pop_front()
    }

    /// How many messages wait for the server, and for the client.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.to_server.len(), self.to_client.len())
    }

    /// When [`due`](Self::due) has to be called, if nothing else comes before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.listening.deadline()
    }

    /// The deadline has passed.
    pub(crate) fn due(&mut self, now: Instant) {
        if let Some(id) = self.listening.is_late(now) {
            let error =
                r#"{"code":-32603,"message":"the server does not say whether it will tell of changes"}"#;
            self.at_server.remove(&id);
            self.give_up(&id, None);
            self.heard_out(&id, Some(error), now);
        }
        self.listen(now);
    }

    /// Whether the server refuses the revision that it was found to speak.
    pub(crate) fn refuses_revision(&self) -> bool {
        self.refuses_revision
    }

    /// A message for the server, with the headers that it needs.
    fn outgoing(&self, message: Message, head: Option<&Parts>) -> Incoming {
        if !self.over_http {
            return Incoming::new(message, http::Request::new(()).into_parts().0);
        }
        let mut parts = head.unwrap_or(&self.head).clone();
        // What of a call is too long was refused before.
        parts.extensions.insert(Headers(self.tool_headers.headers(&message).unwrap_or_default()));
        Incoming::new(message, parts)
    }

    /// A request of our own.
    fn request(&self, id: &RequestId, method: &str, params: Option<&Value>) -> Option<Incoming> {
        let params = params.map(Value::to_string);
        let stamped = self.client.stamp(params.as_deref())?;
        let message = Message::request(id.clone(), method, &stamped).ok()?;
        Some(self.outgoing(message, None))
    }

    /// Sends a call to the server, by this id, with what the client has answered so far; whether that can be.
    fn sends(&mut self, of: &RequestId, id: &RequestId, head: Option<&Parts>) -> Result<(), String> {
        let unlike = || "params must be an object, and _meta in it as well, with each name once".to_owned();
        let Some(Call { method, asked: Some(asked), head: own_head, round, .. }) = self.calls.get(of) else {
            return Err("this call cannot be repeated".to_owned());
        };
        let message = match round {
            None => with_id(asked, id).and_then(|asked| self.client.stamped(&asked)),
            Some(round) => self.client.stamp(asked.params()).and_then(|mut params| {
                round.put(&mut params);
                Message::request(id.clone(), method, &params).ok()
            }),
        };
        let message = message.ok_or_else(unlike)?;
        if self.over_http {
            self.tool_headers.headers(&message)?;
        }
        let outgoing = self.outgoing(message, head.or(own_head.as_deref()));
        self.at_server.insert(id.clone(), Purpose::Call(of.clone()));
        self.to_server.push_back(outgoing);
        if let Some(call) = self.calls.get_mut(of) {
            call.state = State::AtServer(id.clone());
        }
        Ok(())
    }

    /// Another round of a call.
    fn repeat(&mut self, of: &RequestId, head: Option<&Parts>) {
        let id = self.own_id(Side::Server);
        if let Some(call) = self.calls.get_mut(of) {
            call.offset = call.progress.max(0.0);
        }
        if let Err(why) = self.sends(of, &id, head) {
            self.remove(of);
            self.refuse(of, code::INVALID_PARAMS, &why);
        }
    }

    /// An id for the server, or for the client.
    fn own_id(&mut self, side: Side) -> RequestId {
        self.next += 1;
        match side {
            Side::Server => self.ids.id(self.next),
            Side::Client => self.ids_at_client.id(self.next),
        }
    }

    /// What the rounds of all calls keep, in bytes.
    fn kept(&self) -> usize {
        self.calls.values().filter_map(|call| call.round.as_ref()).map(Round::bytes).sum()
    }

    fn refuse(&mut self, id: &RequestId, code: i32, text: &str) {
        self.to_client.push_back(Message::error(id, code, text));
    }

    /// What was asked for is done.
    fn grant(&mut self, id: &RequestId) {
        self.to_client.extend(Message::result(id, &json!({})));
    }

    /// Asks for what the client wants to hear, if that is due.
    fn listen(&mut self, now: Instant) {
        for id in self.listening.settled() {
            self.grant(&id);
        }
        while self.listening.is_due(now) {
            let follows = match self.listening.filter() {
                None => self.listening.opens(None, now),
                Some(filter) => {
                    let id = self.own_id(Side::Server);
                    let Some(request) = self.request(&id, "subscriptions/listen", Some(&filter)) else {
                        return;
                    };
                    self.at_server.insert(id.clone(), Purpose::Listen);
                    self.to_server.push_back(request);
                    self.listening.opens(Some(id), now)
                }
            };
            self.follows(follows);
        }
    }

    fn follows(&mut self, follows: Follows) {
        for (id, is_granted) in follows.answered {
            if is_granted {
                self.grant(&id);
            } else {
                self.refuse(
                    &id,
                    code::INVALID_PARAMS,
                    "the server does not tell of changes of this resource",
                );
            }
        }
        if let Some(id) = follows.ended {
            self.at_server.remove(&id);
            self.give_up(&id, None);
        }
        if let Some((lists, uris)) = follows.missed {
            for (list, changes) in
                [("tools", lists.tools), ("prompts", lists.prompts), ("resources", lists.resources)]
            {
                let method = format!("notifications/{list}/list_changed");
                self.to_client
                    .extend(changes.then(|| Message::notification(&method, &())).and_then(Result::ok));
            }
            for uri in uris {
                let params = json!({ "uri": uri });
                self.to_client.extend(Message::notification("notifications/resources/updated", &params));
            }
        }
    }

    /// The server need not answer this request any more.
    fn give_up(&mut self, id: &RequestId, reason: Option<String>) {
        let mut params = Members::default();
        params.set_json("requestId", &id.to_string());
        if let Some(reason) = reason {
            params.set_json("reason", &reason);
        }
        if let Ok(message) = Message::notification("notifications/cancelled", &params) {
            let outgoing = self.outgoing(message, None);
            self.to_server.push_back(outgoing);
        }
    }

    /// A call is over.
    fn remove(&mut self, id: &RequestId) -> Option<Call> {
        let call = self.calls.remove(id)?;
        if let Some(token) = &call.token
            && self.tokens.get(token) == Some(id)
        {
            self.tokens.remove(token);
        }
        Some(call)
    }

    /// What the client was asked is not needed any more.
    fn withdraw(&mut self, round: &Round) {
        for asked in round.open() {
            self.asked.remove(asked);
            let mut params = Members::default();
            params.set_json("requestId", &asked.to_string());
            self.to_client.extend(Message::notification("notifications/cancelled", &params));
        }
    }

    /// Answers the client with an error, which is JSON.
    fn fail(&mut self, id: &RequestId, error: &str) {
        let mut members = Members::default();
        members.set("jsonrpc", "2.0");
        members.set_json("id", &id.to_string());
        members.set_json("error", error);
        let message = members.message();
        self.to_client
            .push_back(message.unwrap_or_else(|| Message::error(id, code::INTERNAL_ERROR, "failed")));
    }
}

/// A number as JSON, without a fraction if it has none.
fn shortest(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{number:.0}")
    } else {
        json!(number).to_string()
    }
}
