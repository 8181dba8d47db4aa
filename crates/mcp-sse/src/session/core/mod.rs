//! The session as a state machine. It does no IO and reads no clock: events and `now` go in, [`Actions`] for
//! the driver come out. What has to wait registers a waker.
//!
//! Invariants:
//! - A request is in `in_flight` from the moment it is accepted until its response is in the log, its
//!   client cancelled it, or the session closed and answered it with an error.
//! - At most one stream is attached; the generation distinguishes it from the streams that it replaced.
//! - After `Closed` nothing is accepted in either direction; the attached stream may still take what is in
//!   the log, and the app may still receive what was queued.
//! - Every waiter that could continue has been woken (see the model test).
//!
//! | room | what lives there |
//! |---|---|
//! | here | the state, time and the end |
//! | `inbound`, `outbound`, `stream` | what the client, the app and the stream do |
//! | `gate` | a limit on items and bytes, with a fair queue in front |
//! | `journal`, `remembering` | what is remembered for the session that takes this one's place, and when |
//! | `log`, `backlog` | what the app sent, and what waits for room in the log |
//! | `attachment` | whether a stream is attached |
//! | `cancelled` | cancelled requests that the app may still be working on |
//! | `handshake` | the `initialize` for a client that sent none |
//! | `actions` | what the driver has to do |

mod actions;
mod attachment;
mod backlog;
mod cancelled;
mod gate;
mod handshake;
mod inbound;
mod journal;
mod log;
mod outbound;
mod remembering;
mod stream;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use self::{
    actions::Actions,
    attachment::{Stream, attached},
    backlog::Backlog,
    cancelled::{Cancelled, Working},
    gate::Gate,
    handshake::Handshake,
    journal::Journal,
    log::Log,
};
pub(crate) use self::{
    attachment::Taken, gate::Ticket, inbound::Refusal, journal::Remembered, outbound::Sent,
};
use super::{error::CloseReason, incoming::Incoming};
use crate::{
    id::SessionId,
    limits::Limits,
    message::{Message, RequestId},
    replica::ReplicaId,
};

/// The JSON-RPC error code that SDKs use for a closed connection.
const CONNECTION_CLOSED: i32 = -32000;

#[derive(Debug)]
pub(crate) struct Core {
    id: SessionId,
    /// Where it is, if there are several replicas.
    at: Option<ReplicaId>,
    limits: Arc<Limits>,
    phase: Phase,
    handshake: Handshake,
    inbound: VecDeque<Queued>,
    inbound_gate: Gate,
    in_flight: HashMap<RequestId, InFlight>,
    in_flight_gate: Gate,
    cancelled: Cancelled,
    /// For a session that may be revived elsewhere.
    journal: Option<Box<Journal>>,
    log: Log,
    outbound_gate: Gate,
    backlog: Backlog,
    stream: Stream,
    generation: u64,
    closed_at: Option<Instant>,
    /// Until when its client is authorized.
    authorized_until: Option<Instant>,
    /// The waker of the app while it waits for a message.
    receiver: Option<Waker>,
    actions: Actions,
    /// The time that the driver's timer is set for.
    pub(crate) scheduled: Option<Instant>,
    pub(crate) figures: SessionFigures,
}

/// A message that waits for the app.
#[derive(Debug)]
struct Queued {
    incoming: Incoming,
    cost: usize,
}

#[derive(Debug)]
struct InFlight {
    /// What it counts in its gate, in bytes.
    cost: usize,
    working: Option<Working>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Accepts no new requests, and closes when none is in flight.
    Draining,
    Closed(CloseReason),
}

/// What came and went in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionFigures {
    /// Messages accepted from the client.
    pub messages_in: u64,
    /// Their size as JSON, in bytes.
    pub bytes_in: u64,
    /// Messages accepted from the app.
    pub messages_out: u64,
    /// Their size as JSON, in bytes.
    pub bytes_out: u64,
    /// How often the client resumed.
    pub resumed: u64,
    /// Messages that were refused because the session was at a bound.
    pub refused: u64,
    /// Requests that were answered with an error when the session closed.
    pub cut: u64,
}

