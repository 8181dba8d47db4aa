//! How a session begins with its server, and how it ends.

use std::sync::Arc;

use mcp_sse::{Message, MessageKind, RequestId};
use tokio::time::Instant;

use super::{
    Host, Outgoing, PROBE, What,
    stage::{Plan, Stage},
};
use crate::{
    bridge::modern_client::{
        asked::{Asked, Kind},
        calls::{Answer, How},
        fault::Fault,
        words::{self, Greeted},
    },
    message::modern::code,
};

const PROBE_ID: &str = "mcp-sse-discover";
const GREETING_ID: &str = "mcp-sse-initialize";

impl<A> Host<A> {
    /// The first request has come.
    pub(super) fn begin(&mut self, now: Instant) {
        let Stage::Begins(plan) = self.stage else { return };
        match plan {
            // What begins with a call that takes long could not be told from a server that does not start.
            Plan::Modern => {
                if let Some(message) = words::discover(&RequestId::from(PROBE_ID), &self.about) {
                    self.send(message);
                }
                self.is_modern(now);
            }
            Plan::Legacy => self.greet(None),
            Plan::Ask => match words::discover(&RequestId::from(PROBE_ID), &self.about) {
                Some(message) => {
                    self.stage = Stage::Probes { until: now + PROBE };
                    self.send(message);
                }
                None => self.greet(None),
            },
        }
    }

    fn greet(&mut self, until: Option<Instant>) {
        match words::initialize(&RequestId::from(GREETING_ID), &self.about) {
            Some(message) => {
                self.stage = Stage::Greets { modern: false, until };
                self.send(message);
            }
            // It was made of what was read.
            None => self.fail("what the client says of itself cannot be passed on"),
        }
    }

    pub(super) fn stage_due(&mut self, now: Instant) {
        match self.stage {
            Stage::Probes { until } if until <= now => self.greet(None),
            Stage::Greets { until: Some(until), .. } if until <= now => {
                let text =
                    format!("the server has not answered initialize within {:?}", self.bounds.start_timeout);
                self.fail(&text);
            }
            _ => {}
        }
    }

    /// Whether this was an answer to what the session itself has asked.
    pub(super) fn stage_says(&mut self, message: &Message, now: Instant) -> bool {
        let MessageKind::Response { id: Some(id), is_error } = message.kind() else { return false };
        match id.as_str() {
            Some(PROBE_ID) => {
                let modern = words::is_modern(message);
                match &mut self.stage {
                    Stage::Probes { .. } if modern => {
                        self.found = Some(true);
                        self.is_modern(now);
                    }
                    // It runs, so the answer to this may not take longer than a start.
                    Stage::Probes { .. } => self.greet(Some(now + self.bounds.start_timeout)),
                    Stage::Greets { modern: is_modern, .. } => *is_modern = modern,
                    _ => {}
                }
                true
            }
            Some(GREETING_ID) => {
                match (&self.stage, is_error) {
                    (Stage::Greets { .. }, false) => match words::greeted(message) {
                        Some(greeted) => {
                            self.found = Some(false);
                            self.is_legacy(greeted, now);
                        }
                        None => self.fail("the server's answer to initialize cannot be read"),
                    },
                    // Some decide by the first request that they get.
                    (Stage::Greets { modern: true, .. }, true) => {
                        self.found = Some(true);
                        self.is_modern(now);
                    }
                    (Stage::Greets { .. }, true) => {
                        let why = words::error(message).map(|error| error.message).unwrap_or_default();
                        let why: String = why.chars().take(1_000).collect();
                        self.fail(&format!("the server refused initialize: {why}"));
                    }
                    _ => {}
                }
                true
            }
            _ => false,
        }
    }

