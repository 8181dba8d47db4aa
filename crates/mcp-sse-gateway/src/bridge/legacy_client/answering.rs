//! The server's messages: its answers, what it needs before it answers, and what it tells.

use mcp_sse::{Message, MessageKind, RequestId};
use serde_json::json;
use tokio::time::Instant;

use super::super::eras::of_error;
use super::{
    Asks, Call, Core, KEPT_BYTES, PAGES, Purpose, REFUSALS, REPEATS, ROUNDS, Round, Side, State, Token,
    for_legacy, shortest,
};
use crate::message::{
    members::{Members, with_id},
    modern::{code, meta},
};

impl Core {
    /// A message of the server.
    pub(crate) fn server(&mut self, message: Message, now: Instant) {
        match message.kind() {
            MessageKind::Response { id: Some(id), is_error } => {
                let (id, is_error) = (id.clone(), *is_error);
                match self.at_server.remove(&id) {
                    Some(Purpose::Call(of)) => self.answered(&of, &message, is_error),
                    Some(Purpose::Ping(of)) => self.grant(&of),
                    Some(Purpose::Listen) => {
                        let whole = Members::read(message.as_str()).unwrap_or_default();
                        self.heard_out(&id, whole.get("error").filter(|_| is_error), now);
                    }
                    Some(Purpose::Tools { of, page }) => self.listed(&of, page, &message, is_error),
                    // It was cancelled.
                    None => {}
                }
            }
            MessageKind::Response { id: None, .. } => {}
            // No modern server asks like this, and over HTTP none is answered.
            MessageKind::Request { id, .. } if !self.over_http && self.to_server.len() < REFUSALS => {
                let error =
                    Message::error(id, code::METHOD_NOT_FOUND, "servers of this revision ask by results");
                let outgoing = self.outgoing(error, None);
                self.to_server.push_back(outgoing);
            }
            MessageKind::Request { .. } => tracing::debug!("a request of the server was dropped"),
            MessageKind::Notification { method } => match &**method {
                "notifications/progress" => self.progresses(message),
                "notifications/subscriptions/acknowledged" => self.acknowledged(&message, now),
                "notifications/cancelled" => {}
                _ if message.param(&["_meta", meta::SUBSCRIPTION_ID]).is_none() => {
                    self.to_client.push_back(message);
                }
                _ => {
                    if subscription(&message).is_some_and(|id| self.listening.is_heard(&id)) {
                        self.changed(&message);
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
            if self.over_http
                && call.method.as_ref() == "tools/list"
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
        let may_ask = self.calls.get(of).is_some_and(|call| call.asked.is_some());
        let unasked = || Err("the server needs more for a request that may not be repeated".to_owned());
        let asks = match if may_ask { Asks::read(result, &self.client) } else { unasked() } {
            Ok(asks) => asks.0,
            Err(why) => {
                self.remove(of);
                return self.refuse(of, code::INTERNAL_ERROR, &why);
            }
        };
        let mut round = Round::new(result.get("requestState"));
        let is_repeat = asks.is_empty();
        let mut requests = Vec::with_capacity(asks.len());
        for asked in asks {
            let id = self.own_id(Side::Client);
            requests.extend(asked.request(&id));
            round.asks(id, asked.key);
        }
        let kept = self.kept();
        let Some(call) = self.calls.get_mut(of) else { return };
        let before = call.round.as_ref().map_or(0, Round::bytes);
        call.rounds += 1;
        call.repeats = if is_repeat { call.repeats + 1 } else { 0 };
        if call.repeats > REPEATS || call.rounds > ROUNDS {
            self.remove(of);
            let text = "the server has asked too often for more before it answers this call";
            return self.refuse(of, code::INTERNAL_ERROR, text);
        }
        if kept - before + round.bytes() > KEPT_BYTES {
            return self.has_too_much(of);
        }
        self.asked.extend(round.open().map(|id| (id.clone(), of.clone())));
        (call.state, call.round) = (State::AtClient, Some(round));
        self.to_client.extend(requests);
        if is_repeat {
            self.repeat(of, None);
        }
    }

    /// A call has failed, as too much would have to be kept until it is answered.
    pub(super) fn has_too_much(&mut self, of: &RequestId) {
        if let Some(Call { round: Some(round), .. }) = self.remove(of) {
            self.withdraw(&round);
        }
        let text = "what the server and the client say before this call is answered is too much to be kept";
        self.refuse(of, code::INTERNAL_ERROR, text);
    }

    /// A call was refused for its headers: whether its server's tools are read again, to send it with others.
    fn reads_tools_again(&mut self, of: &RequestId, error: &str) -> bool {
        let code = Members::read(error).and_then(|error| of_error(&error).0);
        let Some(call) = self.calls.get_mut(of) else { return false };
        if code != Some(code::HEADER_MISMATCH) || call.is_relisted || call.method.as_ref() != "tools/call" {
            return false;
        }
        call.is_relisted = true;
        self.read_tools(of, 0, None)
    }

    /// Asks for a page of the server's tools, for a call; whether that can be.
    fn read_tools(&mut self, of: &RequestId, page: u32, cursor: Option<&str>) -> bool {
        let own = self.own_id(Side::Server);
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
        let own = self.own_id(Side::Server);
        if let Err(why) = self.sends(of, &own, None) {
            self.remove(of);
            self.refuse(of, code::INVALID_PARAMS, &why);
        }
    }

    /// Progress of a request, which the client sees as that of all its rounds.
    fn progresses(&mut self, message: Message) {
        let token = message.param(&["progressToken"]).and_then(Token::read);
        let id = token.as_ref().and_then(|token| self.tokens.get(token));
        let Some(call) = id.and_then(|id| self.calls.get_mut(id)) else { return };
        let number =
            |name: &str| message.param(&[name]).and_then(|json| serde_json::from_str::<f64>(json).ok());
        let progress = number("progress").map(|progress| progress + call.offset);
        let Some(progress) = progress.filter(|progress| progress.is_finite()) else { return };
        if progress <= call.progress {
            return;
        }
        call.progress = progress;
        if call.offset == 0.0 {
            return self.to_client.push_back(message);
        }
        let Some(mut params) = message.params().and_then(Members::read) else { return };
        params.set_json("progress", &shortest(progress));
        if let Some(total) =
            number("total").map(|total| total + call.offset).filter(|total| total.is_finite())
        {
            params.set_json("total", &shortest(total));
        }
        self.to_client.extend(Message::notification("notifications/progress", &params));
    }

    fn acknowledged(&mut self, message: &Message, now: Instant) {
        let honoured = message.param(&["notifications"]).and_then(|json| serde_json::from_str(json).ok());
        if let Some(id) = subscription(message) {
            let follows = self.listening.acknowledged(&id, &honoured.unwrap_or_default(), now);
            self.follows(follows);
            self.listen(now);
        }
    }

    /// A request to listen has ended, with a result, or with this error.
    pub(super) fn heard_out(&mut self, id: &RequestId, error: Option<&str>, now: Instant) {
        let code = error.and_then(Members::read).and_then(|error| of_error(&error).0);
        let mut follows = self.listening.ends(id, code == Some(code::METHOD_NOT_FOUND), now);
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
    fn changed(&mut self, message: &Message) {
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
