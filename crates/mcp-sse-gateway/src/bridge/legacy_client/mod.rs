//! The translator for a legacy client at a modern server, without IO: messages and times in, messages out.
//!
//! | room | what lives there |
//! |---|---|
//! | here | what becomes of each message |
//! | `client` | what the client has said of itself, which the server hears with each request |
//! | `rounds` | what a server needs of the client before it answers a call |
//! | `listening` | what the client is told of changes |
//! | `errors` | errors of the server, as the client knows them |
//!
//! Invariants:
//! - Each request of the client is answered once, or was cancelled by it, however many rounds it takes.
//! - The server's `requestState` and our own requests never reach the client.
//! - What needs no change is passed on as it came.

mod client;
mod errors;
mod listening;
mod rounds;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use http::{HeaderMap, HeaderValue, request::Parts};
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    client::Client,
    errors::for_legacy,
    listening::{Follows, Listening},
    rounds::{Asks, Round},
};
use super::{discovered::Discovered, tool_headers::ToolHeaders};
use crate::{
    backend::remote::Headers,
    message::{
        members::{Members, with_id},
        modern::{LOG_LEVELS, code, encoded, header, meta, name_parameter},
    },
};

/// How many pages of a list of tools are read again for one call.
const PAGES: u32 = 32;
/// How often in a row a server may want a call to be repeated without anything new.
const REPEATS: u32 = 100;

/// The question which revisions a server speaks; over HTTP, with the head of a request of its client.
pub(super) fn discover(id: &RequestId, head: Option<&Parts>) -> Incoming {
    let stamped = Client::unknown().stamp(None).unwrap_or_default();
    // Its parameters are made of JSON.
    let message = Message::request(id.clone(), "server/discover", &stamped);
    let message = message.unwrap_or_else(|_| Message::error(id, code::INTERNAL_ERROR, "cannot be written"));
    let mut parts = head.cloned().unwrap_or_else(|| http::Request::new(()).into_parts().0);
    parts.extensions.insert(Headers(headers_of(&message, None)));
    Incoming::new(message, parts)
}

/// The headers that say again what a message says.
fn headers_of(message: &Message, tools: Option<&ToolHeaders>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let method = message.method().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(method) {
        headers.insert(header::METHOD, value);
    }
    let text = |name: &str| -> Option<String> { serde_json::from_str(message.param(&[name])?).ok() };
    let name = name_parameter(method).and_then(text);
    if let Some(name) = &name
        && let Ok(value) = HeaderValue::from_str(&encoded(name))
    {
        headers.insert(header::NAME, value);
    }
    if method == "tools/call"
        && let (Some(tool), Some(tools)) = (&name, tools)
    {
        tools.of(tool, message.param(&["arguments"]), &mut headers);
    }
    headers
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
    /// The tokens of the client's requests, as JSON.
    tokens: HashMap<Box<str>, RequestId>,
    listening: Listening,
    tool_headers: ToolHeaders,
    /// That of the client's last request, for ours.
    head: Box<Parts>,
    to_server: VecDeque<Incoming>,
    to_client: VecDeque<Message>,
    refuses_revision: bool,
    mark: u64,
    next: u64,
}

/// Why the server has a request.
enum Purpose {
    Call(RequestId),
    Ping(RequestId),
    Listen,
    /// The tools are read again, for a call.
    Tools { of: RequestId, page: u32 },
}

/// A request of the client that is not answered yet.
struct Call {
    method: Box<str>,
    /// As the server has got it, for another round.
    sent: Message,
    head: Option<Box<Parts>>,
    token: Option<Box<str>>,
    /// What is added to the progress of this round, and what the client has seen last.
    offset: f64,
    progress: f64,
    state: State,
    /// Rounds without anything new, in a row.
    repeats: u32,
    /// Its headers were wrong once, and the tools were read again.
    is_relisted: bool,
}

