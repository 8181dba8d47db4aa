//! The session as a state machine. It does no IO and reads no clock: events and `now` go in, and what is
//! to be done comes out as [`Actions`]. Whoever waits leaves a waker.
//!
//! Invariants:
//! - A request is in `in_flight` from the moment it is accepted until its response is in the log, its
//!   client cancelled it, or the session closed and answered it with an error.
//! - At most one stream is attached; the generation tells the newest from those it replaced.
//! - After `Closed` nothing is accepted in either direction; the attached stream may still take what the
//!   log holds, and the app may still take what was queued.
//! - Whoever could go on has been woken (see the model test).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::request::Parts;

use super::{
    CloseReason, Incoming, SendError,
    gate::{Gate, Ticket},
    handshake::{Handshake, Next},
    id::SessionId,
    log::Log,
};
use crate::{
    event,
    limits::Limits,
    message::{Message, MessageKind, RequestId},
};

/// JSON-RPC codes of errors that the transport answers itself. The first is what SDKs use for a
/// connection that closed.
const CONNECTION_CLOSED: i32 = -32000;
const INTERNAL_ERROR: i32 = -32603;

#[derive(Debug)]
pub(crate) struct Core {
    id: SessionId,
    limits: Arc<Limits>,
    phase: Phase,
    handshake: Handshake,
    inbound: VecDeque<Queued>,
    inbound_gate: Gate,
    /// What each request in flight counts in its gate.
    in_flight: HashMap<RequestId, usize>,
    in_flight_gate: Gate,
    log: Log,
    outbound_gate: Gate,
    stream: Stream,
    generation: u64,
    /// The app, while it waits for a message.
    receiver: Option<Waker>,
    actions: Actions,
    /// For which instant the driver has a timer.
    pub(crate) scheduled: Option<Instant>,
    pub(crate) figures: Figures,
}

#[derive(Debug)]
struct Queued {
    incoming: Incoming,
    cost: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new requests; closes when none is in flight.
    Draining,
    Closed(CloseReason),
}

#[derive(Debug)]
enum Stream {
    Attached {
        waker: Option<Waker>,
        /// When the stream last took something, for the keep-alive.
        last_write: Instant,
        /// Since when something waits that the stream has not come for.
        waiting_since: Option<Instant>,
        keep_alive_due: bool,
    },
    Detached {
        since: Instant,
    },
}

/// What went through a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) resumed: u64,
}

/// What the driver has to do after an operation, outside the lock.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    wakers: [Option<Waker>; 4],
    more_wakers: Vec<Waker>,
    /// The session closed in this operation.
    pub(crate) closed: Option<CloseReason>,
    /// The session lost its stream in this operation (`Some(Some(since))`) or got one (`Some(None)`).
    pub(crate) detached: Option<Option<Instant>>,
}

impl Actions {
    pub(crate) fn wake(self) {
        self.wakers.into_iter().flatten().chain(self.more_wakers).for_each(Waker::wake);
    }

    fn add(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match self.wakers.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(waker),
            None => self.more_wakers.push(waker),
        }
    }
}

/// Why a POST's message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The session is closed.
    Closed,
    /// The session is draining and takes no new requests.
    Draining,
    /// Too many wait already.
    Busy,
    /// A request with this id is in flight.
    DuplicateId,
}

/// What a stream gets when it comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes were written to the buffer.
    Chunk,
    /// Nothing now; the waker was left.
    Nothing,
    /// The stream is at its end.
    End,
}

/// A message on its way into the log.
#[derive(Debug)]
pub(crate) struct Outgoing {
    json: Bytes,
    /// The request that it answers.
    answers: Option<RequestId>,
    ticket: Option<Ticket>,
}

