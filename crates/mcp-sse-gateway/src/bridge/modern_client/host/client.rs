//! What clients do: requests come, are continued and are given up, and their answers are taken.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use mcp_sse::{Message, RequestId};
use serde_json::json;
use tokio::time::Instant;

use super::{Host, LEVELLED, LISTENERS, OUTGOING, Outgoing, Refused, What, stage::Stage};
use crate::{
    bridge::modern_client::{
        asked::Asked,
        calls::{Call, Out, Parked, Question},
        state::State,
    },
    message::modern::LOG_LEVELS,
};

/// The code of an error for a server whose question nobody answers.
const UNANSWERED: i32 = -32000;

impl<A> Host<A> {
    /// A request comes, of which is known whether its like has `asked` the client before; returns by what to ask for its answer.
    pub(crate) fn ask(
        &mut self,
        asked: Arc<Asked>,
        along: A,
        asks: bool,
        now: Instant,
    ) -> Result<i64, Refused> {
        if self.is_over() {
            return Err(Refused::Over);
        }
        if self.outgoing.len() >= OUTGOING {
            return Err(Refused::Full);
        }
        let listeners = self.calls.values().filter(|call| call.is_listener()).count();
        if asked.is_listener() && listeners >= LISTENERS {
            return Err(Refused::Full);
        }
        if !asked.is_listener()
            && self.calls.len() - listeners >= self.bounds.requests
            && !self.expire_oldest(now)
        {
            return Err(Refused::Full);
        }
        let key = self.next_id();
        self.calls.insert(key, Call::new(&asked, asks));
        self.begin(now);
        self.forward(key, asked, along, now);
        Ok(key)
    }

    /// Makes room by giving up the request whose client is away for the longest time; whether there was one.
    pub(crate) fn expire_oldest(&mut self, now: Instant) -> bool {
        let parked = self.calls.iter().filter_map(|(key, call)| Some((call.parked.as_ref()?.since, *key)));
        let Some((_, key)) = parked.min() else { return false };
        self.expire(key, now);
        true
    }

