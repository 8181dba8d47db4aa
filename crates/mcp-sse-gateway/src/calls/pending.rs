//! The calls of a session that have no answer yet, and what was seen of all of them. The transports bound how many
//! there are.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcp_sse::{ClientIp, Incoming, Message, MessageKind, Principal, RequestId};
use memchr::memmem;
use tokio::time::Instant;

use super::{
    Outcome, Watchers,
    kinds::{Kind, Kinds},
};
use crate::{
    audit::{self, Audit, Permit, Record},
    clock,
    metrics::Figures,
    traces::{Asked, Carried, Span, Traces},
};

/// A request of a client, or a notification that asks for what a request would.
#[derive(Debug)]
struct Call {
    kind: Arc<Kind>,
    began: Instant,
    /// Who asks, as a line of the audit log has it.
    whose: Option<Arc<str>>,
    /// Its size, in bytes.
    bytes: usize,
    /// The place of its line in the audit log.
    permit: Option<Permit>,
    /// Large, and most have none.
    span: Option<Box<Span>>,
}

/// The calls of one session. When it is dropped, those that are left have ended with it.
#[derive(Debug)]
pub(crate) struct Calls {
    watchers: Watchers,
    server: Arc<str>,
    transport: &'static str,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<RequestId, Call, foldhash::fast::RandomState>,
    kinds: Kinds,
    figures: Figures,
    /// The last call, and when it came.
    last: Option<(Arc<Kind>, Instant)>,
    /// Who the client is, and where, as of its last call of which somebody wants to know.
    client: Option<(Option<Principal>, Option<ClientIp>)>,
    /// The same as a line of the audit log has it.
    whose: Option<Arc<str>>,
}

/// What was seen of a session so far.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) server: Arc<str>,
    pub(crate) transport: &'static str,
    pub(crate) principal: Option<Principal>,
    pub(crate) address: Option<ClientIp>,
    pub(crate) age: Duration,
    /// Since its last call, or its beginning.
    pub(crate) idle: Duration,
    pub(crate) in_flight: usize,
    pub(crate) figures: Figures,
    pub(crate) last: Option<String>,
}

