//! A second, simpler implementation of the session core: no wakers, no bytes on the wire, everything that was
//! ever sent in one list. Slow and obvious on purpose.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{CloseReason, SendError, core::Refusal};
use crate::{
    limits::Limits,
    message::{Message, RequestId},
};

/// Identifies a task that waits; unique within a test case.
pub(super) type Key = u64;

/// Whether a task may continue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<E> {
    Goes,
    Waits,
    Fails(E),
}

#[derive(Debug)]
pub(super) struct Gate {
    max_items: usize,
    max_bytes: usize,
    turn: usize,
    pub(super) items: usize,
    pub(super) bytes: usize,
    queue: VecDeque<(Key, usize)>,
}

impl Gate {
    fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { max_items, max_bytes, turn: max_items, items: 0, bytes: 0, queue: VecDeque::new() }
    }

    fn fits(&self, bytes: usize) -> bool {
        self.has_room(bytes) && (self.items == 0 || self.items < self.turn)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.items == 0 || (self.items < self.max_items && self.bytes + bytes <= self.max_bytes)
    }

    /// The first in the queue passes when it fits; a task that is not in the queue passes if the queue is
    /// empty.
    pub(super) fn can_go(&self, key: Key, bytes: usize) -> bool {
        self.queue.front().is_none_or(|(head, _)| *head == key) && self.fits(bytes)
    }

    fn is_queued(&self, key: Key) -> bool {
        self.queue.iter().any(|(queued, _)| *queued == key)
    }

    fn enter(&mut self, key: Key, bytes: usize) {
        self.queue.retain(|(queued, _)| *queued != key);
        self.items += 1;
        self.bytes += bytes;
    }

    fn leave(&mut self, bytes: usize) {
        self.items -= 1;
        self.bytes -= bytes;
    }

    fn step(&mut self, key: Key, bytes: usize, max_waiting: usize) -> Step<Refusal> {
        if self.can_go(key, bytes) {
            self.enter(key, bytes);
            Step::Goes
        } else if self.is_queued(key) {
            Step::Waits
        } else if self.queue.len() >= max_waiting {
            Step::Fails(Refusal::Busy)
        } else {
            self.queue.push_back((key, bytes));
            Step::Waits
        }
    }

    fn close(&mut self) {
        (self.items, self.bytes) = (0, 0);
        self.queue.clear();
    }
}

/// What matters here about a message from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request(i64),
    Cancel(i64),
    Other,
}

/// What a message from the client means for the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// Allowed before a handshake.
    Before,
    /// Needs no handshake.
    Shaken,
    /// Needs a handshake; the protocol version that its POST names.
    Bare(Option<&'static str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    Undecided,
    Initialize(Option<&'static str>),
    Awaited,
    Initialized,
    Done,
}

/// What the app should get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ForApp {
    Text(String),
    MadeUpInitialize(&'static str),
    MadeUpInitialized,
}

/// What a stream should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForStream {
    Events,
    KeepAlive,
    Nothing,
    End,
}

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) last_write: Instant,
    waiting_since: Option<Instant>,
    keep_alive_due: bool,
}

/// A request that its client cancelled and that the app did not answer.
#[derive(Clone, Copy, Debug)]
struct Cancelled {
    id: i64,
    cost: usize,
    since: Instant,
    /// The app's work on it that still goes on, if the app tells.
    work: Option<Key>,
}

