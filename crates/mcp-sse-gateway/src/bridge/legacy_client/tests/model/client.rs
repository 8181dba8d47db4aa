//! What the client does.

use super::*;

const METHODS: [&str; 6] =
    ["tools/call", "tools/call", "prompts/get", "resources/read", "tools/list", "x/invented"];
const URIS: [&str; 4] = ["a:1", "a:2", "a:3", "a:4"];

impl World {
    /// An id that no request has had.
    fn fresh(&mut self) -> (RequestId, String) {
        let number = self.number();
        let text = match self.random.below(6) {
            0 => format!("\"{number}\""),
            1 => format!("{number}.5"),
            2 => format!("{number}.0"),
            3 => format!("\"mcp-sse-bridge-0000000000000000-{number}\""),
            4 => format!("\"\\u00e9-{number}\""),
            _ => number.to_string(),
        };
        let id = parse(request(&text, "x", "{}")).id().unwrap().clone();
        self.client_ids.insert(id.clone());
        (id, text)
    }

    pub(super) fn initializes(&mut self) {
        let capabilities = *self.random.of(&[
            "{}",
            CAPABILITIES,
            r#"{"roots":{}}"#,
            r#"{"elicitation":{},"sampling":{}}"#,
            r#"{"elicitation":{"form":{}},"experimental":{"x":[1.0,"\u00e9"]}}"#,
        ]);
        let info = Some(INFO).filter(|_| !self.random.once_in(4));
        let (id, text) = self.fresh();
        let said = info.map(|info| format!(r#","clientInfo":{info}"#)).unwrap_or_default();
        let json = request(&text, "initialize", &format!(r#"{{"capabilities":{capabilities}{said}}}"#));
        self.says_who(capabilities, info);
        let answer = self.pair.core.discovered.initialized(&id, None);
        self.expected.push(Expected::Client(answer.as_str().to_owned()));
        self.client(&json);
    }

    pub(super) fn client_asks(&mut self) {
        match self.random.below(12) {
            0 => self.client_pings(),
            1 => self.client_sets_a_level(),
            2 => self.client_asks_twice(),
            3 => self.client_asks_wrongly(),
            _ => self.client_calls(),
        }
    }

    fn client_pings(&mut self) {
        let (id, text) = self.fresh();
        if self.pair.over_http {
            self.expected.push(Expected::Client(result(&id, "{}")));
        } else {
            self.pings.insert("next".to_owned(), Some(id));
            let method = "server/discover".to_owned();
            let meta = self.said.clone();
            let sent = Sent { id: None, of: None, method, members: Vec::new(), meta };
            self.expected.push(Expected::Request(sent));
        }
        self.client(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"ping"}}"#));
    }

    fn client_sets_a_level(&mut self) {
        let (id, text) = self.fresh();
        let level = *self.random.of(&["debug", "warning", "loud"]);
        if !self.logs {
            self.expected.push(Expected::Refusal(id, -32601));
        } else if level == "loud" {
            self.expected.push(Expected::Refusal(id, -32602));
        } else {
            self.said.insert("io.modelcontextprotocol/logLevel".to_owned(), json!(level));
            self.expected.push(Expected::Client(result(&id, "{}")));
        }
        self.client(&request(&text, "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#)));
    }

    /// By an id that is open.
    fn client_asks_twice(&mut self) {
        let Some(at) = self.any_call() else { return };
        let id = parse(request(&at, "x", "{}")).id().unwrap().clone();
        self.expected.push(Expected::Refusal(id, -32600));
        self.client(&request(at, "tools/call", "{}"));
    }

    fn client_asks_wrongly(&mut self) {
        let (id, text) = self.fresh();
        let params = *self.random.of(&["[1]", r#"{"_meta":[]}"#, r#"{"_meta":{},"_m\u0065ta":{}}"#]);
        self.expected.push(Expected::Refusal(id, -32602));
        self.begins();
        self.client(&request(&text, "tools/call", params));
    }

    fn client_calls(&mut self) {
        let (id, text) = self.fresh();
        let method = *self.random.of(&METHODS);
        let mut members = Vec::new();
        let mut has = |name: &str, value: &str| members.push((name.to_owned(), value.to_owned()));
        match method {
            "tools/call" | "prompts/get" => has("name", r#""gr\u00fc\u00dfe""#),
            "resources/read" => has("uri", r#""a:b""#),
            _ => {}
        }
        if self.random.once_in(2) {
            let arguments = [r#"{"b": 1.0e2 ,"a":[ ]}"#, "{}", r#"{"x":"\u00e9","_meta":{"y":1}}"#];
            let arguments: &str = self.random.of::<&str>(&arguments);
            has("arguments", arguments);
        }
        let number = self.number();
        let token = match self.random.below(3) {
            0 => Some(number.to_string()),
            1 => Some(format!("\"t{number}\"")),
            _ => None,
        };
        let mut inner = Vec::new();
        let mut meta = serde_json::Map::new();
        if let Some(token) = &token {
            inner.push(format!(r#""progressToken":{token}"#));
            meta.insert("progressToken".to_owned(), serde_json::from_str(token).unwrap());
        }
        if self.random.once_in(4) {
            // A client of this era has no say in the second.
            inner.push(r#""traceparent":"00","io.modelcontextprotocol/logLevel":"debug""#.to_owned());
            meta.insert("traceparent".to_owned(), json!("00"));
        }
        let mut all: Vec<String> =
            members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        if !inner.is_empty() {
            let at = self.random.below(all.len() + 1);
            all.insert(at, format!(r#""_meta":{{{}}}"#, inner.join(",")));
        }
        let params = match all.is_empty() && self.random.once_in(2) {
            true => String::new(),
            false => format!(r#","params":{{{}}}"#, all.join(",")),
        };
        let call = Call {
            method: method.to_owned(),
            members,
            meta,
            token,
            place: Place::Server(id.clone()),
            more: Vec::new(),
            rounds: 0,
            offset: 0,
            progress: None,
            is_relisted: false,
        };
        let key = id.to_string();
        self.calls.insert(key.clone(), call);
        let sent = self.sent(&key, Some(id));
        self.expected.push(Expected::Request(sent));
        self.begins();
        self.client(&format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"{method}"{params}}}"#));
    }

    /// The request of a call, as the server gets it.
    pub(super) fn sent(&self, key: &str, id: Option<RequestId>) -> Sent {
        let call = &self.calls[key];
        let members = call.members.iter().chain(&call.more).cloned().collect();
        let mut meta = call.meta.clone();
        meta.extend(self.said.clone());
        Sent { id, of: Some(key.to_owned()), method: call.method.clone(), members, meta }
    }

    pub(super) fn begins(&mut self) {
        self.has_begun = true;
    }

    pub(super) fn client_subscribes(&mut self) {
        let (id, text) = self.fresh();
        let uri = *self.random.of(&URIS);
        let method = *self.random.of(&["subscribe", "subscribe", "unsubscribe"]);
        if !self.listens.subscribes {
            self.expected.push(Expected::Refusal(id, -32601));
        } else if method == "subscribe" {
            self.listens.subscribe(id, uri);
            self.begins();
        } else {
            self.listens.unsubscribe(id, uri);
        }
        self.client(&request(&text, &format!("resources/{method}"), &format!(r#"{{"uri":"{uri}"}}"#)));
    }

    pub(super) fn any_call(&mut self) -> Option<String> {
        let all: Vec<&String> = self.calls.keys().collect();
        (!all.is_empty()).then(|| (*self.random.of(&all)).clone())
    }

    pub(super) fn client_cancels(&mut self) {
        let id = match self.random.below(6) {
            0 => self.listens.waiting().next().map(|waiting| waiting.id.clone()),
            1 => self.pings.values().next().cloned().flatten(),
            2 => self.calls.values().flat_map(Call::open_asks).next().map(|ask| ask.id.clone()),
            3 => self.over_at_client.last().cloned(),
            _ => self.any_call().map(|key| parse(request(key, "x", "{}")).id().unwrap().clone()),
        };
        if let Some(id) = id {
            self.cancels(&id);
        }
    }

    pub(super) fn cancels(&mut self, id: &RequestId) {
        self.listens.cancel(id);
        for (ping, of) in &self.pings {
            if of.as_ref() == Some(id) {
                self.expected.push(Expected::MaybeServer(cancelled(ping)));
            }
        }
        self.pings.retain(|_, of| of.as_ref() != Some(id));
        if let Some(call) = self.calls.remove(&id.to_string()) {
            self.over_at_client.push(id.clone());
            match call.at_server() {
                Some(at) => {
                    self.over_at_server.push(at.clone());
                    self.expected.push(Expected::GivenUp(at.clone()));
                }
                None => self.withdraws(&call),
            }
        }
        self.client(&cancelled(id));
    }

    /// What the client was asked for a call is not needed any more.
    pub(super) fn withdraws(&mut self, call: &Call) {
        for ask in call.open_asks() {
            self.over_at_client.push(ask.id.clone());
            self.expected.push(Expected::Client(cancelled(&ask.id)));
        }
    }

    pub(super) fn client_answers(&mut self) {
        if self.random.once_in(6) {
            // To what nobody asks any more, or to nothing.
            let over = self.over_at_client.last().cloned().unwrap_or(RequestId::from(-7));
            return self.client(&result(over, "{}"));
        }
        let asked: Vec<(String, RequestId)> = self
            .calls
            .iter()
            .flat_map(|(key, call)| call.open_asks().map(|ask| (key.clone(), ask.id.clone())))
            .collect();
        if asked.is_empty() {
            return;
        }
        let (key, id) = self.random.of(&asked).clone();
        let is_error = self.random.once_in(6);
        self.client_answers_this(&key, &id, is_error);
    }

    pub(super) fn client_answers_this(&mut self, key: &str, id: &RequestId, is_error: bool) {
        let number = self.number();
        self.over_at_client.push(id.clone());
        let Some(call) = self.calls.get_mut(key) else { return };
        let Place::Client { asks, state } = &mut call.place else { return };
        let Some(ask) = asks.iter_mut().find(|ask| ask.id == *id) else { return };
        let answer = format!(r#"{{"action":"decline","n": {number}.0}}"#);
        ask.answer = Some(answer.clone());
        if is_error {
            let why = format!(r#"{{"code": -1,"message":"n{number}"}}"#);
            let call = self.calls.remove(key).unwrap();
            self.withdraws(&call);
            self.expected.push(Expected::Client(error(key, &why)));
            self.over_at_client.push(parse(request(key, "x", "{}")).id().unwrap().clone());
            return self.client(&error(id, &why));
        }
        if asks.iter().all(|ask| ask.answer.is_some()) {
            let answers: Vec<String> = asks
                .iter()
                .map(|ask| format!(r#""{}":{}"#, ask.key, ask.answer.as_deref().unwrap()))
                .collect();
            let mut more = vec![("inputResponses".to_owned(), format!("{{{}}}", answers.join(",")))];
            more.extend(state.take().map(|state| ("requestState".to_owned(), state)));
            call.more = more;
            call.offset = call.progress.unwrap_or(0).max(0);
            let sent = self.sent(key, None);
            self.expected.push(Expected::Request(sent));
        }
        self.client(&result(id, &answer));
    }

    pub(super) fn client_tells(&mut self) {
        let number = self.number();
        match self.random.below(5) {
            0 | 1 => {
                self.begins();
                self.client(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            }
            2 => self.client(&notification("notifications/progress", r#"{"progressToken":1,"progress":1}"#)),
            3 => self.client(&notification("notifications/roots/list_changed", "{}")),
            _ => {
                let json = notification("notifications/x", &format!(r#"{{"n": {number}}}"#));
                self.expected.push(Expected::Server(json.clone()));
                self.client(&json);
            }
        }
    }
}
