//! The client's messages: what it asks, what it answers, and what it wants no more.

use http::request::Parts;
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use tokio::time::Instant;

use super::{Call, Client, Core, Purpose, State};
use crate::message::{
    members::Members,
    modern::{LOG_LEVELS, code},
};

impl Core {
    /// A message of the client.
    pub(crate) fn client(&mut self, incoming: Incoming, now: Instant) {
        if self.over_http {
            *self.head = incoming.parts().clone();
        }
        match incoming.message.kind() {
            MessageKind::Request { id, method } => {
                let (id, method) = (id.clone(), method.clone());
                self.asks(id, &method, &incoming, now);
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
    fn asks(&mut self, id: RequestId, method: &str, incoming: &Incoming, now: Instant) {
        let message = &incoming.message;
        if self.calls.contains_key(&id) || self.at_server.contains_key(&id) {
            return self.refuse(
                &id,
                code::INVALID_REQUEST,
                "another request with this id is not answered yet",
            );
        }
        match method {
            "initialize" => {
                let Some(client) = Client::read(message) else {
                    let text =
                        "the capabilities and the clientInfo of initialize must have at most 65,536 bytes";
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
                            self.refuse(
                                &id,
                                code::INVALID_REQUEST,
                                "this session has too many subscriptions",
                            );
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
    fn passes(&mut self, id: RequestId, method: &str, incoming: &Incoming) {
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

    fn begins(&mut self, now: Instant) {
        self.listening.begins();
        self.listen(now);
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

    /// Another round of a call.
    pub(super) fn repeat(&mut self, id: &RequestId, head: Option<&Parts>) {
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
}
