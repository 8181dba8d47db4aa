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

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use http::{HeaderMap, HeaderValue, request::Parts};
use mcp_sse::{Incoming, Message, RequestId};
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
        members::Members,
        modern::{code, encoded, header, name_parameter},
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
    Tools {
        of: RequestId,
        page: u32,
    },
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

    /// Asks for what the client wants to hear, if that is due.
    fn listen(&mut self, now: Instant) {
        while self.listening.is_due(now) {
            let follows = match self.listening.filter() {
                None => self.listening.opens(None),
                Some(filter) => {
                    let id = self.own_id();
                    let Some(request) = self.request(&id, "subscriptions/listen", Some(&filter)) else {
                        return;
                    };
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
