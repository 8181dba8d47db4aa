//! What the server does.

use super::*;

/// Errors of calls, and the code that the client sees.
const ERRORS: [(&str, i32); 5] = [
    (r#"{"code":-1,"message":"m","data":{"x": 1.0}}"#, -1),
    (r#"{"code":-32021,"message":"m"}"#, -32600),
    (r#"{"code":-32602,"message":"m"}"#, -32602),
    (r#"{"code":-32020,"message":"m"}"#, -32603),
    (r#"{"code":0,"message":"cancelled"}"#, 0),
];

impl World {
    pub(super) fn server_answers(&mut self) {
        let pings: Vec<String> = self.pings.keys().cloned().collect();
        if !pings.is_empty() && self.random.once_in(4) {
            let ping = self.random.of(&pings).clone();
            return self.server_answers_a_ping(&ping);
        }
        let at_server: Vec<String> = self
            .calls
            .iter()
            .filter(|(_, call)| call.at_server().is_some())
            .map(|(key, _)| key.clone())
            .collect();
        if at_server.is_empty() {
            return;
        }
        let key = self.random.of(&at_server).clone();
        if matches!(self.calls[&key].place, Place::Tools(_)) {
            return self.server_lists(&key);
        }
        match self.random.below(8) {
            0..3 => self.server_completes(&key),
            3 => self.server_fails(&key),
            4 => self.server_says_something_else(&key),
            _ => self.server_needs(&key),
        }
    }

    pub(super) fn server_answers_a_ping(&mut self, ping: &str) {
        let of = self.pings.remove(ping).flatten();
        self.expected.extend(of.map(|of| Expected::Client(result(&of, "{}"))));
        let json = match self.random.once_in(2) {
            true => result(ping, r#"{"supportedVersions":[]}"#),
            false => error(ping, r#"{"code":-32601,"message":"m"}"#),
        };
        self.server(&json);
    }

    /// Takes a call, which is answered now.
    fn answers(&mut self, key: &str) -> RequestId {
        let call = self.calls.remove(key).unwrap();
        let at = call.at_server().unwrap().clone();
        self.over_at_server.push(at.clone());
        self.over_at_client.push(parse(request(key, "x", "{}")).id().unwrap().clone());
        at
    }

    pub(super) fn server_completes(&mut self, key: &str) {
        let number = self.number();
        let (comes, goes) = match self.random.below(4) {
            0 => (format!(r#"{{"n": {number}.0}}"#), format!(r#"{{"n": {number}.0}}"#)),
            1 => (format!(r#"{{"resultType":"complete","n":{number}.0}}"#), format!(r#"{{"n":{number}.0}}"#)),
            2 => {
                let text = format!(r#"{{"a":"\u00e9","n":{number}}}"#);
                (text.clone(), text)
            }
            _ => (format!(r#"{{"n":{number},"resultType":null}}"#), format!(r#"{{"n":{number}}}"#)),
        };
        // What is read is written without spaces; tools are always read.
        let is_read =
            comes.contains("resultType") || comes.contains("\\u") || self.calls[key].method == "tools/list";
        let goes = if is_read { goes.replace(": ", ":") } else { goes };
        let at = self.answers(key);
        self.expected.push(Expected::Client(result(key, &goes)));
        self.server(&result(&at, &comes));
        if self.random.once_in(3) {
            // Once more.
            self.server(&result(&at, &comes));
        }
    }

    fn server_fails(&mut self, key: &str) {
        let (comes, code) = *self.random.of(&ERRORS);
        let call = &self.calls[key];
        if comes.contains("-32020") && self.pair.over_http && call.method == "tools/call" && !call.is_relisted
        {
            let at = call.at_server().unwrap().clone();
            self.over_at_server.push(at.clone());
            self.reads_tools(key, None);
            self.calls.get_mut(key).unwrap().is_relisted = true;
            return self.server(&error(&at, comes));
        }
        let at = self.answers(key);
        self.expected.push(match comes.contains(&code.to_string()) {
            true => Expected::Client(error(key, comes)),
            false => Expected::Client(error(key, &comes.replace(&number_of(comes), &code.to_string()))),
        });
        self.server(&error(&at, comes));
    }

    fn reads_tools(&mut self, key: &str, cursor: Option<&str>) {
        let members =
            cursor.map(|cursor| ("cursor".to_owned(), format!("\"{cursor}\""))).into_iter().collect();
        let (of, method) = (Some(key.to_owned()), "tools/list".to_owned());
        self.expected.push(Expected::Request(Sent {
            id: None,
            of,
            method,
            members,
            meta: self.said.clone(),
        }));
    }

    /// A page of its tools, which were asked for on behalf of a call.
    pub(super) fn server_lists(&mut self, key: &str) {
        let at = self.calls[key].at_server().unwrap().clone();
        self.over_at_server.push(at.clone());
        let json = match self.random.below(4) {
            0 => {
                self.reads_tools(key, Some("more"));
                return self.server(&result(&at, r#"{"tools":[],"nextCursor":"more"}"#));
            }
            1 => error(&at, r#"{"code":-32603,"message":"m"}"#),
            _ => result(&at, r#"{"resultType":"complete","tools":[{"name":"t","inputSchema":{}}]}"#),
        };
        // The call again, as it was.
        let sent = self.sent(key, None);
        self.expected.push(Expected::Request(sent));
        self.server(&json);
    }

    fn server_says_something_else(&mut self, key: &str) {
        let json = *self.random.of(&[
            r#"{"resultType":"task","n":1}"#,
            r#"{"resultType":"complete","n":1,"n":2}"#,
            r#"{"resultType":"input_required","inputRequests":[]}"#,
            r#"{"resultType":"input_required","inputRequests":{"a":7}}"#,
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":"x/y"}}}"#,
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list","params":[]}}}"#,
        ]);
        let at = self.answers(key);
        let id = self.over_at_client.last().unwrap().clone();
        self.expected.push(Expected::Refusal(id, -32603));
        self.server(&result(at, json));
    }

    fn can(&self, method: &str) -> bool {
        let capabilities = &self.said["io.modelcontextprotocol/clientCapabilities"];
        match method {
            "url" => capabilities["elicitation"]["url"].is_object(),
            "form" => capabilities["elicitation"].is_object(),
            other => capabilities[other].is_object(),
        }
    }

    fn server_needs(&mut self, key: &str) {
        let may_need = matches!(&*self.calls[key].method, "tools/call" | "prompts/get" | "resources/read");
        if self.calls[key].rounds >= 8 {
            return self.server_completes(key);
        }
        let number = self.number();
        let state = (!self.random.once_in(3)).then(|| format!(r#""v1.\u00e9/{number}==""#));
        let mut asks = Vec::new();
        let mut expected = Vec::new();
        let mut can_all = true;
        for ask in 0..self.random.below(4) {
            let (kind, method, params) = match self.random.below(4) {
                0 => ("form", "elicitation/create", Some(format!(r#"{{"message":"{number}","n": 1.0}}"#))),
                1 => ("url", "elicitation/create", Some(format!(r#"{{"mode":"url","url":"a:{number}"}}"#))),
                2 => ("sampling", "sampling/createMessage", Some(format!(r#"{{"maxTokens":{number}}}"#))),
                _ => ("roots", "roots/list", None),
            };
            can_all &= self.can(kind);
            let (of, key) = (key.to_owned(), format!("k{ask}"));
            let written = params.as_ref().map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
            asks.push(format!(r#""{key}":{{"method":"{method}"{written}}}"#));
            let params = params.map(|params| serde_json::from_str(&params).unwrap());
            expected.push(Expected::Ask { of, key, method: method.to_owned(), params });
        }
        let mut inner = vec![r#""resultType":"input_required""#.to_owned()];
        if !asks.is_empty() || self.random.once_in(2) {
            inner.push(format!(r#""inputRequests":{{{}}}"#, asks.join(",")));
        }
        inner.extend(state.as_ref().map(|state| format!(r#""requestState":{state}"#)));
        let json = format!("{{{}}}", inner.join(","));
        if !can_all || !may_need {
            let at = self.answers(key);
            let id = self.over_at_client.last().unwrap().clone();
            self.expected.push(Expected::Refusal(id, -32603));
            return self.server(&result(at, &json));
        }
        let call = self.calls.get_mut(key).unwrap();
        let at = call.at_server().unwrap().clone();
        self.over_at_server.push(at.clone());
        call.rounds += 1;
        if asks.is_empty() {
            call.more = state.map(|state| ("requestState".to_owned(), state)).into_iter().collect();
            call.offset = call.progress.unwrap_or(0).max(0);
            let sent = self.sent(key, None);
            self.expected.push(Expected::Request(sent));
        } else {
            call.place = Place::Client { asks: Vec::new(), state };
            self.expected.extend(expected);
        }
        self.server(&result(at, &json));
    }

    /// What belongs to nothing.
    pub(super) fn server_strays(&mut self) {
        let over = self.over_at_server.last().cloned().unwrap_or(RequestId::from(-7));
        match self.random.below(5) {
            0 => self.server(&result(over, r#"{"resultType":"input_required","requestState":"x"}"#)),
            1 => self.server(&error(over, r#"{"code":-32020,"message":"m"}"#)),
            2 => self.server(r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#),
            3 => self.server(&cancelled(over)),
            _ => {
                let id = self.number();
                let error = Message::error(
                    &RequestId::from(id as i64),
                    -32601,
                    "servers of this revision ask by results",
                );
                self.expected.push(Expected::MaybeServer(error.as_str().to_owned()));
                self.server(&request(id, "sampling/createMessage", "{}"));
            }
        }
    }

    pub(super) fn server_progresses(&mut self) {
        let amount = i64::try_from(self.random.below(6)).unwrap() - 1;
        let Some(key) = self.any_call() else { return };
        let call = self.calls.get_mut(&key).unwrap();
        let Some(token) = call.token.clone() else {
            return self.server(&notification("notifications/progress", r#"{"progress":1}"#));
        };
        if amount == 4 {
            let other = format!(r#"{{"progressToken":"other{}","progress":1}}"#, self.next);
            return self.server(&notification("notifications/progress", &other));
        }
        let progress = |progress: i64, total: i64| {
            let inner = format!(r#"{{"progressToken":{token},"progress":{progress},"total":{total}}}"#);
            notification("notifications/progress", &inner)
        };
        let seen = amount + call.offset;
        if call.progress.is_none_or(|progress| seen > progress) {
            call.progress = Some(seen);
            let json = progress(seen, 9 + call.offset);
            self.expected.push(Expected::Client(json));
        }
        self.server(&progress(amount, 9));
    }

    pub(super) fn server_tells(&mut self) {
        let number = self.number();
        let meta = |id: &RequestId| format!(r#","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        let (id, is_heard) = match self.random.below(5) {
            0 => (self.listens.current.clone(), true),
            1 => (self.listens.opening.as_ref().map(|opening| opening.id.clone()), false),
            2 => (self.listens.old.last().cloned(), false),
            3 => (Some(RequestId::from("foreign")), false),
            _ => (None, true),
        };
        let is_heard = is_heard || id.is_none();
        let (method, inner) = match self.random.below(2) {
            0 => ("notifications/resources/updated", format!(r#""uri":"a:{number}""#)),
            _ => ("notifications/tools/list_changed", format!(r#""n":{number}"#)),
        };
        let json = notification(method, &format!("{{{inner}{}}}", id.as_ref().map(meta).unwrap_or_default()));
        if is_heard {
            self.expected.push(Expected::Client(notification(method, &format!("{{{inner}}}"))));
        }
        self.server(&json);
    }

    pub(super) fn server_acknowledges(&mut self) {
        let id = match self.random.below(8) {
            0 => self.listens.current.clone(),
            1 => self.listens.old.last().cloned(),
            2 => Some(RequestId::from("foreign")),
            _ => self.listens.opening.as_ref().map(|opening| opening.id.clone()),
        };
        if let Some(id) = id {
            let grants_all = !self.random.once_in(3);
            self.acknowledges(&id, grants_all);
        }
    }

    pub(super) fn acknowledges(&mut self, id: &RequestId, grants_all: bool) {
        let mut granted: BTreeSet<String> = BTreeSet::from(["a:9".to_owned()]);
        if let Some(opening) = &self.listens.opening
            && opening.id == *id
        {
            let uris = opening.filter["resourceSubscriptions"].as_array().cloned().unwrap_or_default();
            for uri in uris {
                if grants_all || self.random.once_in(2) {
                    granted.insert(uri.as_str().unwrap().to_owned());
                }
            }
            let expected = self.listens.acknowledged(&granted);
            self.expected.extend(expected);
        }
        let json = notification(
            "notifications/subscriptions/acknowledged",
            &json!({
                "notifications": { "resourceSubscriptions": granted },
                "_meta": { "io.modelcontextprotocol/subscriptionId": serde_json::from_str::<Value>(&id.to_string()).unwrap() },
            })
            .to_string(),
        );
        self.server(&json);
    }

    pub(super) fn server_ends_a_listen(&mut self) {
        let id = match self.random.below(3) {
            0 => self.listens.opening.as_ref().map(|opening| opening.id.clone()),
            1 => self.listens.current.clone(),
            _ => None,
        };
        let Some(id) = id else { return };
        let text = [
            None,
            None,
            Some(r#"{"code":-32603,"message":"Subscription limit reached"}"#),
            Some(r#"{"code":-32601,"message":"Method not found"}"#),
        ];
        let text = *self.random.of(&text);
        let for_good = text.is_some_and(|text| text.contains("-32601"));
        let expected = self.listens.ends(&id, text, for_good);
        self.expected.extend(expected);
        match text {
            Some(text) => self.server(&error(id, text)),
            None => self.server(&result(id, r#"{"resultType":"complete"}"#)),
        }
    }
}

/// The code, as it is written.
fn number_of(error: &str) -> String {
    let value: Value = serde_json::from_str(error).unwrap();
    value["code"].to_string()
}
