//! The session of ours that clients' requests are answered in, without IO: requests, messages of the server and times in, messages
//! for both out.
//!
//! Invariants:
//! - Each request is answered once, or its client has gone, or it was continued by another.
//! - Each question of the server's is answered once, unless the server takes it back.
//! - What a server asks or says is for a client only if it cannot be meant for another request.

mod begin;
mod client;
mod listeners;
mod questions;
mod server;
mod stage;

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use mcp_sse::{Message, RequestId};
use tokio::time::Instant;

pub(crate) use self::stage::Plan;
use self::stage::Stage;
use super::{
    asked::{About, Asked},
    calls::{Call, Orphan},
    state::State,
    words,
};
use crate::message::modern::code::INVALID_REQUEST;

/// How long a client has to come back with the answers to what it was asked.
pub(crate) const PARKED: Duration = Duration::from_secs(600);
/// How long a server is asked for the modern era before it is tried as a legacy one.
const PROBE: Duration = Duration::from_secs(5);
/// How long the first question of a request waits for others: servers that ask several at once send them one by one.
const GATHERED: Duration = Duration::from_millis(50);
/// How long a request waits for the server to take its log level.
const LEVELLED: Duration = Duration::from_secs(2);
/// The bytes of answers that came while their client was away.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Messages that wait for the server. Of more than that, no request is taken, and the server's pings have no answer.
const OUTGOING: usize = 1024;
const LISTENERS: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Requests that are not answered, with those whose clients have to come back.
    pub(crate) requests: usize,
    /// For the answer to `initialize`.
    pub(crate) start_timeout: Duration,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are too many of them.
    Full,
    /// The session is over.
    Over,
    /// What it continues is not there.
    State,
}

/// A message for the server, and what came with it.
#[derive(Debug)]
pub(crate) struct Outgoing<A> {
    what: What,
    /// That of the client's request that it comes from.
    pub(crate) along: Option<A>,
}

#[derive(Debug)]
enum What {
    Message(Message),
    Call { key: i64, asked: Arc<Asked>, token: String, modern: bool },
}

impl<A> Outgoing<A> {
    /// As the server gets it. Large ones take a moment.
    pub(crate) fn message(&self) -> Option<Message> {
        match &self.what {
            What::Message(message) => Some(message.clone()),
            What::Call { key, asked, token, modern } => {
                let id = RequestId::from(*key);
                if *modern {
                    words::for_modern(asked, &id, token)
                } else {
                    words::for_legacy(asked, &id, token)
                }
            }
        }
    }
}

/// `A` is what comes along with a client's message to the server.
#[derive(Debug)]
pub(crate) struct Host<A> {
    about: About,
    bounds: Bounds,
    stage: Stage,
    /// By our ids: the oldest first.
    calls: BTreeMap<i64, Call>,
    /// Requests that wait until the server is known, or until their clients have answered a question.
    early: VecDeque<(i64, Arc<Asked>, A)>,
    /// Messages that the server has not taken.
    outgoing: VecDeque<Outgoing<A>>,
    receiver: Option<Waker>,
    /// Questions that belong to no request yet.
    orphans: VecDeque<Orphan>,
    /// When it was last looked at whose they are.
    settled: Instant,
    /// What has asked for the first time.
    askers: Vec<Box<str>>,
    /// What the server was asked to tell of, and how many listeners want to hear it.
    subscriptions: BTreeMap<Box<str>, usize>,
    /// The level that the server was told, and the request for that, until when others wait for it.
    level: Option<usize>,
    levels: Option<(i64, Instant)>,
    /// Whether the server speaks the modern era, as it has just shown.
    found: Option<bool>,
    /// States that count no more.
    freed: Vec<State>,
    kept_bytes: usize,
    /// Since when nobody uses it.
    idle_since: Instant,
    mark: u64,
    next: i64,
}

/// How busy it is with requests that ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Those that have asked before.
    pub(crate) asks: usize,
    /// Those whose clients have to come back.
    pub(crate) parked: usize,
    /// When the first of those was parked.
    pub(crate) oldest: Option<Instant>,
}

