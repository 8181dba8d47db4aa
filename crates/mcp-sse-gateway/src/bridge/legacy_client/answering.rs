//! The server's messages: its answers, what it needs before it answers, and what it tells.

use mcp_sse::{Message, MessageKind, RequestId};
use serde_json::json;
use tokio::time::Instant;

use super::{Asks, Core, PAGES, Purpose, REPEATS, Round, State, for_legacy};
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
                    Some(Purpose::Listen) => self.heard_out(&id, &message, is_error, now),
                    Some(Purpose::Tools { of, page }) => self.listed(&of, page, &message, is_error),
                    // It was cancelled.
                    None => {}
                }
            }
            MessageKind::Response { id: None, .. } => {}
            // No modern server asks like this.
            MessageKind::Request { id, .. } => {
                let error =
                    Message::error(id, code::METHOD_NOT_FOUND, "servers of this revision ask by results");
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
            let text =
                format!("the server wants this call to be repeated for ever; {REPEATS} times were enough");
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
        let number =
            |name: &str| message.param(&[name]).and_then(|json| serde_json::from_str::<f64>(json).ok());
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
        let number =
            error.and_then(Members::read).and_then(|error| serde_json::from_str(error.get("code")?).ok());
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

/// A number as JSON, without a fraction if it has none.
fn shortest(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{number:.0}")
    } else {
        json!(number).to_string()
    }
}
