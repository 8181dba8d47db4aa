//! Which request a question of the server's belongs to.
//!
//! A server does not say. While one request that may lead to questions is with it, a question belongs to that. While there are
//! several, it waits until all but one are answered, which is soon, as the one that it belongs to waits for it. One that has
//! asked already, and waits for answers, asks no more. What has asked before is remembered, and gets a session of its own the next
//! time.

use std::{collections::VecDeque, time::Duration};

use mcp_sse::{Message, RequestId};
use tokio::time::Instant;

use super::{GATHERED, Host, INVALID_REQUEST, OUTGOING, stage::Stage};
use crate::{
    bridge::modern_client::{
        asked::Kind,
        calls::{Call, Orphan, Question},
        words,
    },
    message::modern::code,
};

/// How long a question that belongs to no request, or to one of several, waits for it to be clear.
pub(super) const ORPHANED: Duration = Duration::from_secs(30);
/// The same when it will hardly become clear.
pub(super) const HURRIED: Duration = Duration::from_secs(5);
pub(super) const ORPHANS: usize = 16;
/// The most questions of one request, and their bytes.
pub(super) const QUESTIONS: usize = 16;
const QUESTION_BYTES: usize = 4 * 1024 * 1024;

/// Why a question is refused.
const NO_REQUEST: &str = "the client can be asked only while it waits for an answer to tools/call, prompts/get or resources/read, and there is no such request";
const MANY_REQUESTS: &str =
    "the client has several requests in flight, and it cannot be told to which of them this belongs";
const ANSWERED: &str = "the client's request that this belonged to is answered";

impl<A> Host<A> {
    pub(super) fn asks(&mut self, id: &RequestId, method: &str, message: &Message, now: Instant) {
        if method == "ping" {
            // A server that reads no answers needs none.
            if self.outgoing.len() < OUTGOING
                && let Ok(message) = Message::result(id, &serde_json::Map::new())
            {
                self.send(message);
            }
            return;
        }
        let mode: Option<String> = message.param(&["mode"]).and_then(|mode| serde_json::from_str(mode).ok());
        let takes = self.about.takes(method, mode.as_deref()) && matches!(self.stage, Stage::Legacy(_));
        let Some(entry) = words::entry(message).filter(|_| takes) else {
            let text = format!("the client does not support {method:?}");
            return self.reject(id, code::METHOD_NOT_FOUND, &text.chars().take(200).collect::<String>());
        };
        let key = format!("question-{}", self.next_id());
        let question = Question { id: id.clone(), key, entry, is_roots: method == "roots/list" };
        let named = message.param(&["_meta", "progressToken"]).and_then(|token| self.of_token(token));
        if let Some(key) = named.filter(|key| self.calls.get(key).is_some_and(Call::may_ask)) {
            return self.question(key, question, now);
        }
        match self.asking(now) {
            // The answer about roots is the same, whoever is asked.
            (Some(key), others) if !others || question.is_roots => self.question(key, question, now),
            // Many servers ask for roots as soon as they may. The next request can carry it.
            (None, _) if !question.is_roots => self.reject(id, INVALID_REQUEST, NO_REQUEST),
            _ if self.orphans.len() < ORPHANS => {
                self.settled = now;
                self.orphans.push_back(Orphan { question, until: now + ORPHANED });
                self.hurry(now);
            }
            (None, _) => self.reject(id, INVALID_REQUEST, NO_REQUEST),
            (Some(_), _) => self.unclear(&question),
        }
    }

    /// The first of the requests that a question may belong to, and whether there are others.
    fn asking(&self, now: Instant) -> (Option<i64>, bool) {
        let with_server = || self.calls.iter().filter(|(_, call)| call.may_ask());
        let mut asking = with_server().filter(|(_, call)| !call.has_asked(now)).map(|(key, _)| *key);
        if let Some(first) = asking.next() {
            return (Some(first), asking.next().is_some());
        }
        let mut others = with_server().map(|(key, _)| *key);
        (others.next(), others.next().is_some())
    }

    /// When it may be clear whose those are that wait for that, which it was not when it was last looked at.
    pub(super) fn clears(&self) -> Option<Instant> {
        let waits = self.orphans.iter().any(|orphan| !orphan.question.is_roots);
        let asked = self.calls.values().filter(|call| call.may_ask()).filter_map(Call::asked_until);
        if waits { asked.filter(|until| *until > self.settled).min() } else { None }
    }