/// How often a request was accepted, cancelled and answered.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) accepted: usize,
    pub(super) cancelled: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    limits: Arc<Limits>,
    pub(super) closed: Option<CloseReason>,
    pub(super) authorized_until: Option<Instant>,
    closed_at: Option<Instant>,
    pub(super) draining: bool,
    handshake: Handshake,
    inbound: VecDeque<(String, usize)>,
    pub(super) inbound_gate: Gate,
    /// The cost of each, and the app's work on it.
    pub(super) in_flight: BTreeMap<i64, (usize, Option<Key>)>,
    cancelled: Vec<Cancelled>,
    /// Work that goes on.
    works: BTreeSet<Key>,
    pub(super) in_flight_gate: Gate,
    pub(super) outbound_gate: Gate,
    /// What the app sent and is not in `sent` yet.
    pub(super) backlog: VecDeque<(Key, String, Option<i64>)>,
    /// Sends that failed after they had to wait.
    lost: BTreeSet<Key>,
    /// Everything that was ever sent, in order; event n is `sent[n - 1]`.
    pub(super) sent: Vec<String>,
    /// The answers to the requests in flight when the session closed; they come after `sent`, in any order.
    pub(super) last_answers: Vec<String>,
    /// The number of the event that the stream takes next.
    pub(super) cursor: u64,
    /// The highest that `cursor` was.
    taken: u64,
    /// The oldest event that can be replayed.
    first: u64,
    last_taken: Option<Instant>,
    /// The log was dropped with the session.
    log_is_gone: bool,
    pub(super) attached: Option<Attached>,
    pub(super) detached_since: Instant,
    pub(super) generation: u64,
    pub(super) counts: BTreeMap<i64, Count>,
}

fn stream(now: Instant) -> Option<Attached> {
    Some(Attached { last_write: now, waiting_since: None, keep_alive_due: false })
}

impl Model {
    pub(super) fn new(limits: &Arc<Limits>, now: Instant) -> Self {
        Self {
            closed: None,
            authorized_until: None,
            closed_at: None,
            draining: false,
            handshake: if limits.synthesize_initialize { Handshake::Undecided } else { Handshake::Done },
            inbound: VecDeque::new(),
            inbound_gate: Gate {
                turn: limits.inbound_turn.min(limits.inbound_messages),
                ..Gate::new(limits.inbound_messages, limits.inbound_bytes)
            },
            in_flight: BTreeMap::new(),
            cancelled: Vec::new(),
            works: BTreeSet::new(),
            backlog: VecDeque::new(),
            lost: BTreeSet::new(),
            in_flight_gate: Gate::new(limits.in_flight_requests, limits.in_flight_bytes),
            outbound_gate: Gate::new(limits.outbound_messages, limits.outbound_bytes),
            sent: Vec::new(),
            last_answers: Vec::new(),
            cursor: 1,
            taken: 1,
            first: 1,
            last_taken: None,
            log_is_gone: false,
            attached: stream(now),
            detached_since: now,
            generation: 0,
            counts: BTreeMap::new(),
            limits: Arc::clone(limits),
        }
    }

    // ---- POST ---------------------------------------------------------------------------------------

    pub(super) fn reserve(&mut self, key: Key, bytes: usize) -> Step<Refusal> {
        if self.closed.is_some() {
            return Step::Fails(Refusal::Closed);
        }
        self.inbound_gate.step(key, bytes, self.limits.inbound_messages)
    }

    /// `true`: it had to wait only for its turn, and passes now.
    pub(super) fn reserve_late(&mut self, key: Key, bytes: usize) -> bool {
        let goes = self.inbound_gate.is_queued(key) && self.inbound_gate.has_room(bytes);
        if goes {
            self.inbound_gate.enter(key, bytes);
        }
        goes
    }

    pub(super) fn cancel_reserve(&mut self, key: Key, reserved: Option<usize>) {
        if self.closed.is_none() {
            self.inbound_gate.queue.retain(|(queued, _)| *queued != key);
            if let Some(bytes) = reserved {
                self.inbound_gate.leave(bytes);
            }
        }
    }

    /// Why a message is refused even if there is room.
    pub(super) fn refuses(&self, kind: &Kind) -> Option<Refusal> {
        match (self.closed, kind) {
            (Some(_), _) => Some(Refusal::Closed),
            (None, Kind::Request(_)) if self.draining => Some(Refusal::Draining),
            (None, Kind::Request(id)) if self.in_flight.contains_key(id) => Some(Refusal::DuplicateId),
            (None, _) => None,
        }
    }

