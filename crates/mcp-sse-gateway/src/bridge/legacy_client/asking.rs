//! The client's messages: what it asks, what it answers, and what it wants no more.

use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use tokio::time::Instant;

use super::{Call, Client, Core, KEPT_BYTES, Purpose, Side, State, Token};
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
                        "the capabilities and the clientInfo of initialize must have at most 16,384 bytes";
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
                let own = self.own_id(Side::Server);
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
                        if let Some(id) = self.listening.unsubscribe(id, &uri) {
                            self.grant(&id);
                        }
                    }
                    Some(uri) => {
                        if let Some(id) = self.listening.subscribe(id, uri) {
                            let text = "this session has too many subscriptions";
                            self.refuse(&id, code::INVALID_REQUEST, text);
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
                self.passes(&id, method, incoming);
            }
        }
    }

    /// The client's request goes to the server.
    fn passes(&mut self, id: &RequestId, method: &str, incoming: &Incoming) {
        let may_have_rounds = matches!(method, "tools/call" | "prompts/get" | "resources/read");
        let token = incoming.message.param(&["_meta", "progressToken"]).and_then(Token::read);
        if let Some(token) = &token {
            self.tokens.insert(token.clone(), id.clone());
        }
        let call = Call {
            method: method.into(),
            asked: Some(incoming.message.clone()),
            head: self.over_http.then(|| Box::new(incoming.parts().clone())),
            token,
            offset: 0.0,
            progress: f64::NEG_INFINITY,
            state: State::AtServer(id.clone()),
            round: None,
            rounds: 0,
            repeats: 0,
            is_relisted: false,
        };
        self.calls.insert(id.clone(), call);
        if let Err(why) = self.sends(id, id, None) {
            self.remove(id);
            return self.refuse(id, code::INVALID_PARAMS, &why);
        }
        if let Some(call) = self.calls.get_mut(id).filter(|_| !may_have_rounds) {
            (call.asked, call.head) = (None, None);
        }
    }

    fn begins(&mut self, now: Instant) {
        self.listening.begins();
        self.listen(now);
    }

    /// The client does not want an answer any more.
    fn cancels(&mut self, id: &RequestId, message: &Message) {
        self.listening.cancelled(id);
        self.at_server.retain(|_, purpose| !matches!(purpose, Purpose::Ping(of) if of == id));
        let Some(call) = self.remove(id) else { return };
        match (call.state, call.round) {
            (State::AtServer(at), _) => {
                self.at_server.remove(&at);
                self.give_up(&at, message.param(&["reason"]).map(str::to_owned));
            }
            (State::AtClient, round) => {
                if let Some(round) = round {
                    self.withdraw(&round);
                }
            }
        }
    }

    /// The client answers what it was asked.
    fn answers(&mut self, id: &RequestId, incoming: &Incoming) {
        let Some(of) = self.asked.remove(id) else { return };
        let answer = Members::read(incoming.message.as_str()).unwrap_or_default();
        let Some(result) = answer.get("result") else {
            // The server has no way to hear of it; so the call has failed, for this reason.
            let error = answer.get("error").unwrap_or(r#"{"code":-32603,"message":"it has no result"}"#);
            if let Some(Call { round: Some(mut round), .. }) = self.remove(&of) {
                round.has_answer(id);
                self.withdraw(&round);
            }
            return self.fail(&of, error);
        };
        let room = KEPT_BYTES.saturating_sub(self.kept());
        let Some(Call { state: State::AtClient, round: Some(round), .. }) = self.calls.get_mut(&of) else {
            return;
        };
        if result.len() > room {
            return self.has_too_much(&of);
        }
        if round.answered(id, result) {
            self.repeat(&of, Some(incoming.parts()));
        }
    }
}