impl Core {
    /// A session with one stream attached.
    pub(crate) fn new(id: SessionId, limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            id,
            phase: Phase::Open,
            handshake: Handshake::new(limits.synthesize_initialize),
            inbound: VecDeque::new(),
            inbound_gate: Gate::new(limits.inbound_messages, limits.inbound_bytes)
                .with_turn(limits.inbound_turn),
            in_flight: HashMap::new(),
            in_flight_gate: Gate::new(limits.in_flight_requests, limits.in_flight_bytes),
            log: if limits.resumes() {
                Log::new(limits.replay_events, limits.replay_bytes)
            } else {
                Log::new(0, 0)
            },
            cancelled: Cancelled::default(),
            journal: None,
            outbound_gate: Gate::new(limits.outbound_messages, limits.outbound_bytes),
            backlog: Backlog::new(limits.backlog_messages, limits.backlog_bytes),
            stream: attached(now),
            at: None,
            generation: 0,
            closed_at: None,
            authorized_until: None,
            receiver: None,
            actions: Actions::default(),
            scheduled: None,
            figures: SessionFigures::default(),
            limits,
        }
    }

    /// The same, at one of several replicas, which its events name.
    pub(crate) fn at(mut self, replica: Option<ReplicaId>) -> Self {
        self.at = replica;
        self
    }

    pub(crate) fn take_actions(&mut self) -> Actions {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        if let Phase::Closed(reason) = self.phase { Some(reason) } else { None }
    }

    pub(crate) fn is_attached(&self) -> bool {
        matches!(self.stream, Stream::Attached { .. })
    }

    pub(crate) fn requests_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Counts a POST that was refused at a limit; returns how many there were before.
    pub(crate) fn count_refusal(&mut self) -> u64 {
        let before = self.figures.refused;
        self.figures.refused += 1;
        before
    }

    /// How many messages wait, inbound and outbound.
    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.inbound_gate.items(), self.outbound_gate.items() + self.backlog.len())
    }

    // ---- time and the end ---------------------------------------------------------------------------

    /// When [`on_deadline`](Self::on_deadline) is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let closed = self.close_reason().is_some();
        let stall = self.limits.stall_timeout;
        let stream = match (&self.stream, self.closed_at) {
            // A closed session does not count against the caps any more, so its stream has limited time for
            // the rest.
            (Stream::Attached { waiting_since, .. }, Some(at)) => {
                Some(waiting_since.map_or(at + 2 * stall, |since| (since + stall).min(at + 2 * stall)))
            }
            (Stream::Detached { .. }, Some(_)) => None,
            (Stream::Attached { waiting_since: Some(since), .. }, None) => Some(*since + stall),
            (Stream::Attached { last_write, .. }, None) => {
                self.limits.keep_alive.map(|every| *last_write + every)
            }
            (Stream::Detached { since }, None) => Some(*since + self.limits.resume_window),
        };
        // Not while the client is away: it may still ask for what it missed.
        let forget = self.log.forget_at(self.limits.resume_window).filter(|_| !closed && self.is_attached());
        let authorized = self.authorized_until.filter(|_| !closed);
        stream.into_iter().chain(forget).chain(authorized).min()
    }

    /// Does what is due at `now`.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        if self.authorized_until.is_some_and(|until| until <= now) {
            self.close(CloseReason::Expired, now);
        }
        let closed = self.close_reason().is_some();
        if !closed
            && self.is_attached()
            && self.log.forget_at(self.limits.resume_window).is_some_and(|at| at <= now)
        {
            self.log.forget_taken();
        }
        let stall = self.limits.stall_timeout;
        let is_late = self.closed_at.is_some_and(|at| at + 2 * stall <= now);
        match &mut self.stream {
            Stream::Attached { waiting_since, .. }
                if is_late || waiting_since.is_some_and(|since| since + stall <= now) =>
            {
                self.close(CloseReason::Stalled, now);
                self.log.clear();
                // The stream has to see the end, also if the session had closed before.
                let stream = std::mem::replace(&mut self.stream, Stream::Detached { since: now });
                if let Stream::Attached { waker, .. } = stream {
                    self.actions.add(waker);
                }
            }
            Stream::Attached { waiting_since: None, last_write, keep_alive_due, .. } if !closed => {
                if self.limits.keep_alive.is_some_and(|every| *last_write + every <= now) {
                    *keep_alive_due = true;
                    self.notice_waiting(now);
                }
            }
            Stream::Detached { since } if !closed && *since + self.limits.resume_window <= now => {
                self.close(CloseReason::ClientGone, now);
            }
            Stream::Attached { .. } | Stream::Detached { .. } => {}
        }
        self.shrink(now);
    }

    /// Frees memory that a burst needed. Done when a deadline is due, because then the session has been quiet
    /// for a while; after each message it would cost more than it saves.
    fn shrink(&mut self, now: Instant) {
        self.inbound.shrink_to_fit();
        self.in_flight.shrink_to_fit();
        self.cancelled.shrink(now);
        self.log.shrink();
        self.backlog.shrink();
        for gate in [&mut self.inbound_gate, &mut self.in_flight_gate] {
            gate.shrink();
        }
    }

    /// Its client is authorized until then; the session closes if nothing newer is shown before.
    pub(crate) fn authorize_until(&mut self, until: Option<Instant>) {
        self.authorized_until = until;
    }

    /// Stops accepting new requests, and closes as soon as none is in flight.
    pub(crate) fn drain(&mut self, now: Instant) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            // Requests that wait for a place are refused now, not when a place becomes free.
            self.actions.more_wakers.extend(self.in_flight_gate.wake_all());
            if self.in_flight.is_empty() {
                self.close(CloseReason::Shutdown, now);
            }
        }
    }

    /// Closes the session if no stream is attached.
    pub(crate) fn close_if_detached(&mut self, reason: CloseReason, now: Instant) {
        if !self.is_attached() {
            self.close(reason, now);
        }
    }

    /// Closes the session. Requests in flight are answered with an error; the attached stream ends after what
    /// is in the log.
    pub(crate) fn close(&mut self, reason: CloseReason, now: Instant) {
        self.close_saying(reason, reason.to_client(), now);
    }

    /// Closes the session; `text` is the error message for the requests in flight.
    pub(crate) fn close_saying(&mut self, reason: CloseReason, text: &str, now: Instant) {
        if self.close_reason().is_some() {
            return;
        }
        self.phase = Phase::Closed(reason);
        self.closed_at = Some(now);
        if self.is_attached() && reason != CloseReason::Stalled {
            self.flush(now);
        }
        self.actions.more_wakers.extend(self.backlog.clear());
        self.cancelled.clear();
        self.figures.cut = self.in_flight.len() as u64;
        for (id, _) in std::mem::take(&mut self.in_flight) {
            let json = Message::error(&id, CONNECTION_CLOSED, text).into_bytes();
            self.figures.messages_out += 1;
            self.figures.bytes_out += json.len() as u64;
            let sequence = self.log.push(json);
            self.journal_answer(sequence, id);
        }
        self.leaves(reason);
        // Nobody is there to take it, or it is from someone whose word does not count any more.
        if matches!(reason, CloseReason::AppEnded | CloseReason::Unauthorized | CloseReason::Expired) {
            self.inbound = VecDeque::new();
            self.handshake = Handshake::Done;
        }
        for gate in [&mut self.inbound_gate, &mut self.in_flight_gate, &mut self.outbound_gate] {
            self.actions.more_wakers.extend(gate.close());
        }
        let receiver = self.receiver.take();
        self.actions.add(receiver);
        if self.is_attached() {
            self.notice_waiting(now);
            // The stream has to see the end, also if there is nothing to take.
            if let Stream::Attached { waker, .. } = &mut self.stream {
                let waker = waker.take();
                self.actions.add(waker);
            }
        } else {
            self.log.clear();
            self.actions.detached = Some(None);
        }
        self.actions.closed = Some(reason);
    }
}
