//! From the client to the app: a POST reserves room, is admitted and accepted; the app receives its message.

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

/// Why the message of a POST was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The session is closed.
    Closed,
    /// The session is draining and accepts no new requests.
    Draining,
    /// A limit is reached: too much waits already.
    Busy,
    /// A request with this id is in flight.
    DuplicateId,
}

impl Core {
    /// Reserves room in the inbound queue for a message of `bytes`, before its body is read.
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

    /// Completes a reservation that has waited long enough for its turn, if there is room; returns whether
    /// there was.
    pub(crate) fn reserve_late(&mut self, ticket: &mut Option<Ticket>) -> bool {
        let passed = ticket.is_some_and(|waiting| self.inbound_gate.pass_late(waiting));
        if passed {
            *ticket = None;
            let waker = self.inbound_gate.next_to_wake();
            self.actions.add(waker);
        }
        passed
    }

    /// Cancels a reservation, or a place in the queue for one.
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

    /// Makes a message that is a request one of the requests in flight. Other messages always pass.
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
        // Each request in flight may exceed the limit of the backlog by one error. If new requests were
        // accepted all the time, errors that the client does not read would pile up. Likewise for requests
        // that are cancelled while the app goes on working.
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
            self.journaled();
        }
        polled
    }

    /// All steps of a POST whose message has arrived whole, if none of them has to wait; else `None`, and the
    /// content stays.
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

    /// Cancels a place in the queue of [`poll_admit`](Self::poll_admit).
    pub(crate) fn cancel_admit(&mut self, ticket: Ticket) {
        if self.close_reason().is_none() {
            self.in_flight_gate.abandon(ticket);
            let waker = self.in_flight_gate.next_to_wake();
            self.actions.add(waker);
        }
    }

    /// Queues a message that was admitted; `reserved` is what it holds in the inbound gate, in bytes. From
    /// here on, the app gets it or the client sees the stream end.
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

    /// The client has cancelled this request.
    fn cancel(&mut self, id: &RequestId, now: Instant) {
        let Some(request) = self.in_flight.get_mut(id) else { return };
        // Before it leaves flight, because that may close a session that is draining.
        self.cancelled.add(id.clone(), request.cost, request.working.take(), now);
        self.leaves_flight(id, now);
    }

    /// The app is working on this request for as long as the returned value is alive.
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

    /// Whether a message waits for the app.
    pub(crate) fn has_inbound(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Whether there is nothing for the app now; if so, registers its waker. An app may poll several times
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

/// Registers a waker. `clone_from` avoids a clone when it is the same one, as an app polls more often than it
/// is woken.
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