    fn counts(&self, cancelled: &Cancelled, now: Instant) -> bool {
        match cancelled.work {
            Some(work) => self.works.contains(&work),
            None => now < cancelled.since + Duration::from_secs(30),
        }
    }

    pub(super) fn admit(&mut self, key: Key, kind: &Kind, cost: usize, now: Instant) -> Step<Refusal> {
        if let Some(refusal) = self.refuses(kind) {
            return Step::Fails(refusal);
        }
        let Kind::Request(id) = kind else { return Step::Goes };
        let cancelled: Vec<_> = self.cancelled.iter().filter(|old| self.counts(old, now)).collect();
        let bytes = cancelled.iter().map(|old| old.cost).sum::<usize>();
        let over = cancelled.len() >= self.limits.cancelled_requests
            || (cancelled.len() > 1 && bytes > self.limits.in_flight_bytes)
            || self.backlog.len() >= self.limits.backlog_messages
            || self.backlog_bytes() >= self.limits.backlog_bytes;
        if over && !self.in_flight_gate.is_queued(key) {
            return Step::Fails(Refusal::Busy);
        }
        let step = self.in_flight_gate.step(key, cost, self.limits.in_flight_requests);
        if step == Step::Goes {
            self.in_flight.insert(*id, (cost, None));
            self.counts.entry(*id).or_default().accepted += 1;
        }
        step
    }

    pub(super) fn cancel_admit(&mut self, key: Key) {
        self.in_flight_gate.queue.retain(|(queued, _)| *queued != key);
    }

    pub(super) fn accept(
        &mut self,
        text: &str,
        kind: &Kind,
        hand: Hand,
        reserved: usize,
        cost: usize,
        now: Instant,
    ) {
        self.inbound_gate.bytes = self.inbound_gate.bytes - reserved + cost;
        if let Kind::Cancel(id) = kind
            && self.in_flight.contains_key(id)
        {
            self.counts.entry(*id).or_default().cancelled += 1;
            let (cost, work) = self.in_flight[id];
            let cancelled = Cancelled { id: *id, cost, since: now, work };
            if self.counts(&cancelled, now) {
                self.cancelled.push(cancelled);
            }
            self.leaves_flight(*id, now);
        }
        if self.handshake == Handshake::Undecided {
            match hand {
                Hand::Before => {}
                Hand::Shaken => self.handshake = Handshake::Done,
                Hand::Bare(version) => self.handshake = Handshake::Initialize(version),
            }
        }
        self.inbound.push_back((text.to_owned(), cost));
    }

    // ---- the app ------------------------------------------------------------------------------------

    /// Whether the app gets something (or the end) when it asks.
    pub(super) fn can_recv(&self) -> bool {
        match self.handshake {
            _ if self.closed.is_some() => true,
            Handshake::Initialize(_) | Handshake::Initialized => true,
            Handshake::Awaited => false,
            Handshake::Undecided | Handshake::Done => !self.inbound.is_empty(),
        }
    }

    /// The next message for the app; `None` is the end.
    pub(super) fn recv(&mut self) -> Option<ForApp> {
        match self.handshake {
            Handshake::Initialize(version) => {
                self.handshake = Handshake::Awaited;
                return Some(ForApp::MadeUpInitialize(version.unwrap_or("2024-11-05")));
            }
            Handshake::Initialized => {
                self.handshake = Handshake::Done;
                return Some(ForApp::MadeUpInitialized);
            }
            Handshake::Awaited => return None,
            Handshake::Undecided | Handshake::Done => {}
        }
        let (text, cost) = self.inbound.pop_front()?;
        if self.closed.is_none() {
            self.inbound_gate.leave(cost);
        }
        Some(ForApp::Text(text))
    }

