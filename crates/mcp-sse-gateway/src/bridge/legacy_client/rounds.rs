//! What a server needs of the client before it answers a call: requests in its result, which the client gets as requests. Source:
//! revision 2026-07-28, "Multi Round-Trip Requests".

use std::collections::HashSet;

use mcp_sse::{Message, RequestId};
use serde_json::Value;

use super::client::Client;
use crate::message::members::Members;

/// The most that a server may need at once.
const REQUESTS: usize = 64;

/// What a server needs at once.
pub(super) struct Asks(pub(super) Vec<Asked>);

/// One thing of these, by its key.
pub(super) struct Asked {
    pub(super) key: String,
    method: String,
    params: Option<String>,
}

impl Asks {
    /// Of this result; or why the client cannot be asked.
    pub(super) fn read(result: &Members<'_>, client: &Client) -> Result<Self, String> {
        let unlike =
            || "the server's answer needs something, but not as revision 2026-07-28 has it".to_owned();
        let Some(json) = result.get("inputRequests") else { return Ok(Self(Vec::new())) };
        let requests = Members::read(json).ok_or_else(unlike)?;
        let mut asks = Vec::new();
        for (key, json) in requests.iter() {
            if asks.len() == REQUESTS {
                return Err(format!("the server needs more than {REQUESTS} answers at once"));
            }
            let request = Members::read(json).ok_or_else(unlike)?;
            let method = request.text("method").ok_or_else(unlike)?;
            let params = request.get("params").filter(|json| *json != "null").map(str::to_owned);
            if params.as_deref().is_some_and(|json| Members::read(json).is_none()) {
                return Err(unlike());
            }
            let value: Option<Value> = params.as_deref().and_then(|json| serde_json::from_str(json).ok());
            if !client.can(&method, value.as_ref()) {
                let method: String = method.chars().take(100).collect();
                return Err(format!(
                    "the server needs an answer to {method:?}, which this client has not declared"
                ));
            }
            asks.push(Asked { key: key.to_owned(), method, params });
        }
        Ok(Self(asks))
    }
}

impl Asked {
    /// As the client gets it.
    pub(super) fn request(&self, id: &RequestId) -> Option<Message> {
        let Some(params) = &self.params else { return Message::request(id.clone(), &self.method, &()).ok() };
        let mut params = Members::read(params)?;
        if params.text("mode").as_deref() == Some("url") && params.get("elicitationId").is_none() {
            // Clients of legacy revisions need one.
            params.set_json("elicitationId", &Value::from(id.to_string().trim_matches('"')).to_string());
        }
        Message::request(id.clone(), &self.method, &params).ok()
    }
}

/// A round of a call that waits for the client.
pub(super) struct Round {
    /// The server's, as JSON: it gets it back as it came.
    state: Option<String>,
    open: HashSet<RequestId>,
    answers: Vec<Answer>,
}

struct Answer {
    id: RequestId,
    key: String,
    result: Option<String>,
}

impl Round {
    pub(super) fn new(state: Option<&str>) -> Self {
        Self { state: state.map(str::to_owned), open: HashSet::new(), answers: Vec::new() }
    }

    /// The client is asked for what has this key.
    pub(super) fn asks(&mut self, id: RequestId, key: String) {
        self.open.insert(id.clone());
        self.answers.push(Answer { id, key, result: None });
    }

    /// The client has answered; whether that was the last answer.
    pub(super) fn answered(&mut self, id: &RequestId, result: &str) -> bool {
        if let Some(answer) = self.answers.iter_mut().find(|answer| answer.id == *id) {
            answer.result = Some(result.to_owned());
        }
        self.has_answer(id);
        self.open.is_empty()
    }

    /// The client has answered this, in whatever way.
    pub(super) fn has_answer(&mut self, id: &RequestId) {
        self.open.remove(id);
    }

    /// What the client has not answered yet.
    pub(super) fn open(&self) -> impl Iterator<Item = &RequestId> {
        self.open.iter()
    }

    /// What it keeps, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let answers = self
            .answers
            .iter()
            .map(|answer| answer.key.len() + answer.result.as_ref().map_or(0, String::len));
        answers.sum::<usize>() + self.state.as_ref().map_or(0, String::len)
    }

    /// Puts into the parameters of the next request what the server needs.
    pub(super) fn put(&self, params: &mut Members<'_>) {
        params.remove("inputResponses");
        params.remove("requestState");
        if !self.answers.is_empty() {
            let mut responses = Members::default();
            for Answer { key, result, .. } in &self.answers {
                if let Some(result) = result {
                    responses.set_json(key, result);
                }
            }
            params.set("inputResponses", &responses);
        }
        if let Some(state) = &self.state {
            params.set_json("requestState", state);
        }
    }
}
