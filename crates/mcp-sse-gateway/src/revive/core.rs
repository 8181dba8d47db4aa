//! The state of a session whose server may die and be started again, without IO: messages and times in, messages and
//! decisions out.
//!
//! Invariants:
//! - Each request of the client is answered once: by the server that got it, or, when that has died, by an error. What
//!   comes for it later is dropped.
//! - No answer of the client reaches another server than the one that has asked.
//! - The client sees none of our own requests and their answers.

mod times;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use http::request::Parts;
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use tokio::time::Instant;

use super::{
    kept::{Compared, Greeting, Kept, lean, notification},
    policy::{FIRST_ATTEMPTS, Policy, Restart, SETTLED, STABLE},
};
use crate::{
    backend::{Failure, How},
    place::place,
};

/// How many requests of servers to the client are remembered. Others are passed on like those of a server that never
/// dies.
const ASKED: usize = 4096;
/// How many of them are remembered after their server has died.
const WITHDRAWN: usize = 512;
/// The error code that SDKs use for a closed connection.
const CONNECTION_CLOSED: i32 = -32000;
/// What every request has in its `_meta` where there is no handshake (revision 2026-07-28).
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

pub(crate) struct Core {
    policy: Policy,
    kept: Kept,
    /// The client's requests that the server has.
    pending: HashMap<RequestId, Pending>,
    /// Our own requests that the server has.
    own: HashMap<RequestId, Own>,
    /// The requests of servers that the client has, by the ids that it sees.
    asked: HashMap<RequestId, Asked>,
    /// How many servers there have been before this one.
    generation: u32,
    /// Those that no server has taken so far, and that are tried once more.
    retried: HashSet<RequestId>,
    /// Whether the client's `initialize` was answered with a result.
    is_open: bool,
    /// Whether the client has no handshake, and says with each request what a server has to know.
    stateless: bool,
    /// Whether a session of this client cannot be told to another server.
    unkept: bool,
    /// Attempts in a row that have failed.
    failed: u32,
    /// Servers in a row that have died before they were asked anything.
    unasked: u32,
    /// Since when there is no server.
    away: Option<Instant>,
    /// When it was last found that the server is to be spoken to otherwise.
    otherwise: Option<Instant>,
    /// When the server was started, and when it has answered our `initialize`.
    started: Instant,
    greeted: Option<Instant>,
    /// Whether the client has asked it for something, and has got an answer.
    was_asked: bool,
    has_answered: bool,
    /// When the server has last said something, and the client.
    heard: Instant,
    spoken: Instant,
    /// When the ping was sent that has no answer yet.
    pinged: Option<Instant>,
    /// Messages that belonged to a server that is gone.
    dropped: u64,
    /// What is kept has changed since other replicas were told.
    changed: bool,
    head: Option<Box<Parts>>,
    mark: u64,
    next: u64,
}

enum Pending {
    Initialize(Box<Incoming>),
    Level(Option<Box<str>>),
    Subscribe(Option<Box<str>>),
    Unsubscribe(Option<Box<str>>),
    /// With all that a server has to know of the client.
    Stateless,
    Other,
}

enum Own {
    Initialize,
    /// Of what was told to a new server.
    Told,
}

/// A request of a server to the client.
struct Asked {
    generation: u32,
    /// Its id as the server knows it, if the client sees another one.
    id: Option<RequestId>,
}

/// What becomes of a message of the server.
#[derive(Debug)]
pub(crate) enum Said {
    ToClient(Message),
    /// It was not for the client.
    Nothing,
    /// The answer to our `initialize`.
    Greeting(Message),
}

/// What follows from the end of a server.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Another attempt after this pause, or, if it may, when the client says something; with the client's own `initialize`
    /// first if it has no answer yet.
    Again { pause: Duration, wakes: bool, first: Option<Box<Incoming>> },
    /// Another one when the client says something.
    Asleep,
    /// The session ends.
    End,
}

