//! The calls of a session that have no answer yet. The transports bound how many there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_sse::{ClientIp, Incoming, Message, MessageKind, Principal, RequestId};
use memchr::memmem;

use super::{Call, Outcome, Watchers};
use crate::{
    audit::{self, Audit, Permit, Record},
    clock,
    metrics::{self, Passed},
};

/// How much of a method and of the name of a tool is kept, in bytes.
const LONGEST: usize = 256;
/// Stands for the name of a tool that is none, or that is there twice.
const UNREADABLE: &str = "(unreadable)";

/// The calls of one session. When it is dropped, those that are left have ended with it.
#[derive(Debug)]
pub(crate) struct Calls {
    watchers: Watchers,
    server: Arc<str>,
    transport: &'static str,
    pending: Mutex<HashMap<RequestId, Call>>,
    /// What counts the messages of the client and those of the server.
    passed: Option<[Passed; 2]>,
}

impl Calls {
    pub(crate) fn new(watchers: Watchers, server: Arc<str>, transport: &'static str) -> Self {
        let passed = watchers.metrics.as_ref().map(|metrics| metrics.passed(transport));
        Self { watchers, server, transport, pending: Mutex::default(), passed }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Call>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn audit(&self) -> Option<&Audit> {
        self.watchers.audit.as_ref()
    }

    /// A message of the client. The permit is taken if it is a call.
    pub(super) fn asked(&self, incoming: &Incoming, permit: &mut Option<Permit>) {
        let message = &incoming.message;
        let bytes = message.as_bytes().len();
        if let Some([from_client, _]) = &self.passed {
            from_client.message(bytes);
        }
        match message.kind() {
            MessageKind::Request { id, method } => {
                let call = self.call(incoming, method, permit);
                // One by the same id is refused by the transports.
                let before = self.lock().insert(id.clone(), call);
                if let Some(before) = before {
                    self.tell(before, Outcome::Ended, 0);
                }
            }
            MessageKind::Notification { method } => {
                if let Some(id) = message.cancelled_id() {
                    self.ended(&id, Outcome::Cancelled, 0);
                } else if !method.starts_with("notifications/") {
                    // A call without an id, which some servers carry out.
                    let call = self.call(incoming, method, permit);
                    self.tell(call, Outcome::Notification, 0);
                }
            }
            MessageKind::Response { .. } => {}
        }
    }

    /// A message of the server.
    pub(super) fn answered(&self, message: &Message) {
        let bytes = message.as_bytes().len();
        if let Some([_, to_client]) = &self.passed {
            to_client.message(bytes);
        }
        if let MessageKind::Response { id: Some(id), is_error } = message.kind() {
            let outcome = if *is_error {
                Outcome::Error
            } else if is_tool_error(message) {
                Outcome::ToolError
            } else {
                Outcome::Ok
            };
            self.ended(id, outcome, bytes);
        }
    }

    /// All calls that are left have ended like this.
    pub(super) fn failed(&self, outcome: Outcome) {
        let left: Vec<_> = self.lock().drain().collect();
        for (_, call) in left {
            self.tell(call, outcome, 0);
        }
    }

    fn call(&self, incoming: &Incoming, method: &str, permit: &mut Option<Permit>) -> Call {
        let message = &incoming.message;
        let extensions = &incoming.parts().extensions;
        let name = || match message.param(&["name"]).map(serde_json::from_str::<String>) {
            Some(Ok(name)) => short(&name),
            // Readers of JSON differ about it, so it may be any.
            _ => UNREADABLE.into(),
        };
        let audit = self.watchers.audit.as_ref();
        let lossy = || audit.filter(|audit| audit.is_lossy()).map(Audit::permit_now);
        Call {
            method: short(method),
            tool: (method == "tools/call").then(name),
            began: clock::now(),
            principal: extensions.get().cloned(),
            address: ClientIp::of(extensions),
            bytes: message.as_bytes().len(),
            permit: permit.take().or_else(lossy),
        }
    }

    fn ended(&self, id: &RequestId, outcome: Outcome, bytes: usize) {
        let call = self.lock().remove(id);
        if let Some(call) = call {
            self.tell(call, outcome, bytes);
        }
    }

    fn tell(&self, call: Call, outcome: Outcome, bytes: usize) {
        let took = clock::now().saturating_duration_since(call.began);
        if let Some(metrics) = &self.watchers.metrics {
            // A server may answer a call of a tool that it does not have with `isError`.
            let is_real = outcome == Outcome::Ok;
            let tool = call.tool.as_deref().map(|name| metrics.names.tool(&self.server, name, is_real));
            let method = metrics::method(&call.method);
            metrics.called(method, tool, &self.server, outcome.error_type(), took);
        }
        if let Some(permit) = call.permit {
            permit.write(&Record {
                time: audit::time(clock::wall()),
                principal: call.principal.as_ref().map(Principal::as_str),
                address: call.address.map(|client| client.0),
                server: &self.server,
                transport: self.transport,
                method: &call.method,
                tool: call.tool.as_deref(),
                outcome: outcome.word(),
                milliseconds: (took.as_secs_f64() * 1e6).round() / 1e3,
                bytes_in: call.bytes,
                bytes_out: bytes,
            });
        }
    }
}

/// The beginning of a name that a client has made up.
fn short(name: &str) -> Box<str> {
    let end = (0..=LONGEST.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name[..end.unwrap_or(0)].into()
}

impl Drop for Calls {
    fn drop(&mut self) {
        let left = std::mem::take(self.pending.get_mut().unwrap_or_else(PoisonError::into_inner));
        for call in left.into_values() {
            self.tell(call, Outcome::Ended, 0);
        }
    }
}

/// Whether a result says that a tool has failed. Most have no such member at all, which is seen quickly.
fn is_tool_error(message: &Message) -> bool {
    #[derive(serde::Deserialize)]
    struct Answer {
        result: Result,
    }
    #[derive(serde::Deserialize)]
    struct Result {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    memmem::find(message.as_bytes(), b"\"isError\"").is_some()
        && serde_json::from_slice::<Answer>(message.as_bytes()).is_ok_and(|answer| answer.result.is_error)
}
