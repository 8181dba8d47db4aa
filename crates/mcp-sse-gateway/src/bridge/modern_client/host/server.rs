//! What the server says: answers, questions and notifications.

use mcp_sse::{Message, MessageKind, RequestId};
use tokio::time::Instant;

use super::{Host, KEPT_BYTES, stage::Stage};
use crate::{
    bridge::modern_client::{
        calls::{Answer, How},
        fault::Fault,
        words,
    },
    message::modern::{LOG_LEVELS, code, meta},
};

impl<A> Host<A> {
    pub(crate) fn says(&mut self, message: Message, now: Instant) {
        if self.is_over() || self.stage_says(&message, now) {
            return;
        }
        match message.kind() {
            MessageKind::Response { id: Some(id), .. } => {
                if let Some(key) = id.as_integer()
                    && !self.has_level(key, now)
                {
                    self.answers(key, message, now);
                }
            }
            MessageKind::Response { id: None, .. } => {}
            MessageKind::Request { id, method } => {
                let (id, method) = (id.clone(), method.clone());
                self.asks(&id, &method, &message, now);
            }
            MessageKind::Notification { method } => {
                let method = method.clone();
                self.notifies(&method, &message, now);
            }
        }
    }

    /// Answers to what the session itself has asked after its beginning are for nobody.
    fn answers(&mut self, key: i64, message: Message, now: Instant) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.sent && call.done.is_none()) else {
            return;
        };
        let left = std::mem::take(&mut call.questions);
        let how = match &self.stage {
            Stage::Legacy(greeted) => How::Legacy { method: call.method.clone(), info: greeted.info.clone() },
            _ => How::Modern,
        };
        let mut answer = Answer { message, id: call.id.clone(), how };
        if call.parked.is_some() {
            let bytes = answer.message.as_bytes().len();
            if self.kept_bytes + bytes > KEPT_BYTES {
                let text = "the answer came before the client had answered its questions, and was too large to be kept";
                let message = Fault::new(code::INTERNAL_ERROR, text).message(&RequestId::from(key));
                answer = Answer { message, id: call.id.clone(), how: How::Modern };
            }
            self.kept_bytes += answer.message.as_bytes().len();
        }
        call.done = Some(answer);
        call.wake();
        self.outlive(left, now);
        self.settle(now);
    }

    fn notifies(&mut self, method: &str, message: &Message, now: Instant) {
        match method {
            "notifications/progress" => self.progresses(message),
            "notifications/message" => self.logs(message),
            "notifications/cancelled" => self.takes_back(message, now),
            _ => self.changes(method, message),
        }
    }

    fn progresses(&mut self, message: &Message) {
        let token = message.param(&["progressToken"]).and_then(|token| self.of_token(token));
        let Some(call) = token.and_then(|key| self.calls.get_mut(&key)).filter(|call| call.runs()) else {
            return;
        };
        let Some(token) = call.token.clone() else { return };
        if let Some(message) = words::with_param(message, "progressToken", &token) {
            call.tell(message);
        }
    }

    /// Which request a message of the log belongs to can be told only while there is one.
    fn logs(&mut self, message: &Message) {
        let mut open =
            self.calls.values_mut().filter(|call| !call.is_listener() && call.sent && call.done.is_none());
        let (Some(call), None) = (open.next(), open.next()) else { return };
        let level: Option<String> =
            message.param(&["level"]).and_then(|level| serde_json::from_str(level).ok());
        let level = level.and_then(|level| LOG_LEVELS.iter().position(|known| *known == level));
        if call.runs() && call.level.zip(level).is_some_and(|(wanted, level)| level >= wanted) {
            call.tell(message.clone());
        }
    }

    /// The server does not want an answer any more.
    fn takes_back(&mut self, message: &Message, now: Instant) {
        let Some(id) = message.cancelled_id() else { return };
        self.orphans.retain(|orphan| orphan.question.id != id);
        let mut held = None;
        for (key, call) in &mut self.calls {
            call.questions.retain(|question| question.id != id);
            if call.held && call.questions.is_empty() {
                held = Some(*key);
            }
        }
        if let Some(key) = held {
            self.release_held(key, now);
        }
    }

    /// The listener that a notification of a modern server is for.
    pub(super) fn of_subscription(message: &Message) -> Option<i64> {
        message.param(&["_meta", meta::SUBSCRIPTION_ID])?.parse().ok()
    }
}