impl Core {
    /// A session with one stream attached.
    pub(crate) fn new(id: SessionId, limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            id,
            phase: Phase::Open,
            handshake: Handshake::new(limits.made_up_initialize),
            inbound: VecDeque::new(),
            inbound_gate: Gate::new(limits.inbound_messages, limits.inbound_bytes),
            in_flight: HashMap::new(),
            in_flight_gate: Gate::new(limits.in_flight_requests, limits.in_flight_bytes),
            log: if limits.resumes() {
                Log::new(limits.replay_events, limits.replay_bytes)
            } else {
                Log::new(0, 0)
            },
            outbound_gate: Gate::new(limits.outbound_messages, limits.outbound_bytes),
            stream: attached(now),
            generation: 0,
            receiver: None,
            actions: Actions::default(),
            scheduled: None,
            figures: Figures::default(),
            limits,
        }
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

    /// Messages that wait, inbound and outbound.
    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.inbound_gate.items(), self.outbound_gate.items())
    }

    // ---- POST: reserve, read the body, accept -------------------------------------------------------

    /// Room in the inbound queue for a message of `bytes`, before its body is read.
    pub(crate) fn poll_reserve(
        &mut self,
        bytes: usize,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
    ) -> Poll<Result<(), Refusal>> {
        if self.close_reason().is_some() {
            return Poll::Ready(Err(Refusal::Closed));
        }
        poll_gate(
            &mut self.inbound_gate,
            bytes,
            ticket,
            waker,
            Some(self.limits.inbound_messages),
            &mut self.actions,
        )
    }

    /// Gives back a reservation, or a place in the queue for one.
    pub(crate) fn cancel_reserve(&mut self, reserved: Option<usize>, ticket: Option<Ticket>) {
        if self.close_reason().is_some() {
            return;
        }
        if let Some(bytes) = reserved {
            self.inbound_gate.leave(1, bytes);
        }
        if let Some(ticket) = ticket {
            self.inbound_gate.abandon(ticket);
        }
        let waker = self.inbound_gate.next_to_wake();
        self.actions.add(waker);
    }

    /// Whether the message, once accepted, may become one of the requests in flight.
    pub(crate) fn poll_admit(
        &mut self,
        message: &Message,
        cost: usize,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
    ) -> Poll<Result<(), Refusal>> {
        match self.phase {
            Phase::Closed(_) => return Poll::Ready(Err(Refusal::Closed)),
            Phase::Draining if is_request(message) => return Poll::Ready(Err(Refusal::Draining)),
            Phase::Open | Phase::Draining => {}
        }
        let MessageKind::Request { id, .. } = message.kind() else { return Poll::Ready(Ok(())) };
        if self.in_flight.contains_key(id) {
            return Poll::Ready(Err(Refusal::DuplicateId));
        }
        let polled = poll_gate(
            &mut self.in_flight_gate,
            cost,
            ticket,
            waker,
            Some(self.limits.in_flight_requests),
            &mut self.actions,
        );
        if polled == Poll::Ready(Ok(())) {
            self.in_flight.insert(id.clone(), cost);
        }
        polled
    }

    /// Gives up a place in the queue of [`poll_admit`](Self::poll_admit).
    pub(crate) fn cancel_admit(&mut self, ticket: Ticket) {
        if self.close_reason().is_none() {
            self.in_flight_gate.abandon(ticket);
            let waker = self.in_flight_gate.next_to_wake();
            self.actions.add(waker);
        }
    }

    /// Queues a message that was admitted; `reserved` is what it holds in the inbound gate. From here on
    /// the first promise holds.
    pub(crate) fn accept(
        &mut self,
        message: Message,
        parts: Parts,
        reserved: usize,
        cost: usize,
        now: Instant,
    ) {
        self.inbound_gate.resize(reserved, cost);
        let waker = self.inbound_gate.next_to_wake();
        self.actions.add(waker);
        self.figures.messages_in += 1;
        self.figures.bytes_in += message.as_bytes().len() as u64;
        if let Some(id) = message.cancelled_id() {
            self.answered(&id, now);
        }
        self.handshake.on_client_message(&message, &parts);
        self.inbound.push_back(Queued { incoming: Incoming { message, parts }, cost });
        let receiver = self.receiver.take();
        self.actions.add(receiver);
    }

    /// The next message for the app; `None` once the session is closed and the queue is empty.
    pub(crate) fn poll_recv(&mut self, waker: &Waker) -> Poll<Option<Incoming>> {
        let closed = self.close_reason().is_some();
        match self.handshake.next() {
            Next::Message(incoming) => return Poll::Ready(Some(*incoming)),
            Next::Hold if closed => return Poll::Ready(None),
            Next::Hold => {
                self.receiver = Some(waker.clone());
                return Poll::Pending;
            }
            Next::Queue => {}
        }
        if let Some(Queued { incoming, cost }) = self.inbound.pop_front() {
            if !closed {
                self.inbound_gate.leave(1, cost);
                let waker = self.inbound_gate.next_to_wake();
                self.actions.add(waker);
            }
            if self.inbound.is_empty() {
                self.inbound = VecDeque::new();
            }
            return Poll::Ready(Some(incoming));
        }
        if closed {
            return Poll::Ready(None);
        }
        self.receiver = Some(waker.clone());
        Poll::Pending
    }

    // ---- the app sends ------------------------------------------------------------------------------

    /// Puts a message into the log if there is room; else returns it with its place in the queue. Places
    /// are given in the order of the calls, so the order of messages is that of the calls too.
    pub(crate) fn send(&mut self, message: Message, now: Instant) -> Result<Option<Outgoing>, SendError> {
        if let Some(reason) = self.close_reason() {
            return Err(SendError::Closed(reason));
        }
        if self.handshake.on_app_message(&message) {
            let receiver = self.receiver.take();
            self.actions.add(receiver);
            return Ok(None);
        }
        let answers = match message.kind() {
            MessageKind::Response { id, .. } => id.clone(),
            _ => None,
        };
        let mut json = event::single_line(message.into_bytes());
        let mut refused = None;
        if json.len() > self.limits.outbound_message_bytes {
            let error = SendError::TooLarge { bytes: json.len(), limit: self.limits.outbound_message_bytes };
            match &answers {
                // The client waits for it: it gets an error instead of nothing.
                Some(id) if self.in_flight.contains_key(id) => {
                    json = Message::error(id, INTERNAL_ERROR, &format!("response not sent: {error}"))
                        .into_bytes();
                    refused = Some(error);
                }
                _ => return Err(error),
            }
        }
        let mut outgoing = Outgoing { json, answers, ticket: None };
        if self.outbound_gate.try_pass(outgoing.json.len()) {
            self.append(outgoing, now);
        } else if refused.is_none() {
            outgoing.ticket = Some(self.outbound_gate.queue(outgoing.json.len()));
            return Ok(Some(outgoing));
        } else {
            // A few bytes over the bound, rather than a caller that waits for ever.
            self.outbound_gate.pass_over(outgoing.json.len());
            self.append(outgoing, now);
        }
        refused.map_or(Ok(None), Err)
    }

    /// Goes on with a message that had to wait.
    pub(crate) fn poll_send(
        &mut self,
        outgoing: &mut Option<Outgoing>,
        waker: &Waker,
        now: Instant,
    ) -> Poll<Result<(), SendError>> {
        let Some(ticket) = outgoing.as_ref().and_then(|o| o.ticket) else { return Poll::Ready(Ok(())) };
        if let Some(reason) = self.close_reason() {
            *outgoing = None;
            return Poll::Ready(Err(SendError::Closed(reason)));
        }
        if !self.outbound_gate.poll(ticket, waker) {
            return Poll::Pending;
        }
        if let Some(outgoing) = outgoing.take() {
            self.append(outgoing, now);
        }
        let waker = self.outbound_gate.next_to_wake();
        self.actions.add(waker);
        Poll::Ready(Ok(()))
    }

    /// Gives up a message that waits.
    pub(crate) fn cancel_send(&mut self, outgoing: &Outgoing, now: Instant) {
        if self.close_reason().is_some() {
            return;
        }
        if let Some(ticket) = outgoing.ticket {
            self.outbound_gate.abandon(ticket);
            let waker = self.outbound_gate.next_to_wake();
            self.actions.add(waker);
        }
        // The app gave up an answer that its client waits for.
        if let Some(id) = &outgoing.answers
            && self.in_flight.contains_key(id)
        {
            let json = Message::error(id, INTERNAL_ERROR, "the server gave up its response").into_bytes();
            self.outbound_gate.pass_over(json.len());
            self.append(Outgoing { json, answers: Some(id.clone()), ticket: None }, now);
        }
    }

    /// The message has passed the gate.
    fn append(&mut self, outgoing: Outgoing, now: Instant) {
        self.figures.messages_out += 1;
        self.figures.bytes_out += outgoing.json.len() as u64;
        self.log.push(outgoing.json);
        if let Some(id) = outgoing.answers {
            self.answered(&id, now);
        }
        self.notice_waiting(now);
    }

    /// A request is no longer in flight.
    fn answered(&mut self, id: &RequestId, now: Instant) {
        let Some(cost) = self.in_flight.remove(id) else { return };
        self.in_flight_gate.leave(1, cost);
        let waker = self.in_flight_gate.next_to_wake();
        self.actions.add(waker);
        if self.in_flight.is_empty() {
            self.in_flight = HashMap::new();
            if self.phase == Phase::Draining {
                self.close(CloseReason::Shutdown, now);
            }
        }
    }

    // ---- the stream ---------------------------------------------------------------------------------

    /// A new stream continues after the event `sequence`, and the one before it, if any, ends. `None` if
    /// that is not possible without a gap.
    pub(crate) fn resume(&mut self, sequence: u64, now: Instant) -> Option<u64> {
        if self.close_reason().is_some() || !self.limits.resumes() || !self.log.rewind(sequence) {
            return None;
        }
        if let Stream::Attached { waker, .. } = std::mem::replace(&mut self.stream, attached(now)) {
            self.actions.add(waker);
        } else {
            self.actions.detached = Some(None);
        }
        self.generation += 1;
        self.figures.resumed += 1;
        self.notice_waiting(now);
        Some(self.generation)
    }

    /// A stream's response is gone.
    pub(crate) fn detach(&mut self, generation: u64, now: Instant) {
        if generation != self.generation || !self.is_attached() {
            return;
        }
        self.stream = Stream::Detached { since: now };
        if self.close_reason().is_some() {
            self.log.clear();
        } else if self.limits.resumes() {
            self.actions.detached = Some(Some(now));
        } else {
            self.close(CloseReason::ClientGone, now);
        }
    }

    /// A stream comes for what waits. Events go to `out`, behind what is there.
    pub(crate) fn poll_take(
        &mut self,
        generation: u64,
        out: &mut BytesMut,
        waker: &Waker,
        now: Instant,
    ) -> Taken {
        let closed = self.close_reason().is_some();
        let Stream::Attached { waker: slot, last_write, waiting_since, keep_alive_due } = &mut self.stream
        else {
            return Taken::End;
        };
        if generation != self.generation {
            return Taken::End;
        }
        if self.log.has_unsent() {
            let taken = self.log.take(out, self.limits.resumes().then_some(self.id), now);
            *waiting_since = self.log.has_unsent().then_some(now);
            if !closed {
                self.outbound_gate.leave(taken.items, taken.bytes);
                let waker = self.outbound_gate.next_to_wake();
                self.actions.add(waker);
            }
        } else if closed {
            return if out.is_empty() { Taken::End } else { Taken::Chunk };
        } else if *keep_alive_due {
            out.extend_from_slice(event::KEEP_ALIVE);
            *waiting_since = None;
        }
        if out.is_empty() {
            *slot = Some(waker.clone());
            return Taken::Nothing;
        }
        *keep_alive_due = false;
        *last_write = now;
        Taken::Chunk
    }

    /// Something may wait for the stream now: wakes it, and remembers since when.
    fn notice_waiting(&mut self, now: Instant) {
        if let Stream::Attached { waker, waiting_since, keep_alive_due, .. } = &mut self.stream
            && (*keep_alive_due || self.log.has_unsent())
        {
            waiting_since.get_or_insert(now);
            let waker = waker.take();
            self.actions.add(waker);
        }
    }

    // ---- time and the end ---------------------------------------------------------------------------

    /// When [`on_deadline`](Self::on_deadline) is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let closed = self.close_reason().is_some();
        let stream = match &self.stream {
            Stream::Attached { waiting_since: Some(since), .. } => Some(*since + self.limits.stall_timeout),
            // Nothing happens to a closed session but that its stream takes what is left.
            _ if closed => None,
            Stream::Attached { last_write, .. } => self.limits.keep_alive.map(|every| *last_write + every),
            Stream::Detached { since } => Some(*since + self.limits.resume_window),
        };
        // A client that is away may still ask for what it missed.
        let forget = self.log.forget_at(self.limits.resume_window).filter(|_| !closed && self.is_attached());
        stream.into_iter().chain(forget).min()
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        let closed = self.close_reason().is_some();
        if !closed
            && self.is_attached()
            && self.log.forget_at(self.limits.resume_window).is_some_and(|at| at <= now)
        {
            self.log.forget_taken();
        }
        match &mut self.stream {
            Stream::Attached { waiting_since: Some(since), .. }
                if *since + self.limits.stall_timeout <= now =>
            {
                self.close(CloseReason::Stalled, now);
                self.log.clear();
                self.stream = Stream::Detached { since: now };
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
    }

    /// Takes no new requests and closes as soon as none is in flight.
    pub(crate) fn drain(&mut self, now: Instant) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            if self.in_flight.is_empty() {
                self.close(CloseReason::Shutdown, now);
            }
        }
    }

    /// Closes a session that waits for its client to resume, and no other.
    pub(crate) fn close_if_detached(&mut self, reason: CloseReason, now: Instant) {
        if !self.is_attached() {
            self.close(reason, now);
        }
    }

    /// Ends the session. Requests in flight are answered with an error; the attached stream ends after
    /// what the log holds.
    pub(crate) fn close(&mut self, reason: CloseReason, now: Instant) {
        if self.close_reason().is_some() {
            return;
        }
        self.phase = Phase::Closed(reason);
        for (id, _) in std::mem::take(&mut self.in_flight) {
            let json = Message::error(&id, CONNECTION_CLOSED, reason.to_client()).into_bytes();
            self.figures.messages_out += 1;
            self.figures.bytes_out += json.len() as u64;
            self.log.push(json);
        }
        if reason == CloseReason::AppEnded {
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
            // Without anything to take, the stream still has to see the end.
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

fn attached(now: Instant) -> Stream {
    Stream::Attached { waker: None, last_write: now, waiting_since: None, keep_alive_due: false }
}

fn is_request(message: &Message) -> bool {
    matches!(message.kind(), MessageKind::Request { .. })
}

fn poll_gate(
    gate: &mut Gate,
    bytes: usize,
    ticket: &mut Option<Ticket>,
    waker: &Waker,
    max_waiting: Option<usize>,
    actions: &mut Actions,
) -> Poll<Result<(), Refusal>> {
    let waiting = match *ticket {
        Some(waiting) => waiting,
        None if gate.try_pass(bytes) => return Poll::Ready(Ok(())),
        None if max_waiting.is_some_and(|max| gate.waiting() >= max) => {
            return Poll::Ready(Err(Refusal::Busy));
        }
        None => *ticket.insert(gate.queue(bytes)),
    };
    if !gate.poll(waiting, waker) {
        return Poll::Pending;
    }
    *ticket = None;
    actions.add(gate.next_to_wake());
    Poll::Ready(Ok(()))
}
