//! From the client to the app: a POST reserves room, is admitted and accepted; the app receives.

#[cfg(feature = "rmcp-3")]
use std::sync::Arc;
use std::{
    task::{Poll, Waker},
    time::Instant,
};

use super::{
    Core, InFlight, Phase, Queued,
    actions::Actions,
    gate::{Gate, Ticket},
    handshake::Next,
};
use crate::{
    message::{Message, MessageKind, RequestId},
    session::{head::Head, incoming::Incoming},
};

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

impl Core {
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
            self.limits.inbound_messages,
            &mut self.actions,
        )
    }

    /// Goes on with a reservation that has waited long enough for its turn; `true` if there was room.
    pub(crate) fn reserve_late(&mut self, ticket: &mut Option<Ticket>) -> bool {
        let passed = ticket.is_some_and(|waiting| self.inbound_gate.pass_late(waiting));
        if passed {
            *ticket = None;
            let waker = self.inbound_gate.next_to_wake();
            self.actions.add(waker);
        }
        passed
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
        now: Instant,
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
        // Each request in flight may put one error over the bound of the backlog; with new requests all the
        // time, errors that nobody reads would pile up. And each may be cancelled while the app goes on.
        let (cancelled, bytes) = (self.limits.cancelled_requests, self.limits.in_flight_bytes);
        if ticket.is_none() && (self.backlog.is_full() || self.cancelled.are(cancelled, bytes, now)) {
            return Poll::Ready(Err(Refusal::Busy));
        }
        let polled = poll_gate(
            &mut self.in_flight_gate,
            cost,
            ticket,
            waker,
            self.limits.in_flight_requests,
            &mut self.actions,
        );
        if polled == Poll::Ready(Ok(())) {
            self.in_flight.insert(id.clone(), InFlight { cost, working: None });
        }
        polled
    }

    /// All of a POST whose message is there, if nothing has to be waited for: `None`, and the content is
    /// still there, if something has.
    pub(crate) fn accept_at_once(
        &mut self,
        content: &mut Option<(Message, Head)>,
        cost: usize,
        now: Instant,
    ) -> Option<Result<(), Refusal>> {
        if self.close_reason().is_none() && !self.inbound_gate.would_pass(cost) {
            return None;
        }
        let (message, head) = content.take()?;
        let mut ticket = None;
        match self.poll_admit(&message, cost, &mut ticket, Waker::noop(), now) {
            Poll::Ready(Ok(())) => {
                self.inbound_gate.try_pass(cost);
                self.accept(message, head, cost, cost, now);
                Some(Ok(()))
            }
            Poll::Ready(Err(refusal)) => Some(Err(refusal)),
            Poll::Pending => {
                *content = Some((message, head));
                if let Some(ticket) = ticket {
                    self.cancel_admit(ticket);
                }
                None
            }
        }
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
        head: Head,
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
            self.cancel(&id, now);
        }
        self.handshake.on_client_message(&message, &head);
        self.inbound.push_back(Queued { incoming: Incoming { message, head }, cost });
        let receiver = self.receiver.take();
        self.actions.add(receiver);
    }

    /// The client does not want the answer to this request any more.
    fn cancel(&mut self, id: &RequestId, now: Instant) {
        let Some(request) = self.in_flight.get_mut(id) else { return };
        // Before it leaves: that may be the end of a session that drains.
        self.cancelled.add(id.clone(), request.cost, request.working.take(), now);
        self.leaves_flight(id, now);
    }

    /// Says that the app works on this request for as long as it holds what is returned.
    #[cfg(feature = "rmcp-3")]
    pub(crate) fn work_on(&mut self, id: &RequestId, now: Instant) -> Arc<()> {
        let work = Arc::new(());
        let working = Arc::downgrade(&work);
        match self.in_flight.get_mut(id) {
            Some(request) => request.working = Some(working),
            None => self.cancelled.works(id, working, now),
        }
        work
    }

    /// Whether the app has to wait for its client; then its waker is registered. An app may ask several times
    /// for each message.
    pub(crate) fn waits_for_client(&mut self, waker: &Waker) -> bool {
        let waits = self.inbound.is_empty() && self.handshake.is_quiet() && self.close_reason().is_none();
        if waits {
            register(&mut self.receiver, waker);
        }
        waits
    }

    /// The next message for the app; `None` once the session is closed and the queue is empty.
    pub(crate) fn poll_recv(&mut self, waker: &Waker) -> Poll<Option<Incoming>> {
        let closed = self.close_reason().is_some();
        match self.handshake.next() {
            Next::Message(incoming) => return Poll::Ready(Some(*incoming)),
            Next::Hold if closed => return Poll::Ready(None),
            Next::Hold => {
                register(&mut self.receiver, waker);
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
            return Poll::Ready(Some(incoming));
        }
        if closed {
            return Poll::Ready(None);
        }
        register(&mut self.receiver, waker);
        Poll::Pending
    }
}

/// An app asks more often than it is woken.
fn register(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(slot) => slot.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

fn is_request(message: &Message) -> bool {
    matches!(message.kind(), MessageKind::Request { .. })
}

fn poll_gate(
    gate: &mut Gate,
    bytes: usize,
    ticket: &mut Option<Ticket>,
    waker: &Waker,
    max_waiting: usize,
    actions: &mut Actions,
) -> Poll<Result<(), Refusal>> {
    let waiting = match *ticket {
        Some(waiting) => waiting,
        None if gate.try_pass(bytes) => return Poll::Ready(Ok(())),
        None if gate.waiting() >= max_waiting => return Poll::Ready(Err(Refusal::Busy)),
        None => *ticket.insert(gate.queue(bytes)),
    };
    if !gate.poll(waiting, waker) {
        return Poll::Pending;
    }
    *ticket = None;
    actions.add(gate.next_to_wake());
    Poll::Ready(Ok(()))
}