    /// The app answers the synthesized `initialize`. `false`: it did not get one.
    pub(super) fn answer_initialize(&mut self, ok: bool) -> bool {
        if self.handshake != Handshake::Awaited || self.closed.is_some() {
            return false;
        }
        self.handshake = if ok { Handshake::Initialized } else { Handshake::Done };
        true
    }

    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.iter().map(|(_, text, _)| text.len()).sum()
    }

    /// `tries`: by `try_send`, which does not wait.
    pub(super) fn send(
        &mut self,
        key: Key,
        text: &str,
        answers: Option<i64>,
        tries: bool,
        now: Instant,
    ) -> Step<SendError> {
        if let Some(reason) = self.closed {
            return Step::Fails(SendError::Closed(reason));
        }
        let limit = self.limits.outbound_message_bytes;
        if text.len() > limit {
            let error = SendError::TooLarge { bytes: text.len(), limit };
            self.refuse_answer(answers, &error, now);
            return Step::Fails(error);
        }
        if self.backlog.is_empty() && self.outbound_gate.fits(text.len()) {
            self.pass(text, answers, now);
            return Step::Goes;
        }
        let error = SendError::Full { messages: self.outbound_gate.items + self.backlog.len() };
        if tries {
            return Step::Fails(error);
        }
        let has_room = self.backlog.len() < self.limits.backlog_messages
            && self.backlog_bytes() + text.len() <= self.limits.backlog_bytes;
        if has_room || self.backlog.is_empty() {
            self.backlog.push_back((key, text.to_owned(), answers));
            Step::Waits
        } else {
            self.refuse_answer(answers, &error, now);
            Step::Fails(error)
        }
    }

    /// What became of a send that had to wait.
    pub(super) fn sent(&self, key: Key) -> Step<SendError> {
        if self.backlog.iter().any(|(waiting, ..)| *waiting == key) {
            Step::Waits
        } else if let Some(reason) = self.closed.filter(|_| self.lost.contains(&key)) {
            Step::Fails(SendError::Closed(reason))
        } else {
            Step::Goes
        }
    }

    fn pass(&mut self, text: &str, answers: Option<i64>, now: Instant) {
        self.outbound_gate.enter(Key::MAX, text.len());
        self.appended(text, answers, now);
    }

    fn appended(&mut self, text: &str, answers: Option<i64>, now: Instant) {
        self.sent.push(text.to_owned());
        if let Some(id) = answers {
            self.answered(id, now);
        }
        self.notice(now);
    }

    fn move_up(&mut self, now: Instant) {
        while self.closed.is_none()
            && self.backlog.front().is_some_and(|(_, text, _)| self.outbound_gate.fits(text.len()))
        {
            let (_, text, answers) = self.backlog.pop_front().unwrap();
            self.pass(&text, answers, now);
        }
    }

    /// The client gets an error instead of an answer.
    fn refuse_answer(&mut self, answers: Option<i64>, error: &SendError, now: Instant) {
        let Some(id) = answers.filter(|id| self.in_flight.contains_key(id)) else { return };
        let text = format!("response not sent: {error}");
        let error = Message::error(&RequestId::from(id), -32603, &text);
        if self.backlog.is_empty() && self.outbound_gate.fits(error.as_bytes().len()) {
            self.pass(error.as_str(), Some(id), now);
        } else {
            self.backlog.push_back((Key::MAX, error.as_str().to_owned(), Some(id)));
        }
    }

    fn answered(&mut self, id: i64, now: Instant) {
        if !self.leaves_flight(id, now) {
            let first = self.cancelled.iter().position(|old| old.id == id && self.counts(old, now));
            if let Some(at) = first {
                self.cancelled.remove(at);
            }
        }
    }

    fn leaves_flight(&mut self, id: i64, now: Instant) -> bool {
        let Some((cost, _)) = self.in_flight.remove(&id) else { return false };
        if self.closed.is_none() {
            self.in_flight_gate.leave(cost);
        }
        if self.closed.is_none() && self.draining && self.in_flight.is_empty() {
            self.close(CloseReason::Shutdown, now);
        }
        true
    }

    /// The app starts to work on a request and will tell when it stops.
    #[cfg(feature = "rmcp-3")]
    pub(super) fn work_on(&mut self, id: i64, work: Key, now: Instant) {
        self.works.insert(work);
        if let Some(request) = self.in_flight.get_mut(&id) {
            request.1 = Some(work);
        } else if let Some(at) = self.cancelled.iter().rposition(|old| old.id == id && self.counts(old, now))
        {
            self.cancelled[at].work = Some(work);
        }
    }

    pub(super) fn work_ends(&mut self, work: Key) {
        self.works.remove(&work);
    }

    // ---- the stream ---------------------------------------------------------------------------------

    pub(super) fn unsent(&self) -> usize {
        if self.log_is_gone {
            0
        } else {
            self.sent.len() + self.last_answers.len() + 1 - self.cursor as usize
        }
    }

    fn notice(&mut self, now: Instant) {
        let unsent = self.unsent() > 0;
        if let Some(attached) = &mut self.attached
            && (unsent || attached.keep_alive_due)
        {
            attached.waiting_since.get_or_insert(now);
        }
    }

    /// Whether a stream that continues after `sequence` would miss nothing.
    pub(super) fn resume(&mut self, sequence: u64, now: Instant) -> bool {
        let next = sequence.saturating_add(1);
        if self.closed.is_some() || !self.limits.resumes() || next < self.first || next > self.taken {
            return false;
        }
        self.cursor = next;
        self.attached = stream(now);
        self.generation += 1;
        self.notice(now);
        true
    }

    pub(super) fn detach(&mut self, generation: u64, now: Instant) {
        if generation != self.generation || self.attached.is_none() {
            return;
        }
        self.attached = None;
        self.detached_since = now;
        if self.closed.is_some() {
            self.log_is_gone = true;
        } else if !self.limits.resumes() {
            self.close(CloseReason::ClientGone, now);
        }
    }

    pub(super) fn for_stream(&self, generation: u64) -> ForStream {
        match &self.attached {
            Some(_) if generation != self.generation => ForStream::End,
            None => ForStream::End,
            Some(_) if self.unsent() > 0 => ForStream::Events,
            Some(_) if self.closed.is_some() => ForStream::End,
            Some(attached) if attached.keep_alive_due => ForStream::KeepAlive,
            Some(_) => ForStream::Nothing,
        }
    }

    /// The stream took one event; returns what it should have been. The answers at the end may come in any
    /// order, so the event itself tells which one it is.
    pub(super) fn took(&mut self, text: &str) -> String {
        if self.cursor > self.sent.len() as u64 {
            let at = self.last_answers.iter().position(|answer| answer == text);
            let answer = self.last_answers.remove(at.expect("it is the answer of a request in flight"));
            self.sent.push(answer);
        }
        let expected = self.sent[self.cursor as usize - 1].clone();
        if self.cursor >= self.taken && self.closed.is_none() {
            self.outbound_gate.leave(expected.len());
        }
        self.cursor += 1;
        self.taken = self.taken.max(self.cursor);
        expected
    }

    /// A stream was told `Soon`.
    #[cfg(feature = "server")]
    pub(super) fn is_soon(&self) -> bool {
        self.unsent() > 0 && !self.in_flight.is_empty() && self.outbound_gate.items < 64
    }

    /// A stream's socket does not accept all that the stream has taken; returns whether the stream is over.
    #[cfg(feature = "server")]
    pub(super) fn blocked(&mut self, generation: u64, some_left: bool, now: Instant) -> bool {
        if generation != self.generation {
            return true;
        }
        let Some(attached) = &mut self.attached else { return true };
        if some_left {
            attached.waiting_since = Some(now);
        }
        attached.waiting_since.get_or_insert(now);
        false
    }

    /// A stream was polled, and there was nothing.
    pub(super) fn took_nothing(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.waiting_since = None;
        }
    }

    /// The stream took a chunk, with or without events.
    pub(super) fn took_chunk(&mut self, events: bool, now: Instant) {
        self.move_up(now);
        let unsent = self.unsent() > 0;
        if events {
            self.last_taken = Some(now);
            let (max_events, max_bytes) = if self.limits.resumes() {
                (self.limits.replay_events, self.limits.replay_bytes)
            } else {
                (0, 0)
            };
            while self.first < self.cursor {
                let kept = &self.sent[self.first as usize - 1..self.cursor as usize - 1];
                if kept.len() <= max_events && kept.iter().map(String::len).sum::<usize>() <= max_bytes {
                    break;
                }
                self.first += 1;
            }
        }
        if let Some(attached) = &mut self.attached {
            attached.waiting_since = unsent.then_some(now);
            attached.keep_alive_due = false;
            attached.last_write = now;
        }
    }

    // ---- time and the end ---------------------------------------------------------------------------

    /// The latest time at which something has to be done, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let stall = self.limits.stall_timeout;
        match &self.attached {
            Some(attached) if self.closed.is_some() => {
                let last = self.closed_at.unwrap() + stall + stall;
                Some(attached.waiting_since.map_or(last, |since| last.min(since + stall)))
            }
            Some(Attached { waiting_since: Some(since), .. }) => Some(*since + stall),
            _ if self.closed.is_some() => None,
            Some(attached) => self.limits.keep_alive.map(|every| attached.last_write + every),
            None => Some(self.detached_since + self.limits.resume_window),
        }
    }

    pub(super) fn expires(&self) -> Option<Instant> {
        self.authorized_until.filter(|_| self.closed.is_none())
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        if self.expires().is_some_and(|at| at <= now) {
            self.close(CloseReason::Expired, now);
        }
        let is_due = self.due().is_some_and(|due| due <= now);
        if self.closed.is_none()
            && self.attached.is_some()
            && self.last_taken.is_some_and(|at| at + self.limits.resume_window <= now)
        {
            self.first = self.first.max(self.cursor);
        }
        if !is_due {
            return;
        }
        match &mut self.attached {
            Some(attached) if attached.waiting_since.is_some() || self.closed.is_some() => {
                self.close(CloseReason::Stalled, now);
                self.attached = None;
                self.log_is_gone = true;
            }
            Some(attached) => {
                attached.keep_alive_due = true;
                attached.waiting_since = Some(now);
            }
            None => self.close(CloseReason::ClientGone, now),
        }
    }

    pub(super) fn drain(&mut self, now: Instant) {
        if self.closed.is_none() {
            self.draining = true;
            if self.in_flight.is_empty() {
                self.close(CloseReason::Shutdown, now);
            }
        }
    }

    pub(super) fn close(&mut self, reason: CloseReason, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        self.closed_at = Some(now);
        for (key, text, answers) in std::mem::take(&mut self.backlog) {
            if self.attached.is_some() && reason != CloseReason::Stalled {
                self.appended(&text, answers, now);
            } else {
                self.lost.insert(key);
            }
        }
        self.cancelled.clear();
        for (id, _) in std::mem::take(&mut self.in_flight) {
            let answer = Message::error(&RequestId::from(id), -32000, reason.to_client());
            self.last_answers.push(answer.as_str().to_owned());
        }
        if matches!(reason, CloseReason::AppEnded | CloseReason::Unauthorized | CloseReason::Expired) {
            self.inbound.clear();
            self.handshake = Handshake::Done;
        }
        self.inbound_gate.close();
        self.in_flight_gate.close();
        self.outbound_gate.close();
        self.log_is_gone = self.attached.is_none();
        self.notice(now);
    }
}