impl Calls {
    pub(crate) fn new(watchers: Watchers, server: Arc<str>, transport: &'static str) -> Self {
        Self { watchers, server, transport, began: clock::now(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn audit(&self) -> Option<&Audit> {
        self.watchers.audit.as_ref()
    }

    pub(super) fn transport(&self) -> &'static str {
        self.transport
    }

    pub(super) fn figures(&self) -> Figures {
        self.lock().figures
    }

    pub(super) fn seen(&self) -> Seen {
        let now = clock::now();
        let state = self.lock();
        let (principal, address) = state.client.clone().unwrap_or_default();
        let since = state.last.as_ref().map_or(self.began, |(_, at)| *at);
        Seen {
            server: Arc::clone(&self.server),
            transport: self.transport,
            principal,
            address,
            age: now.saturating_duration_since(self.began),
            idle: now.saturating_duration_since(since),
            in_flight: state.pending.len(),
            figures: state.figures,
            last: state.last.as_ref().map(|(kind, _)| kind.shown()),
        }
    }

    /// A message of the client. The permit is taken if it is a call, which may be changed so that the server continues
    /// its trace.
    pub(super) fn asked(&self, incoming: &mut Incoming, permit: &mut Option<Permit>) {
        let carried = self.taken(incoming, permit);
        if let Some(carried) = carried {
            carried.put(incoming);
        }
    }

    fn taken(&self, incoming: &Incoming, permit: &mut Option<Permit>) -> Option<Carried> {
        let message = &incoming.message;
        let mut state = self.lock();
        state.figures.from_client.message(message.as_bytes().len());
        match message.kind() {
            MessageKind::Request { id, method } => {
                let call = self.call(&mut state, incoming, Some(id), method, permit);
                let carried = call.span.as_deref().map(Span::carried);
                // One by the same id is refused by the transports.
                if let Some(before) = state.pending.insert(id.clone(), call) {
                    self.tell(&mut state, before, Outcome::Ended, 0);
                }
                carried
            }
            MessageKind::Notification { method } => {
                if let Some(id) = message.cancelled_id() {
                    self.ended(state, &id, Outcome::Cancelled, 0);
                    None
                } else if method.starts_with("notifications/") {
                    None
                } else {
                    // A call without an id, which some servers carry out.
                    let call = self.call(&mut state, incoming, None, method, permit);
                    let carried = call.span.as_deref().map(Span::carried);
                    self.tell(&mut state, call, Outcome::Notification, 0);
                    carried
                }
            }
            MessageKind::Response { .. } => None,
        }
    }

    /// A message of the server.
    pub(super) fn answered(&self, message: &Message) {
        let mut state = self.lock();
        state.figures.to_client.message(message.as_bytes().len());
        if let MessageKind::Response { id: Some(id), is_error } = message.kind() {
            let outcome = if *is_error {
                Outcome::Error
            } else if is_tool_error(message) {
                Outcome::ToolError
            } else {
                Outcome::Ok
            };
            self.ended(state, id, outcome, message.as_bytes().len());
        }
    }

    /// All calls that are left have ended like this.
    pub(super) fn failed(&self, outcome: Outcome) {
        let mut state = self.lock();
        for (_, call) in std::mem::take(&mut state.pending) {
            self.tell(&mut state, call, outcome, 0);
        }
    }

    fn call(
        &self,
        state: &mut State,
        incoming: &Incoming,
        id: Option<&RequestId>,
        method: &str,
        permit: &mut Option<Permit>,
    ) -> Call {
        let extensions = incoming.extensions();
        let kind = state.kinds.of(&incoming.message, method);
        let began = clock::now();
        state.figures.calls += 1;
        match &mut state.last {
            Some((last, at)) if Arc::ptr_eq(last, &kind) => *at = began,
            last => *last = Some((Arc::clone(&kind), began)),
        }
        let audit = self.watchers.audit.as_ref();
        let lossy = || audit.filter(|audit| audit.is_lossy()).and_then(Audit::permit_now);
        let permit = permit.take().or_else(lossy);
        // It seldom changes within a session.
        if permit.is_some() || state.client.is_none() {
            let client = (extensions.get().cloned(), ClientIp::of(extensions));
            if state.client.as_ref() != Some(&client) {
                state.whose = None;
                state.client = Some(client);
            }
        }
        let whose = permit.is_some().then(|| self.whose(state));
        let span =
            self.watchers.traces.as_ref().map(|traces| Box::new(self.span(traces, incoming, id, &kind)));
        Call { kind, began, whose, bytes: incoming.message.as_bytes().len(), permit, span }
    }

    /// Who the client is, as a line of the audit log has it.
    fn whose(&self, state: &mut State) -> Arc<str> {
        let State { client, whose, .. } = state;
        let made = || {
            let (principal, address) = client.as_ref().map_or((None, None), |(principal, address)| {
                (principal.as_ref().map(Principal::as_str), address.map(|address| address.0))
            });
            audit::whose(principal, address, &self.server, self.transport).into()
        };
        Arc::clone(whose.get_or_insert_with(made))
    }

    fn span(&self, traces: &Traces, incoming: &Incoming, id: Option<&RequestId>, kind: &Kind) -> Span {
        traces.begin(&Asked {
            method: &kind.method,
            tool: kind.tool.as_deref(),
            id: id.map(RequestId::to_string),
            server: &self.server,
            transport: self.transport,
            in_message: Carried::in_message(&incoming.message),
            in_headers: Carried::in_headers(&incoming.parts().headers),
        })
    }

    fn ended(&self, mut state: MutexGuard<'_, State>, id: &RequestId, outcome: Outcome, bytes: usize) {
        if let Some(call) = state.pending.remove(id) {
            self.tell(&mut state, call, outcome, bytes);
        }
    }

    fn tell(&self, state: &mut State, call: Call, outcome: Outcome, bytes: usize) {
        state.figures.errors += u64::from(outcome.is_error());
        let took = clock::now().saturating_duration_since(call.began);
        if let Some(metrics) = &self.watchers.metrics {
            call.kind.count(metrics, &self.server, outcome, took.as_secs_f64());
        }
        if let Some(span) = call.span {
            span.end(outcome.error_type());
        }
        if let Some((permit, whose)) = call.permit.zip(call.whose) {
            let record = Record {
                time: clock::wall(),
                whose: &whose,
                what: &call.kind.audited,
                outcome: outcome.word(),
                took,
                bytes_in: call.bytes,
                bytes_out: bytes,
            };
            audit::write(permit, &record);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.failed(Outcome::Ended);
    }
}

/// Whether a result says that a tool has failed. That most say that it has not, or nothing, is seen quickly.
fn is_tool_error(message: &Message) -> bool {
    static NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"isError\""));
    let json = message.as_bytes();
    let is_true = |at: usize| {
        let behind = json.get(at + NAME.needle().len()..).unwrap_or_default();
        let value = behind.iter().find(|byte| !byte.is_ascii_whitespace() && **byte != b':');
        value == Some(&b't')
    };
    NAME.find_iter(json).any(is_true) && says_so(json)
}

/// The same, read as JSON: what looks like the member may be in a text.
fn says_so(json: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Answer {
        result: Result,
    }
    #[derive(serde::Deserialize)]
    struct Result {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    serde_json::from_slice::<Answer>(json).is_ok_and(|answer| answer.result.is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_says_that_its_tool_has_failed_only_by_its_own_member() {
        for (result, fails) in [
            (r#"{"content":[],"isError":true}"#, true),
            (r#"{"content":[] , "isError" : true , "x":1}"#, true),
            (r#"{"content":[],"isError":false}"#, false),
            (r#"{"content":[]}"#, false),
            (r#"{"structuredContent":{"isError":true},"isError":false}"#, false),
            (r#"{"content":[{"type":"text","text":"\"isError\":true"}]}"#, false),
            (r#"{"content":[{"type":"text","text":"\"isError\":true"}],"isError":true}"#, true),
        ] {
            let message = Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap();
            assert_eq!(is_tool_error(&message), fails, "{result}");
        }
    }
}