    fn is_legacy(&mut self, greeted: Greeted, now: Instant) {
        self.stage = Stage::Legacy(greeted);
        if let Ok(message) = Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#) {
            self.send(message);
        }
        self.release(now);
    }

    fn is_modern(&mut self, now: Instant) {
        self.stage = Stage::Modern;
        self.release(now);
    }

    /// What they waited for has come, unless it is an answer of their clients.
    pub(super) fn release(&mut self, now: Instant) {
        for (key, asked, along) in std::mem::take(&mut self.early) {
            if self.calls.get(&key).is_some_and(|call| call.held) {
                self.early.push_back((key, asked, along));
            } else {
                self.forward(key, asked, along, now);
            }
        }
    }

    /// The client of a request that was held has answered.
    pub(super) fn release_held(&mut self, key: i64, now: Instant) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.held && call.questions.is_empty())
        else {
            return;
        };
        call.held = false;
        let Some(at) = self.early.iter().position(|(of, ..)| *of == key) else { return };
        if let Some((key, asked, along)) = self.early.remove(at) {
            self.pass_on(key, asked, along, now);
        }
    }

    /// Passes a request on, or answers it here.
    pub(super) fn forward(&mut self, key: i64, asked: Arc<Asked>, along: A, now: Instant) {
        match &self.stage {
            Stage::Legacy(greeted) => {
                let ready = match asked.kind {
                    // Of ours it is none.
                    _ if asked.state().is_some() => Some(Fault::state().message(&asked.id)),
                    Kind::Discover => {
                        let info = greeted.info.as_deref();
                        let message =
                            words::result_of(&greeted.discovered, &asked.id, "server/discover", info);
                        let text = "the server's capabilities cannot be read";
                        let fault = || Fault::new(code::INTERNAL_ERROR, text).message(&asked.id);
                        Some(message.unwrap_or_else(fault))
                    }
                    Kind::Listen(_) => return self.listens(key),
                    Kind::MayAsk | Kind::Other => None,
                };
                if let Some(message) = ready {
                    if let Some(call) = self.calls.get_mut(&key) {
                        call.done = Some(Answer { message, id: call.id.clone(), how: How::Ready });
                        call.wake();
                    }
                    return;
                }
                if asked.kind == Kind::MayAsk && self.adopt(key, now) {
                    if let Some(call) = self.calls.get_mut(&key) {
                        call.held = true;
                    }
                    return self.early.push_back((key, asked, along));
                }
            }
            Stage::Modern => {}
            _ => return self.early.push_back((key, asked, along)),
        }
        self.pass_on(key, asked, along, now);
    }

    fn pass_on(&mut self, key: i64, asked: Arc<Asked>, along: A, now: Instant) {
        if self.levels.is_none() && self.calls.get(&key).is_some_and(|call| call.level.is_some()) {
            self.set_level(now);
        }
        // Over HTTP one may overtake the other.
        if self.levels.is_some() {
            return self.early.push_back((key, asked, along));
        }
        let modern = matches!(self.stage, Stage::Modern);
        let token = self.token(key);
        let what = What::Call { key, asked, token, modern };
        self.outgoing.push_back(Outgoing { what, along: Some(along) });
        self.wake_receiver();
    }

    /// The session has ended, or cannot begin.
    pub(crate) fn fail(&mut self, text: &str) {
        self.stage = Stage::Over;
        (self.early, self.outgoing) = Default::default();
        self.orphans.clear();
        self.levels = None;
        let info = None;
        for call in self.calls.values_mut() {
            if let Some(parked) = call.parked.take() {
                self.freed.push(parked.state);
                // Its client comes back to nothing.
                call.done = None;
            } else if call.done.is_none() {
                let message = if call.is_listener() { call.last_words(info) } else { None };
                let message =
                    message.unwrap_or_else(|| Fault::new(code::INTERNAL_ERROR, text).message(&call.id));
                call.done = Some(Answer { message, id: call.id.clone(), how: How::Ready });
            }
            call.questions.clear();
            call.wake();
        }
        self.kept_bytes = 0;
        self.calls.retain(|_, call| call.done.is_some());
        self.wake_receiver();
    }
}