impl Core {
    pub(crate) fn new(policy: Policy, now: Instant) -> Self {
        Self {
            policy,
            kept: Kept::default(),
            pending: HashMap::new(),
            own: HashMap::new(),
            asked: HashMap::new(),
            retried: HashSet::new(),
            is_open: false,
            stateless: false,
            unkept: false,
            generation: 0,
            failed: 0,
            unasked: 0,
            away: None,
            otherwise: None,
            started: now,
            greeted: None,
            was_asked: false,
            has_answered: false,
            heard: now,
            spoken: now,
            pinged: None,
            dropped: 0,
            changed: false,
            head: None,
            mark: RandomState::new().build_hasher().finish(),
            next: 0,
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The session has rested, or was at another replica, where this was kept; whether it can be read. A server is started for it, and told.
    pub(crate) fn goes_on(&mut self, state: &str, head: &Parts) -> bool {
        match Kept::read(state, head) {
            Some(Some(kept)) => (self.kept, self.is_open) = (kept, true),
            Some(None) => self.stateless = true,
            None => return false,
        }
        true
    }

    /// What another replica needs to know to revive the session, if that has changed since it was last asked for.
    pub(crate) fn take_changed(&mut self) -> Option<String> {
        let changed = std::mem::take(&mut self.changed) && self.policy.revive && self.has_begun();
        if !changed || self.unkept { None } else { Some(self.kept.written()) }
    }

    /// Messages that belonged to a server that was gone, since this was last asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The head of a request for which a server is started.
    pub(crate) fn head(&self) -> Option<Parts> {
        self.head.as_deref().or_else(|| self.kept.head()).cloned()
    }

    /// The client has sent a request with this head, whose message may wait.
    pub(crate) fn has_head(&mut self, head: &Parts) {
        if self.policy.keeps_heads {
            self.head = Some(Box::new(lean(head, true)));
        }
    }

    /// What is needed to go on later, if nothing else is: nobody waits for anything, and no server before is to be remembered.
    pub(crate) fn rest(&self) -> Option<String> {
        let is_all = self.has_begun() && !self.unkept && self.pending.is_empty() && self.asked.is_empty();
        is_all.then(|| self.kept.written())
    }

    /// There is no server for a while: gives back what it does not need.
    pub(crate) fn rests(&mut self) {
        self.pending.shrink_to_fit();
        self.own.shrink_to_fit();
        self.asked.shrink_to_fit();
        self.retried.shrink_to_fit();
    }

    fn own_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId::from(&*format!("mcp-sse-{:016x}-{}", self.mark, self.next))
    }

    fn is_ours(&self, id: &RequestId) -> bool {
        id.as_str().is_some_and(|id| id.starts_with(&format!("mcp-sse-{:016x}-", self.mark)))
    }

    /// A request that no server has got was answered with an error, or cancelled.
    pub(crate) fn is_over(&mut self, id: &RequestId) {
        self.retried.remove(id);
    }

    /// A message of the client; returns it, maybe changed, if it is for the server.
    pub(crate) fn asks(&mut self, incoming: Incoming, now: Instant) -> Option<Incoming> {
        self.spoken = now;
        if self.policy.keeps_heads {
            self.has_head(incoming.parts());
        }
        let message = &incoming.message;
        match message.kind() {
            MessageKind::Request { id, method } => {
                let param = |name: &str| message.param(&[name]).map(Box::from);
                let pending = match &**method {
                    "initialize" => Pending::Initialize(Box::new(incoming.clone())),
                    "logging/setLevel" => Pending::Level(param("level")),
                    "resources/subscribe" => Pending::Subscribe(param("uri")),
                    "resources/unsubscribe" => Pending::Unsubscribe(param("uri")),
                    _ if !self.has_begun() && message.param(&["_meta", PROTOCOL_VERSION]).is_some() => {
                        Pending::Stateless
                    }
                    _ => Pending::Other,
                };
                if matches!(pending, Pending::Initialize(_)) {
                    self.kept.initialized = false;
                } else {
                    self.was_asked = true;
                }
                self.pending.insert(id.clone(), pending);
                Some(incoming)
            }
            MessageKind::Notification { method } => {
                if &**method == "notifications/initialized" {
                    self.kept.initialized = true;
                    self.changed = true;
                }
                match message.cancelled_id() {
                    // The server that had it is gone, and the client has its error.
                    Some(id) if self.pending.remove(&id).is_none() && self.generation > 0 => {
                        self.dropped += 1;
                        None
                    }
                    _ => Some(incoming),
                }
            }
            MessageKind::Response { id: Some(id), .. } => match self.asked.remove(id) {
                Some(Asked { generation, .. }) if generation != self.generation => {
                    self.dropped += 1;
                    None
                }
                Some(Asked { id: Some(renamed), .. }) => {
                    let message = with_id(message, &renamed)?;
                    Some(Incoming::new(message, incoming.parts().clone()))
                }
                Some(Asked { id: None, .. }) | None => Some(incoming),
            },
            MessageKind::Response { id: None, .. } => Some(incoming),
        }
    }

    /// A message of the server.
    pub(crate) fn says(&mut self, message: Message, now: Instant) -> Said {
        // One that says something is not stuck.
        (self.heard, self.pinged) = (now, None);
        match message.kind() {
            MessageKind::Response { id: Some(id), is_error } => {
                if let Some(pending) = self.pending.remove(id) {
                    self.retried.remove(id);
                    self.has_answered = true;
                    if !is_error {
                        self.took(pending, &message);
                        (self.failed, self.unasked, self.away) = (0, 0, None);
                    }
                    return Said::ToClient(message);
                }
                match self.own.remove(id) {
                    Some(Own::Initialize) => Said::Greeting(message),
                    Some(Own::Told) if *is_error => {
                        tracing::warn!(
                            "a log level or a subscription has not survived: the new server refuses it"
                        );
                        Said::Nothing
                    }
                    Some(Own::Told) => Said::Nothing,
                    // To a ping, maybe late.
                    None if self.is_ours(id) => Said::Nothing,
                    // Its client may have cancelled it.
                    None if self.generation == 0 => Said::ToClient(message),
                    None => {
                        self.dropped += 1;
                        Said::Nothing
                    }
                }
            }
            MessageKind::Request { id, .. } if self.asked.len() < ASKED => {
                let id = id.clone();
                if !self.asked.contains_key(&id) {
                    self.asked.insert(id, Asked { generation: self.generation, id: None });
                    return Said::ToClient(message);
                }
                // The client still works on one of a server before, by the same id.
                let renamed = self.own_id();
                let Some(message) = with_id(&message, &renamed) else { return Said::ToClient(message) };
                self.asked.insert(renamed, Asked { generation: self.generation, id: Some(id) });
                Said::ToClient(message)
            }
            MessageKind::Notification { .. } => Said::ToClient(self.withdraws(&message).unwrap_or(message)),
            _ => Said::ToClient(message),
        }
    }

    /// A server that does not want an answer any more: the notification as the client has to see it, if that differs.
    fn withdraws(&mut self, message: &Message) -> Option<Message> {
        let id = message.cancelled_id()?;
        let is_it = |(seen, asked): (&RequestId, &Asked)| {
            let own = asked.id.as_ref().unwrap_or(seen);
            (asked.generation == self.generation && *own == id).then(|| seen.clone())
        };
        let seen = self.asked.iter().find_map(is_it)?;
        let asked = self.asked.remove(&seen)?;
        asked.id.is_some().then(|| with_text(message, message.param(&["requestId"])?, &seen.to_string()))?
    }

    /// The server has done what the client has asked for.
    fn took(&mut self, pending: Pending, answer: &Message) {
        self.is_open |= matches!(pending, Pending::Initialize(_));
        // A client without a handshake is kept from its first answer on.
        self.changed |= !matches!(pending, Pending::Other);
        match pending {
            // Nobody will be told.
            Pending::Initialize(_) if self.policy.restart == Restart::Never => {}
            Pending::Initialize(initialize) => {
                self.unkept = !self.kept.greeted(&initialize, answer, self.policy.keeps_heads);
                if self.unkept {
                    tracing::warn!(
                        "this session ends with its server: its initialize is too large to be kept"
                    );
                }
            }
            Pending::Stateless => self.stateless = true,
            Pending::Level(level) => self.kept.level(level),
            Pending::Subscribe(Some(uri)) => {
                if !self.kept.subscribed(uri) {
                    tracing::warn!(
                        "a subscription would not survive the server: the session has too many of them"
                    );
                }
            }
            Pending::Unsubscribe(Some(uri)) => self.kept.unsubscribed(&uri),
            Pending::Subscribe(None) | Pending::Unsubscribe(None) | Pending::Other => {}
        }
    }

    /// The server has not taken this message after all; whether the next one is to have it. To be asked before
    /// [`dies`](Self::dies).
    pub(crate) fn untaken(&mut self, message: &Message) -> bool {
        // A server that refuses what it is asked was not asked.
        self.was_asked &= self.has_answered;
        match message.kind() {
            // Once: the next server may refuse it too.
            MessageKind::Request { id, .. } => {
                self.pending.contains_key(id)
                    && self.retried.insert(id.clone())
                    && self.pending.remove(id).is_some()
            }
            // These are about what is over, or told to each server.
            MessageKind::Notification { method } => !matches!(
                &**method,
                "notifications/initialized" | "notifications/cancelled" | "notifications/progress"
            ),
            // It is for the one that has asked.
            MessageKind::Response { .. } => {
                self.dropped += 1;
                false
            }
        }
    }

    /// When the server was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Whether a client has begun, so that a new server has to be told.
    pub(crate) fn has_begun(&self) -> bool {
        self.stateless || self.kept.head().is_some()
    }

    /// A server was started.
    pub(crate) fn starts(&mut self, now: Instant) {
        (self.started, self.heard, self.spoken) = (now, now, now);
        (self.was_asked, self.has_answered, self.pinged, self.greeted) = (false, false, None, None);
    }

    /// It is ready for the client's messages.
    pub(crate) fn is_ready(&mut self, now: Instant) {
        (self.heard, self.spoken) = (now, now);
    }

    /// A question of the server, for which the client need not be asked: the answer.
    pub(crate) fn answers_itself(message: &Message) -> Option<Message> {
        match message.kind() {
            MessageKind::Request { id, method } if &**method == "ping" => {
                Message::result(id, &serde_json::Map::new()).ok()
            }
            _ => None,
        }
    }

    /// What a new server is told first: `initialize` with an id of ours. Its answer is a [`Said::Greeting`].
    pub(crate) fn greet(&mut self) -> Option<Message> {
        let id = self.own_id();
        let message = self.kept.initialize(&id)?;
        self.own.insert(id, Own::Initialize);
        Some(message)
    }

    /// A new server has answered: what it is told now, and what the client is. An error says why it cannot stand in for
    /// the one before.
    pub(crate) fn greeted(
        &mut self,
        answer: &Message,
        now: Instant,
    ) -> Result<(Vec<Message>, Vec<Message>), Failure> {
        if let MessageKind::Response { is_error: true, .. } = answer.kind() {
            let said: String = answer.as_str().chars().take(1_000).collect();
            return Err(Failure::new(format!("the server refused initialize: {said}")));
        }
        let Some(greeting) = Greeting::short(answer) else {
            return Err(Failure::of(How::Impossible, "the server that is back says too much of itself"));
        };
        match greeting.against(&self.kept.server) {
            Compared::Same => {}
            Compared::Other(what) => tracing::warn!("the server that is back is another one: {what}"),
            Compared::Lost(what) => {
                return Err(Failure::of(
                    How::Impossible,
                    format!("the server that is back is another one, {what}"),
                ));
            }
        }
        let changed = greeting.changed_lists().into_iter().filter_map(notification).collect();
        self.changed |= self.kept.server != greeting;
        self.kept.server = greeting;
        self.greeted = Some(now);
        let mut ids = Vec::new();
        for _ in 0..self.kept.told() {
            ids.push(self.own_id());
        }
        self.own.extend(ids.iter().cloned().map(|id| (id, Own::Told)));
        let mut ids = ids.into_iter();
        let rest = self.kept.rest(|| ids.next());
        Ok((rest, changed))
    }

    /// The server has ended, or could not be started. Returns what the client is told at once, and what follows.
    pub(crate) fn dies(&mut self, failure: &Failure, now: Instant) -> (Vec<Message>, Verdict) {
        self.own.clear();
        if failure.how == How::Idle {
            self.generation += 1;
            return (self.withdrawn(), Verdict::Asleep);
        }
        // Once in a while; a server that cannot make up its mind has failed like any other.
        let otherwise = self.otherwise.filter(|since| now.saturating_duration_since(*since) < STABLE);
        if failure.how == How::OtherEra && otherwise.is_none() {
            self.otherwise = Some(now);
            return self.is_spoken_to_otherwise(failure);
        }
        let lasted = |since: Option<Instant>, time| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= time)
        };
        if lasted(Some(self.started), STABLE) {
            (self.failed, self.unasked) = (0, 0);
        }
        if lasted(self.greeted, SETTLED) {
            (self.unasked, self.away) = (0, None);
        }
        let began = *self.away.get_or_insert(now);
        // One that leaves its client without an answer has not ended well.
        let how = match failure.how {
            How::OtherEra => How::Failed,
            How::Ended if !self.pending.is_empty() => How::Failed,
            how => how,
        };
        let is_absent = matches!(how, How::NotStarted | How::Busy);
        let pause = self.policy.pause(self.failed);
        // A client that asks for what kills its server is not served at once again and again.
        let wakes = is_absent || self.failed == 0;
        self.failed = self.failed.saturating_add(1);
        // That there is none, or no room for it, says nothing about the next one.
        if !self.was_asked && !is_absent {
            self.unasked = self.unasked.saturating_add(1);
        }
        // The next one is not asked anything before it is there.
        (self.was_asked, self.greeted) = (false, None);
        let begun = self.has_begun();
        let bound = if begun {
            self.policy.attempts
        } else {
            Some(self.policy.attempts.map_or(FIRST_ATTEMPTS, |attempts| attempts.min(FIRST_ATTEMPTS)))
        };
        let is_loop = bound.is_some_and(|attempts| self.unasked >= attempts)
            || (!begun && self.failed > FIRST_ATTEMPTS);
        let is_late =
            self.policy.longest_away.is_some_and(|longest| now.saturating_duration_since(began) >= longest);
        // A client whose `initialize` was answered with an error, or that needs one and sends none, has nothing to be told
        // to another. One that asks without a handshake may ask another, or begin with one.
        let begins = || {
            let is_first = |pending| matches!(pending, &Pending::Initialize(_) | &Pending::Stateless);
            self.pending.values().any(is_first)
        };
        let restarts =
            self.policy.restarts(how, begun) && (begun || begins()) && !is_loop && !is_late && !self.unkept;
        if !restarts {
            return (Vec::new(), Verdict::End);
        }
        self.generation += 1;
        let mut messages = Vec::new();
        let mut first: Option<Box<Incoming>> = None;
        for (id, pending) in std::mem::take(&mut self.pending) {
            match pending {
                // The client waits for it as for a server that is slow to start.
                Pending::Initialize(initialize) if first.is_none() && !begun => first = Some(initialize),
                _ => messages.push(Message::error(&id, CONNECTION_CLOSED, &failure.text)),
            }
            self.retried.remove(&id);
        }
        // What it asks next may be `initialize`: some servers end when they are asked anything before.
        let waits = !begun && first.is_none();
        messages.extend(self.withdrawn());
        if self.asked.len() > WITHDRAWN {
            let generation = self.generation;
            self.asked.retain(|_, asked| asked.generation + 1 == generation);
        }
        let verdict = if waits { Verdict::Asleep } else { Verdict::Again { pause, wakes, first } };
        (messages, verdict)
    }

    /// The server is well, but is started again to be spoken to otherwise: what it was asked is asked again, if that was no more
    /// than `initialize`.
    fn is_spoken_to_otherwise(&mut self, failure: &Failure) -> (Vec<Message>, Verdict) {
        let begun = self.has_begun();
        if self.is_open && !begun {
            // What it was told is not known any more.
            return (Vec::new(), Verdict::End);
        }
        self.generation += 1;
        let (mut messages, mut first) = (Vec::new(), None);
        for (id, pending) in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Initialize(initialize) if first.is_none() && !begun => first = Some(initialize),
                _ => messages.push(Message::error(&id, CONNECTION_CLOSED, &failure.text)),
            }
        }
        messages.extend(self.withdrawn());
        (messages, Verdict::Again { pause: Duration::ZERO, wakes: true, first })
    }

    /// Tells the client that nobody waits any more for what a server has asked of it.
    fn withdrawn(&mut self) -> Vec<Message> {
        let generation = self.generation;
        // Those of servers before were withdrawn when these died.
        let open = self.asked.iter().filter(|(_, asked)| asked.generation + 1 == generation);
        let withdraw = |(id, _): (&RequestId, &Asked)| {
            let json = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"the server has ended"}}}}"#
            );
            Message::parse(json).ok()
        };
        open.filter_map(withdraw).collect()
    }

    /// The client's `notifications/initialized`, if it has sent one for an `initialize` that has no answer yet.
    pub(crate) fn initialized(&self, head: &Parts) -> Option<Incoming> {
        let message = notification("notifications/initialized").filter(|_| self.kept.initialized)?;
        Some(Incoming::new(message, head.clone()))
    }

    /// The error for a request that has waited in vain for a server, and why there is none.
    pub(crate) fn in_vain(id: &RequestId, waited: Duration, why: Option<&Failure>) -> Message {
        let why = why.map_or("it takes too long to start", |failure| &failure.text);
        Message::error(id, CONNECTION_CLOSED, &format!("the server is not back after {waited:.1?}: {why}"))
    }
}

/// The message with another id, and all else as it was.
fn with_id(message: &Message, id: &RequestId) -> Option<Message> {
    #[derive(serde::Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: &'a serde_json::value::RawValue,
    }
    let Id { id: old } = serde_json::from_str(message.as_str()).ok()?;
    with_text(message, old.get(), &id.to_string())
}

/// The message with another text in place of a part of it.
fn with_text(message: &Message, old: &str, new: &str) -> Option<Message> {
    let json = message.as_str();
    let at = place(json.as_bytes(), old)?;
    let (before, rest) = (json.get(..at.start)?, json.get(at.end..)?);
    Message::parse(format!("{before}{new}{rest}")).ok()
}

#[cfg(test)]
mod tests;