    /// A question belongs to a request.
    pub(super) fn question(&mut self, key: i64, question: Question, now: Instant) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let bytes: usize = call.questions.iter().map(|question| question.entry.len()).sum();
        if call.questions.len() >= QUESTIONS || (bytes > 0 && bytes + question.entry.len() > QUESTION_BYTES) {
            return self.reject(
                &question.id,
                INVALID_REQUEST,
                "the client has too many questions to answer already",
            );
        }
        if call.questions.is_empty() {
            // Others may come with it.
            call.gathers = Some(now + GATHERED);
        }
        if !question.is_roots && !call.asks {
            call.asks = true;
            self.askers.extend(call.subject.clone());
        }
        call.questions.push(question);
        call.wake();
    }

    /// If there are as many questions as requests that they may belong to, most likely each waits for one of them.
    fn hurry(&mut self, now: Instant) {
        let asking = self.calls.values().filter(|call| call.may_ask() && !call.has_asked(now)).count();
        let is_open = |orphan: &&mut Orphan| !orphan.question.is_roots;
        if self.orphans.iter_mut().filter(is_open).count() >= asking {
            for orphan in self.orphans.iter_mut().filter(is_open) {
                orphan.until = orphan.until.min(now + HURRIED);
            }
        }
    }

    /// It cannot be told which of several requests it belongs to.
    fn unclear(&mut self, question: &Question) {
        // The next time they are apart.
        for call in self.calls.values_mut().filter(|call| call.may_ask() && !call.asks) {
            call.asks = true;
            self.askers.extend(call.subject.clone());
        }
        self.reject(&question.id, INVALID_REQUEST, MANY_REQUESTS);
    }

    /// Gives questions to the request that they belong to, if that is clear now.
    pub(super) fn settle(&mut self, now: Instant) {
        self.settled = now;
        if self.orphans.iter().all(|orphan| orphan.question.is_roots) {
            return;
        }
        let (first, false) = self.asking(now) else { return };
        for orphan in std::mem::take(&mut self.orphans) {
            match first {
                _ if orphan.question.is_roots => self.orphans.push_back(orphan),
                Some(key) => self.question(key, orphan.question, now),
                None => self.reject(&orphan.question.id, INVALID_REQUEST, ANSWERED),
            }
        }
    }

    /// Those that wait for too long are refused.
    pub(super) fn orphans_due(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.orphans);
        let (late, others): (VecDeque<_>, _) = all.into_iter().partition(|orphan| orphan.until <= now);
        self.orphans = others;
        for Orphan { question, .. } in late {
            if question.is_roots {
                self.reject(&question.id, INVALID_REQUEST, NO_REQUEST);
            } else {
                self.unclear(&question);
            }
        }
    }

    /// Questions of a request that was answered without them. That about roots is still one.
    pub(super) fn outlive(&mut self, questions: Vec<Question>, now: Instant) {
        for question in questions {
            if question.is_roots && self.orphans.len() < ORPHANS {
                self.orphans.push_back(Orphan { question, until: now + ORPHANED });
            } else {
                self.reject(&question.id, INVALID_REQUEST, ANSWERED);
            }
        }
    }

    /// Gives a new request the questions that any request can carry; whether there were any.
    pub(super) fn adopt(&mut self, key: i64, now: Instant) -> bool {
        let all = std::mem::take(&mut self.orphans);
        let (roots, others): (VecDeque<_>, _) = all.into_iter().partition(|orphan| orphan.question.is_roots);
        self.orphans = others;
        let has_any = !roots.is_empty();
        for orphan in roots {
            self.question(key, orphan.question, now);
        }
        has_any
    }

    /// Takes what has asked for the first time.
    pub(crate) fn take_askers(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.askers)
    }

    pub(crate) fn has_askers(&self) -> bool {
        !self.askers.is_empty()
    }

    /// How busy it is with requests that have asked before, or may.
    pub(crate) fn load(&self) -> super::Load {
        let asking = || self.calls.values().filter(|call| call.kind == Kind::MayAsk);
        let parked = || asking().filter_map(|call| call.parked.as_ref());
        super::Load {
            asks: asking().filter(|call| call.asks && call.runs()).count(),
            parked: parked().count(),
            oldest: parked().map(|parked| parked.since).min(),
        }
    }
}