enum State {
    /// The server has it, by this id; or reads its list of tools to us for it.
    AtServer(RequestId),
    AtClient(Round),
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
            mark: RandomState::new().build_hasher().finish(),
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
        self.listen(now);
    }

    /// Whether the server refuses the revision that it was found to speak.
    pub(crate) fn refuses_revision(&self) -> bool {
        self.refuses_revision
    }

    /// A message of the client.
    pub(crate) fn client(&mut self, incoming: Incoming, now: Instant) {
        if self.over_http {
            *self.head = incoming.parts().clone();
        }
        match incoming.message.kind() {
            MessageKind::Request { id, method } => {
                let (id, method) = (id.clone(), method.clone());
                self.asks(id, &method, incoming, now);
            }
            MessageKind::Notification { method } => match &**method {
                "notifications/initialized" => self.begins(now),
                "notifications/cancelled" => {
                    if let Some(id) = incoming.message.cancelled_id() {
                        self.cancels(&id, &incoming.message);
                    }
                }
                // About what a modern server does not have: requests of its own, and roots that it has not asked for.
                "notifications/progress" | "notifications/roots/list_changed" => {}
                _ => self.to_server.push_back(incoming),
            },
            MessageKind::Response { id: Some(id), .. } => {
                let id = id.clone();
                self.answers(&id, &incoming);
            }
            MessageKind::Response { id: None, .. } => {}
        }
    }

    /// The client asks.
    fn asks(&mut self, id: RequestId, method: &str, incoming: Incoming, now: Instant) {
        let message = &incoming.message;
        if self.calls.contains_key(&id) || self.at_server.contains_key(&id) {
            return self.refuse(&id, code::INVALID_REQUEST, "another request with this id is not answered yet");
        }
        match method {
            "initialize" => {
                let Some(client) = Client::read(message) else {
                    let text = "the capabilities and the clientInfo of initialize must have at most 65,536 bytes";
                    return self.refuse(&id, code::INVALID_PARAMS, text);
                };
                self.client = client;
                let version: Option<String> =
                    message.param(&["protocolVersion"]).and_then(|json| serde_json::from_str(json).ok());
                self.to_client.push_back(self.discovered.initialized(&id, version.as_deref()));
            }
            // Over HTTP there is no server that could be stuck between two requests.
            "ping" if self.over_http => self.grant(&id),
            "ping" => {
                let own = self.own_id();
                if let Some(discover) = self.request(&own, "server/discover", None) {
                    self.at_server.insert(own, Purpose::Ping(id));
                    self.to_server.push_back(discover);
                }
            }
            "logging/setLevel" if self.discovered.logs => {
                let level: Option<String> =
                    message.param(&["level"]).and_then(|json| serde_json::from_str(json).ok());
                match LOG_LEVELS.into_iter().find(|known| level.as_deref() == Some(known)) {
                    Some(level) => {
                        self.client.set_level(level);
                        self.grant(&id);
                    }
                    None => {
                        let text = format!("level must be one of {}", LOG_LEVELS.join(", "));
                        self.refuse(&id, code::INVALID_PARAMS, &text);
                    }
                }
            }
            "resources/subscribe" | "resources/unsubscribe" if self.discovered.subscribes => {
                let uri = message.param(&["uri"]).and_then(|json| serde_json::from_str::<String>(json).ok());
                match uri {
                    None => self.refuse(&id, code::INVALID_PARAMS, "uri must be the URI of a resource"),
                    Some(uri) if method == "resources/unsubscribe" => {
                        self.listening.unsubscribe(&uri);
                        self.grant(&id);
                    }
                    Some(uri) => {
                        if !self.listening.subscribe(id.clone(), uri) {
                            self.refuse(&id, code::INVALID_REQUEST, "this session has too many subscriptions");
                        }
                    }
                }
                self.listen(now);
            }
            "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
                self.refuse(&id, code::METHOD_NOT_FOUND, "the server does not declare this capability");
            }
            _ => {
                self.begins(now);
                self.passes(id, method, incoming);
            }
        }
    }

    /// The client's request goes to the server.
    fn passes(&mut self, id: RequestId, method: &str, incoming: Incoming) {
        let Some(sent) = self.client.stamped(&incoming.message) else {
            let text = "params must be an object, and _meta in it as well, with each name once";
            return self.refuse(&id, code::INVALID_PARAMS, text);
        };
        let token = sent.param(&["_meta", "progressToken"]).map(Box::from);
        if let Some(token) = &token {
            self.tokens.insert(Box::clone(token), id.clone());
        }
        let head = self.over_http.then(|| Box::new(incoming.parts().clone()));
        let call = Call {
            method: method.into(),
            sent,
            head,
            token,
            offset: 0.0,
            progress: f64::NEG_INFINITY,
            state: State::AtServer(id.clone()),
            repeats: 0,
            is_relisted: false,
        };
        let message = call.sent.clone();
        let outgoing = self.outgoing(message, call.head.as_deref());
        self.at_server.insert(id.clone(), Purpose::Call(id.clone()));
        self.calls.insert(id, call);
        self.to_server.push_back(outgoing);
    }

    /// A message for the server, with the headers that it needs.
    fn outgoing(&self, message: Message, head: Option<&Parts>) -> Incoming {
        if !self.over_http {
            return Incoming::new(message, http::Request::new(()).into_parts().0);
        }
        let mut parts = head.unwrap_or(&self.head).clone();
        parts.extensions.insert(Headers(headers_of(&message, Some(&self.tool_headers))));
        Incoming::new(message, parts)
    }

    /// A request of our own.
    fn request(&self, id: &RequestId, method: &str, params: Option<&Value>) -> Option<Incoming> {
        let params = params.map(Value::to_string);
        let stamped = self.client.stamp(params.as_deref())?;
        let message = Message::request(id.clone(), method, &stamped).ok()?;
        Some(self.outgoing(message, None))
    }

    fn own_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId::from(&*format!("mcp-sse-bridge-{:016x}-{}", self.mark, self.next))
    }

    fn refuse(&mut self, id: &RequestId, code: i32, text: &str) {
        self.to_client.push_back(Message::error(id, code, text));
    }

    /// What was asked for is done.
    fn grant(&mut self, id: &RequestId) {
        self.to_client.extend(Message::result(id, &json!({})));
    }

    fn begins(&mut self, now: Instant) {
        self.listening.begins();
        self.listen(now);
    }

    /// Asks for what the client wants to hear, if that is due.
    fn listen(&mut self, now: Instant) {
        while self.listening.is_due(now) {
            let follows = match self.listening.filter() {
                None => self.listening.opens(None),
                Some(filter) => {
                    let id = self.own_id();
                    let Some(request) = self.request(&id, "subscriptions/listen", Some(&filter)) else { return };
                    self.at_server.insert(id.clone(), Purpose::Listen);
                    self.to_server.push_back(request);
                    self.listening.opens(Some(id))
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
                self.refuse(&id, code::INVALID_PARAMS, "the server does not tell of changes of this resource");
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
                self.to_client.extend(changes.then(|| Message::notification(&method, &())).and_then(Result::ok));
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

    /// The client does not want an answer any more.
    fn cancels(&mut self, id: &RequestId, message: &Message) {
        self.listening.cancelled(id);
        let Some(call) = self.remove(id) else { return };
        match call.state {
            State::AtServer(at) => {
                self.at_server.remove(&at);
                self.give_up(&at, message.param(&["reason"]).map(str::to_owned));
            }
            State::AtClient(round) => self.withdraw(&round),
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

    /// The client answers what it was asked.
    fn answers(&mut self, id: &RequestId, incoming: &Incoming) {
        let Some(of) = self.asked.remove(id) else { return };
        let Some(Call { state: State::AtClient(round), .. }) = self.calls.get_mut(&of) else { return };
        let answer = Members::read(incoming.message.as_str()).unwrap_or_default();
        let Some(result) = answer.get("result") else {
            // The server has no way to hear of it; so the call has failed, for this reason.
            let error = answer.get("error").unwrap_or(r#"{"code":-32603,"message":"it has no result"}"#);
            if let Some(Call { state: State::AtClient(round), .. }) = self.remove(&of) {
                self.withdraw(&round);
            }
            self.fail(&of, error);
            return;
        };
        if round.answered(id, result) {
            self.repeat(&of, Some(incoming.parts()));
        }
    }

    /// Answers the client with an error, which is JSON.
    fn fail(&mut self, id: &RequestId, error: &str) {
        let mut members = Members::default();
        members.set("jsonrpc", "2.0");
        members.set_json("id", &id.to_string());
        members.set_json("error", error);
        let message = members.message();
        self.to_client.push_back(message.unwrap_or_else(|| Message::error(id, code::INTERNAL_ERROR, "failed")));
    }

    /// Another round of a call.
    fn repeat(&mut self, id: &RequestId, head: Option<&Parts>) {
        let own = self.own_id();
        let Some(call) = self.calls.get_mut(id) else { return };
        let State::AtClient(round) = &call.state else { return };
        let params = call.sent.params().unwrap_or("{}");
        let next = Members::read(params).and_then(|mut params| {
            round.put(&mut params);
            Message::request(own.clone(), &call.method, &params).ok()
        });
        let Some(next) = next else {
            // It was written here.
            self.remove(id);
            return self.refuse(id, code::INTERNAL_ERROR, "the next round of this call cannot be written");
        };
        call.state = State::AtServer(own.clone());
        call.offset = call.progress.max(0.0);
        let head = head.or(call.head.as_deref()).filter(|_| self.over_http).cloned();
        let outgoing = self.outgoing(next, head.as_ref());
        self.at_server.insert(own, Purpose::Call(id.clone()));
        self.to_server.push_back(outgoing);
    }

    /// A message of the server.
    pub(crate) fn server(&mut self, message: Message, now: Instant) {
        match message.kind() {
            MessageKind::Response { id: Some(id), is_error } => {
                let (id, is_error) = (id.clone(), *is_error);
                match self.at_server.remove(&id) {
                    Some(Purpose::Call(of)) => self.answered(&of, &message, is_error),
                    Some(Purpose::Ping(of)) => self.grant(&of),
                    Some(Purpose::Listen) => self.heard_out(&id, &message, is_error, now),
                    Some(Purpose::Tools { of, page }) => self.listed(&of, page, &message, is_error),
                    // It was cancelled.
                    None => {}
                }
            }
            MessageKind::Response { id: None, .. } => {}
            // No modern server asks like this.
            MessageKind::Request { id, .. } => {
                let error = Message::error(id, code::METHOD_NOT_FOUND, "servers of this revision ask by results");
                let outgoing = self.outgoing(error, None);
                self.to_server.push_back(outgoing);
            }
            MessageKind::Notification { method } => match &**method {
                "notifications/progress" => self.progresses(message),
                "notifications/subscriptions/acknowledged" => self.acknowledged(&message, now),
                "notifications/cancelled" => {}
                _ if message.param(&["_meta", meta::SUBSCRIPTION_ID]).is_none() => {
                    self.to_client.push_back(message);
                }
                _ => {
                    if subscription(&message).is_some_and(|id| self.listening.is_heard(&id)) {
                        self.changed(message);
                    }
                }
            },
        }
    }

    /// The server has answered a call.
    fn answered(&mut self, of: &RequestId, message: &Message, is_error: bool) {
        let Some(call) = self.calls.get_mut(of) else { return };
        let unread = || Message::error(of, code::INTERNAL_ERROR, "the server's answer has a name twice");
        let is_plain = !is_error
            && call.method.as_ref() != "tools/list"
            && memchr::memmem::find(message.as_bytes(), b"resultType").is_none()
            && memchr::memmem::find(message.as_bytes(), b"\\u").is_none();
        if is_plain {
            self.remove(of);
            let answer = if message.id() == Some(of) { Some(message.clone()) } else { with_id(message, of) };
            return self.to_client.push_back(answer.unwrap_or_else(unread));
        }
        let Some(mut whole) = Members::read(message.as_str()) else {
            self.remove(of);
            return self.to_client.push_back(unread());
        };
        if is_error {
            let error = whole.get("error").unwrap_or_default();
            if self.over_http && self.reads_tools_again(of, error) {
                return;
            }
            let Some(call) = self.remove(of) else { return };
            let (error, is_refused) = for_legacy(&call.method, error);
            self.refuses_revision |= is_refused;
            return self.fail(of, &error);
        }
        let written = {
            let Some(mut result) = whole.get("result").and_then(Members::read) else {
                self.remove(of);
                return self.to_client.push_back(unread());
            };
            match result.text("resultType").as_deref() {
                None | Some("complete") => {}
                Some("input_required") => return self.needs(of, &result),
                Some(other) => {
                    let other: String = other.chars().take(100).collect();
                    let text = format!(
                        "the server's answer is of the type {other:?}, which clients of this revision cannot read"
                    );
                    self.remove(of);
                    return self.refuse(of, code::INTERNAL_ERROR, &text);
                }
            }
            result.remove("resultType");
            if self.over_http && call.method.as_ref() == "tools/list"
                && let Some(tools) = self.tool_headers.learn(&result)
            {
                result.set_json("tools", &tools);
            }
            result.write()
        };
        whole.set_json("id", &of.to_string());
        whole.set_json("result", &written);
        self.remove(of);
        self.to_client.push_back(whole.message().unwrap_or_else(unread));
    }

    /// The server needs something of the client before it answers a call.
    fn needs(&mut self, of: &RequestId, result: &Members<'_>) {
        let asks = match Asks::read(result, &self.client) {
            Ok(asks) => asks,
            Err(why) => {
                self.remove(of);
                return self.refuse(of, code::INTERNAL_ERROR, &why);
            }
        };
        let mut round = Round::new(result.get("requestState"));
        let repeats = asks.0.is_empty();
        for asked in asks.0 {
            let id = self.own_id();
            match asked.request(&id) {
                Some(request) => {
                    self.asked.insert(id.clone(), of.clone());
                    self.to_client.push_back(request);
                    round.asks(id, asked.key);
                }
                None => tracing::warn!("a request of the server cannot be written"),
            }
        }
        let Some(call) = self.calls.get_mut(of) else { return };
        call.repeats = if repeats { call.repeats + 1 } else { 0 };
        let too_often = call.repeats > REPEATS;
        call.state = State::AtClient(round);
        if too_often {
            self.remove(of);
            let text = format!("the server wants this call to be repeated for ever; {REPEATS} times were enough");
            return self.refuse(of, code::INTERNAL_ERROR, &text);
        }
        if repeats {
            self.repeat(of, None);
        }
    }

    /// A call was refused for its headers: whether its server's tools are read again, to send it with others.
    fn reads_tools_again(&mut self, of: &RequestId, error: &str) -> bool {
        let code = Members::read(error).and_then(|error| serde_json::from_str(error.get("code")?).ok());
        let Some(call) = self.calls.get_mut(of) else { return false };
        if code != Some(code::HEADER_MISMATCH) || call.is_relisted || call.method.as_ref() != "tools/call" {
            return false;
        }
        call.is_relisted = true;
        self.read_tools(of, 0, None)
    }

    /// Asks for a page of the server's tools, for a call; whether that can be.
    fn read_tools(&mut self, of: &RequestId, page: u32, cursor: Option<&str>) -> bool {
        let own = self.own_id();
        let cursor = cursor.map(|cursor| json!({ "cursor": cursor }));
        let Some(request) = self.request(&own, "tools/list", cursor.as_ref()) else { return false };
        let Some(call) = self.calls.get_mut(of) else { return false };
        call.state = State::AtServer(own.clone());
        self.at_server.insert(own, Purpose::Tools { of: of.clone(), page });
        self.to_server.push_back(request);
        true
    }

    /// A page of the server's tools, which were read again for a call.
    fn listed(&mut self, of: &RequestId, page: u32, message: &Message, is_error: bool) {
        let whole = Members::read(message.as_str()).unwrap_or_default();
        let result = whole.get("result").filter(|_| !is_error).and_then(Members::read).unwrap_or_default();
        self.tool_headers.learn(&result);
        let cursor = result.text("nextCursor").filter(|cursor| !cursor.is_empty());
        if let Some(cursor) = cursor
            && page < PAGES
            && self.read_tools(of, page + 1, Some(&cursor))
        {
            return;
        }
        let own = self.own_id();
        let Some(call) = self.calls.get_mut(of) else { return };
        call.state = State::AtServer(own.clone());
        let (sent, head) = (with_id(&call.sent, &own), call.head.clone());
        if let Some(sent) = sent {
            let outgoing = self.outgoing(sent, head.as_deref());
            self.at_server.insert(own, Purpose::Call(of.clone()));
            self.to_server.push_back(outgoing);
        }
    }

    /// Progress of a request, which the client sees as that of all its rounds.
    fn progresses(&mut self, message: Message) {
        let Some(token) = message.param(&["progressToken"]) else { return };
        let Some(call) = self.tokens.get(token).and_then(|id| self.calls.get_mut(id)) else { return };
        let number = |name: &str| message.param(&[name]).and_then(|json| serde_json::from_str::<f64>(json).ok());
        let Some(progress) = number("progress").map(|progress| progress + call.offset) else { return };
        if progress <= call.progress {
            return;
        }
        call.progress = progress;
        if call.offset == 0.0 {
            return self.to_client.push_back(message);
        }
        let Some(mut params) = message.params().and_then(Members::read) else { return };
        params.set_json("progress", &shortest(progress));
        if let Some(total) = number("total") {
            params.set_json("total", &shortest(total + call.offset));
        }
        self.to_client.extend(Message::notification("notifications/progress", &params));
    }

    fn acknowledged(&mut self, message: &Message, now: Instant) {
        let honoured = message.param(&["notifications"]).and_then(|json| serde_json::from_str(json).ok());
        if let Some(id) = subscription(message) {
            let follows = self.listening.acknowledged(&id, &honoured.unwrap_or_default());
            self.follows(follows);
            self.listen(now);
        }
    }

    /// A request to listen has ended.
    fn heard_out(&mut self, id: &RequestId, message: &Message, is_error: bool, now: Instant) {
        let whole = Members::read(message.as_str()).unwrap_or_default();
        let error = whole.get("error").filter(|_| is_error);
        let number = error.and_then(Members::read).and_then(|error| serde_json::from_str(error.get("code")?).ok());
        let mut follows = self.listening.ends(id, number == Some(code::METHOD_NOT_FOUND), now);
        let error = error.unwrap_or(r#"{"code":-32603,"message":"the server does not tell of changes"}"#);
        let (error, is_refused) = for_legacy("subscriptions/listen", error);
        self.refuses_revision |= is_refused;
        for id in std::mem::take(&mut follows.failed) {
            self.fail(&id, &error);
        }
        self.follows(follows);
        self.listen(now);
    }

    /// Something has changed: the client does not know under which request it is told.
    fn changed(&mut self, message: Message) {
        let Some(mut params) = message.params().and_then(Members::read) else { return };
        let written = {
            let mut meta = params.get("_meta").and_then(Members::read).unwrap_or_default();
            meta.remove(meta::SUBSCRIPTION_ID);
            (!meta.is_empty()).then(|| meta.write())
        };
        match written {
            Some(meta) => params.set_json("_meta", &meta),
            None => drop(params.remove("_meta")),
        }
        let method = message.method().unwrap_or_default();
        let told = if params.is_empty() {
            Message::notification(method, &())
        } else {
            Message::notification(method, &params)
        };
        self.to_client.extend(told);
    }
}

/// The request to listen that a notification belongs to; ours have texts as ids.
fn subscription(message: &Message) -> Option<RequestId> {
    let id: String = serde_json::from_str(message.param(&["_meta", meta::SUBSCRIPTION_ID])?).ok()?;
    Some(RequestId::from(&*id))
}

/// A number as JSON, without a fraction if it has none.
fn shortest(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { json!(number).to_string() }
}