    /// A request comes again, with the answers to what its client was asked.
    pub(crate) fn resume(&mut self, key: i64, asked: &Asked, along: A, now: Instant) -> Result<(), Refused> {
        let call = self.calls.get_mut(&key).ok_or(Refused::State)?;
        if call.parked.as_ref().map(|parked| &parked.state) != asked.state() || call.print != asked.print {
            return Err(Refused::State);
        }
        let Some(Parked { state, .. }) = call.parked.take() else { return Err(Refused::State) };
        self.freed.push(state);
        self.kept_bytes -= call.done.as_ref().map_or(0, |done| done.message.as_bytes().len());
        (call.id, call.token, call.level) = (asked.id.clone(), asked.token.clone(), asked.level);
        if let Some(done) = &mut call.done {
            done.id = asked.id.clone();
        }
        let mut answers = Vec::new();
        let mut is_open = |question: &Question| {
            let Some(result) = asked.responses.get(&question.key) else { return true };
            let json = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, question.id);
            answers.extend(Message::parse(json).ok());
            false
        };
        call.questions.retain(&mut is_open);
        // Those that outlived their request.
        self.orphans.retain(|orphan| is_open(&orphan.question));
        let mut along = Some(along);
        for answer in answers {
            self.send_with(answer, along.take());
        }
        self.set_level(now);
        self.release_held(key, now);
        Ok(())
    }

    /// The next thing for the client of a request; nothing more comes after an answer, or after questions. `mint` gives a
    /// state, if there may be another one.
    pub(crate) fn poll_next(
        &mut self,
        key: i64,
        cx: &Context<'_>,
        now: Instant,
        mint: impl FnOnce() -> Option<State>,
    ) -> Poll<Option<Out>> {
        let Some(call) = self.calls.get_mut(&key) else { return Poll::Ready(None) };
        if call.parked.is_some() {
            return Poll::Ready(None);
        }
        if let Some(message) = call.take() {
            return Poll::Ready(Some(Out::Notification(message)));
        }
        if call.done.is_some() {
            let answer = self.remove(key, now).and_then(|call| call.done);
            return Poll::Ready(answer.map(Out::Answer));
        }
        if call.questions.is_empty() || call.gathers.is_some_and(|until| now < until) {
            call.waits(cx.waker());
            return Poll::Pending;
        }
        call.gathers = None;
        match mint() {
            Some(state) => {
                let message = call.input_required(&state);
                call.parked = Some(Parked { state, since: now });
                call.forget_waiting();
                Poll::Ready(message.map(Out::InputRequired))
            }
            None => {
                call.waits(cx.waker());
                let questions = std::mem::take(&mut call.questions);
                for question in questions {
                    self.reject(
                        &question.id,
                        UNANSWERED,
                        "too many questions wait for clients; try again later",
                    );
                }
                self.release_held(key, now);
                Poll::Pending
            }
        }
    }

    /// The client does not wait for an answer any more.
    pub(crate) fn leave(&mut self, key: i64, now: Instant) {
        if self.calls.get(&key).is_none_or(|call| call.parked.is_some()) {
            return;
        }
        self.give_up(key, "the client has closed the response", now);
    }

    /// The client does not come back.
    pub(super) fn expire(&mut self, key: i64, now: Instant) {
        self.give_up(key, "the client did not answer in time", now);
    }

    fn give_up(&mut self, key: i64, why: &str, now: Instant) {
        let Some(call) = self.remove(key, now) else { return };
        let queued = self.outgoing.len() + self.early.len();
        self.early.retain(|(of, ..)| *of != key);
        self.outgoing.retain(|outgoing| !matches!(&outgoing.what, What::Call { key: of, .. } if *of == key));
        let was_queued = self.outgoing.len() + self.early.len() < queued;
        for question in &call.questions {
            self.reject(&question.id, UNANSWERED, why);
        }
        if call.is_listener() && matches!(self.stage, Stage::Legacy(_)) {
            self.leaves(&call.honoured);
        } else if !was_queued && call.done.is_none() {
            let params = json!({ "requestId": key, "reason": why });
            if let Ok(message) = Message::notification("notifications/cancelled", &params)
                && call.sent
            {
                self.send(message);
            }
        }
        self.settle(now);
    }

    /// The next message for the server; `None` when the session is over.
    pub(crate) fn poll_outgoing(&mut self, cx: &Context<'_>) -> Poll<Option<Outgoing<A>>> {
        if self.is_over() {
            return Poll::Ready(None);
        }
        let Some(outgoing) = self.outgoing.pop_front() else {
            self.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if let What::Call { key, .. } = &outgoing.what
            && let Some(call) = self.calls.get_mut(key)
        {
            call.sent = true;
        }
        Poll::Ready(Some(outgoing))
    }

    /// Tells the server the most verbose level that a request wants, if it has another one.
    pub(super) fn set_level(&mut self, now: Instant) {
        let Stage::Legacy(greeted) = &self.stage else { return };
        let wanted = self.calls.values().filter_map(|call| call.level).min();
        let Some(wanted) = wanted.filter(|wanted| greeted.logs && self.level != Some(*wanted)) else {
            return;
        };
        let Some(name) = LOG_LEVELS.get(wanted) else { return };
        let id = self.next_id();
        if let Ok(message) =
            Message::request(RequestId::from(id), "logging/setLevel", &json!({ "level": name }))
        {
            (self.level, self.levels) = (Some(wanted), Some((id, now + LEVELLED)));
            self.send(message);
        }
    }

    /// Whether this answers the request for a log level; then others wait for it no more.
    pub(super) fn has_level(&mut self, id: i64, now: Instant) -> bool {
        let is_it = self.levels.is_some_and(|(of, _)| of == id);
        if is_it {
            self.levels = None;
            self.release(now);
        }
        is_it
    }
}
