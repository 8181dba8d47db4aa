//! A request that has no answer yet, and what waits for its client.

use std::{collections::VecDeque, task::Waker, time::Duration};

use mcp_sse::{Message, RequestId};
use tokio::time::Instant;

use super::{
    asked::{Asked, Filter, Kind},
    fault::Fault,
    state::State,
    words,
};
use crate::message::{members::with_id, modern::code};

/// Messages that wait for a client, and their bytes. Of more than that, the oldest are dropped: a client counts on none.
const WAITING: usize = 64;
const WAITING_BYTES: usize = 256 * 1024;
/// How long more questions are expected of a request whose client was asked.
const ASKED: Duration = Duration::from_secs(1);
/// For a listener. Of messages that say the same the last one is enough.
const CHANGES: usize = 1024;

/// What a client gets.
#[derive(Debug)]
pub(crate) enum Out {
    /// Something before the answer.
    Notification(Message),
    /// The answer.
    Answer(Answer),
    /// The client has to answer questions, and to send its request again.
    InputRequired(Message),
}

/// An answer as its server gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) message: Message,
    pub(super) id: RequestId,
    pub(super) how: How,
}

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum How {
    /// It is for the client as it is.
    Ready,
    /// It has an id of ours.
    Modern,
    /// The same, in the words of the other era.
    Legacy { method: Box<str>, info: Option<Box<str>> },
}

impl Answer {
    /// As its client gets it. Large ones take a moment.
    pub(crate) fn message(self) -> Message {
        match self.how {
            How::Ready => self.message,
            How::Modern => with_id(&self.message, &self.id).unwrap_or_else(|| {
                Fault::new(code::INTERNAL_ERROR, "the server's answer cannot be read").message(&self.id)
            }),
            How::Legacy { method, info } => {
                words::for_client(&self.message, &self.id, &method, info.as_deref())
            }
        }
    }
}

/// A question of a server to its client.
#[derive(Debug)]
pub(super) struct Question {
    /// As the server knows it.
    pub(super) id: RequestId,
    /// As the client knows it.
    pub(super) key: String,
    /// Method and parameters, as JSON.
    pub(super) entry: String,
    /// Its answer depends on no request.
    pub(super) is_roots: bool,
}

/// A question that belongs to no request yet.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) question: Question,
    pub(super) until: Instant,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Call {
    /// As the client knows it.
    pub(super) id: RequestId,
    pub(super) method: Box<str>,
    pub(super) kind: Kind,
    pub(super) print: u64,
    pub(super) token: Option<Box<str>>,
    pub(super) level: Option<usize>,
    /// Whether the server has it.
    pub(super) sent: bool,
    /// It waits until the client has answered what the server has asked before.
    pub(super) held: bool,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    pub(super) done: Option<Answer>,
    pub(super) questions: Vec<Question>,
    /// Until when others may come with the first of them.
    pub(super) gathers: Option<Instant>,
    /// What it is about, and whether that has asked the client before.
    pub(super) subject: Option<Box<str>>,
    pub(super) asks: bool,
    pub(super) parked: Option<Parked>,
    /// What a listener was promised.
    pub(super) honoured: Filter,
    waker: Option<Waker>,
}

/// The client has its questions, and has to come again.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) state: State,
    pub(super) since: Instant,
}

impl Call {
    pub(super) fn new(asked: &Asked, asks: bool) -> Self {
        Self {
            id: asked.id.clone(),
            method: asked.message.method().unwrap_or_default().into(),
            kind: asked.kind.clone(),
            print: asked.print,
            token: asked.token.clone(),
            level: asked.level,
            sent: false,
            held: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            done: None,
            questions: Vec::new(),
            gathers: None,
            subject: asked.subject(),
            asks,
            parked: None,
            honoured: Filter::default(),
            waker: None,
        }
    }

    pub(super) fn is_listener(&self) -> bool {
        matches!(self.kind, Kind::Listen(_))
    }

    /// Whether its server works on it, and its client waits.
    pub(super) fn runs(&self) -> bool {
        self.done.is_none() && self.parked.is_none() && !self.is_listener()
    }

    /// Whether a question of the server's may belong to it.
    pub(super) fn may_ask(&self) -> bool {
        self.kind == Kind::MayAsk && self.sent && self.done.is_none()
    }

    /// Until when more questions may come of it, once its client has those that came together.
    pub(super) fn asked_until(&self) -> Option<Instant> {
        self.parked.as_ref().map(|parked| parked.since + ASKED)
    }

    /// Whether it has asked, and waits for answers.
    pub(super) fn has_asked(&self, now: Instant) -> bool {
        self.asked_until().is_some_and(|until| until <= now)
    }

    /// Whether the client has something to take now.
    #[cfg(test)]
    pub(super) fn has_news(&self) -> bool {
        !self.waiting.is_empty()
            || self.done.is_some()
            || (!self.questions.is_empty() && self.gathers.is_none())
    }

    pub(super) fn waits(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|before| before.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// A message before the answer.
    pub(super) fn tell(&mut self, message: Message) {
        self.waiting_bytes += message.as_bytes().len();
        self.waiting.push_back(message);
        while self.waiting.len() > WAITING || (self.waiting_bytes > WAITING_BYTES && self.waiting.len() > 1) {
            self.take();
        }
        self.wake();
    }

    /// The same for a listener; whether it is not too much. One that waits and says the same is not sent any more.
    pub(super) fn tell_change(&mut self, message: Message) -> bool {
        let same = |other: &Message| {
            other.method() == message.method() && other.param(&["uri"]) == message.param(&["uri"])
        };
        let at = self.waiting.iter().position(same);
        if let Some(before) = at.and_then(|at| self.waiting.remove(at)) {
            self.waiting_bytes -= before.as_bytes().len();
        }
        self.waiting_bytes += message.as_bytes().len();
        self.waiting.push_back(message);
        self.wake();
        self.waiting.len() <= CHANGES && (self.waiting_bytes <= 4 * WAITING_BYTES || self.waiting.len() == 1)
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.as_bytes().len();
        Some(message)
    }

    /// Forgets what nobody reads.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting = VecDeque::new();
        self.waiting_bytes = 0;
    }
}

impl Call {
    /// The answer that asks the client.
    pub(super) fn input_required(&self, state: &State) -> Option<Message> {
        let mut requests = String::new();
        for question in &self.questions {
            if !requests.is_empty() {
                requests.push(',');
            }
            requests.push_str(&format!(r#""{}":{}"#, question.key, question.entry));
        }
        let state = serde_json::Value::from(state.expose());
        let id = &self.id;
        Message::parse(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{requests}}},"requestState":{state}}}}}"#
        ))
        .ok()
    }
}