impl<A> Host<A> {
    pub(crate) fn new(about: About, plan: Plan, bounds: Bounds, now: Instant) -> Self {
        Self {
            about,
            bounds,
            stage: Stage::Begins(plan),
            calls: BTreeMap::new(),
            early: VecDeque::new(),
            outgoing: VecDeque::new(),
            receiver: None,
            orphans: VecDeque::new(),
            settled: now,
            askers: Vec::new(),
            subscriptions: BTreeMap::new(),
            level: None,
            levels: None,
            found: None,
            freed: Vec::new(),
            kept_bytes: 0,
            idle_since: now,
            mark: RandomState::new().build_hasher().finish(),
            next: 0,
        }
    }

    /// Whether anybody needs it.
    pub(crate) fn is_used(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether a client is there that waits for something. Those that have to come back may stay away.
    pub(crate) fn is_attended(&self) -> bool {
        self.calls.values().any(|call| call.parked.is_none())
    }

    pub(crate) fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Requests that somebody waits for: not listeners, and not those whose clients have to come back.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.values().filter(|call| call.runs()).count()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the server speaks the modern era, if that was found out since this was last asked.
    pub(crate) fn take_era(&mut self) -> Option<bool> {
        self.found.take()
    }

    pub(crate) fn has_found(&self) -> bool {
        self.found.is_some()
    }

    /// The states that count no more since this was last asked.
    pub(crate) fn take_freed(&mut self) -> Vec<State> {
        std::mem::take(&mut self.freed)
    }

    fn next_id(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn token(&self, key: i64) -> String {
        format!("{:016x}-{key}", self.mark)
    }

    /// The request that a token of ours belongs to.
    fn of_token(&self, token: &str) -> Option<i64> {
        let token: String = serde_json::from_str(token).ok()?;
        token.strip_prefix(&format!("{:016x}-", self.mark))?.parse().ok()
    }

    fn send(&mut self, message: Message) {
        self.send_with(message, None);
    }

    fn send_with(&mut self, message: Message, along: Option<A>) {
        self.outgoing.push_back(Outgoing { what: What::Message(message), along });
        self.wake_receiver();
    }

    fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    /// Answers a question of the server's that no client answers.
    fn reject(&mut self, id: &RequestId, code: i32, text: &str) {
        self.send(Message::error(id, code, text));
    }

    /// When it has to be told the time next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let calls = self.calls.values();
        let parked = calls.clone().filter_map(|call| Some(call.parked.as_ref()?.since + PARKED)).min();
        let gathers = calls.filter(|call| call.parked.is_none()).filter_map(|call| call.gathers).min();
        let orphans = self.orphans.iter().map(|orphan| orphan.until).min();
        let levels = self.levels.map(|(_, until)| until);
        let clears = self.clears();
        [self.stage.deadline(), parked, gathers, orphans, levels, clears].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn due(&mut self, now: Instant) {
        let late = |call: &Call| call.parked.as_ref().is_some_and(|parked| parked.since + PARKED <= now);
        let late: Vec<i64> = self.calls.iter().filter(|(_, call)| late(call)).map(|(key, _)| *key).collect();
        for key in late {
            self.expire(key, now);
        }
        for call in self.calls.values_mut() {
            if call.gathers.take_if(|until| *until <= now).is_some() {
                call.wake();
            }
        }
        self.orphans_due(now);
        self.settle(now);
        if self.levels.is_some_and(|(_, until)| until <= now) {
            self.levels = None;
            self.release(now);
        }
        self.stage_due(now);
    }

    fn remove(&mut self, key: i64, now: Instant) -> Option<Call> {
        let mut call = self.calls.remove(&key)?;
        if let Some(parked) = call.parked.take() {
            self.freed.push(parked.state);
            self.kept_bytes -= call.done.as_ref().map_or(0, |done| done.message.as_bytes().len());
        }
        if self.calls.is_empty() {
            self.idle_since = now;
        }
        Some(call)
    }
}

#[cfg(test)]
mod tests;
