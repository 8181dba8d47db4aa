//! From the app to the log: a message passes the gate, or waits here until there is room; an answer ends its
//! request.
//!
//! Invariants: who sends hands the message over, and no future has to be polled for it to go on. Messages go
//! into the log in the order of the calls to `send`, those that wait included.

use std::{
    task::{Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

use super::{Core, Phase, backlog::Place};
use crate::{
    event,
    message::{Message, MessageKind, RequestId},
    session::error::{CloseReason, SendError},
};

/// The JSON-RPC code of the errors that take the place of an answer.
const INTERNAL_ERROR: i32 = -32603;

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the log.
    InLog,
    /// It waits for room, and goes on by itself; [`Core::poll_sent`] tells when it does no longer.
    Waits(u64),
}

impl Core {
    /// Takes a message over: into the log if there is room, else behind those that wait.
    pub(crate) fn send(&mut self, message: Message, now: Instant) -> Result<Sent, SendError> {
        let Some((json, answers)) = self.prepare(message)? else { return Ok(Sent::InLog) };
        if let Some(error) = self.too_large(&json) {
            self.refuse_answer(answers, &error, now);
            return Err(error);
        }
        if self.passes(&json) {
            self.append(json, answers, now);
            return Ok(Sent::InLog);
        }
        if self.backlog.has_room(json.len()) {
            return Ok(Sent::Waits(self.backlog.push(json, answers)));
        }
        let error = self.full();
        self.refuse_answer(answers, &error, now);
        Err(error)
    }

    /// The same if there is room in the log now; else nothing has happened.
    pub(crate) fn try_send(&mut self, message: Message, now: Instant) -> Result<(), SendError> {
        let Some((json, answers)) = self.prepare(message)? else { return Ok(()) };
        if let Some(error) = self.too_large(&json) {
            self.refuse_answer(answers, &error, now);
            return Err(error);
        }
        if !self.passes(&json) {
            return Err(self.full());
        }
        self.append(json, answers, now);
        Ok(())
    }

    /// Whether a message that had to wait is in the log now; else registers the waker.
    pub(crate) fn poll_sent(&mut self, ticket: u64, waker: &Waker) -> Poll<Result<(), SendError>> {
        match (self.backlog.poll(ticket, waker), self.close_reason()) {
            (Place::Waits, _) => Poll::Pending,
            (Place::Gone, Some(reason)) => Poll::Ready(Err(SendError::Closed(reason))),
            // There is no such ticket.
            (Place::Gone, None) | (Place::MovedUp, _) => Poll::Ready(Ok(())),
        }
    }

    /// The message as it goes out, and the request that it answers; `None` if it goes no further.
    #[allow(clippy::type_complexity, reason = "taken apart at once")]
    fn prepare(&mut self, message: Message) -> Result<Option<(Bytes, Option<RequestId>)>, SendError> {
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
        let is_one_line = message.is_one_line();
        let json = message.into_bytes();
        Ok(Some((if is_one_line { json } else { event::single_line(json) }, answers)))
    }

    fn too_large(&self, json: &Bytes) -> Option<SendError> {
        let limit = self.limits.outbound_message_bytes;
        (json.len() > limit).then(|| SendError::TooLarge { bytes: json.len(), limit })
    }

    fn full(&self) -> SendError {
        SendError::Full { messages: self.outbound_gate.items() + self.backlog.len() }
    }

    fn passes(&mut self, json: &Bytes) -> bool {
        self.backlog.is_empty() && self.outbound_gate.try_pass(json.len())
    }

    /// The client waits for this answer: it gets an error instead of nothing. The few bytes of the error may
    /// wait whatever the bound says; new requests are refused meanwhile.
    fn refuse_answer(&mut self, answers: Option<RequestId>, error: &SendError, now: Instant) {
        let Some(id) = answers.filter(|id| self.in_flight.contains_key(id)) else { return };
        let json = Message::error(&id, INTERNAL_ERROR, &format!("response not sent: {error}")).into_bytes();
        if self.passes(&json) {
            self.append(json, Some(id), now);
        } else {
            self.backlog.push(json, Some(id));
        }
    }

    /// Moves what waits into the log as far as there is room. To be called after anything that makes room.
    pub(super) fn move_up(&mut self, now: Instant) {
        while let Some(bytes) = self.backlog.next_bytes()
            && self.outbound_gate.try_pass(bytes)
            && let Some(outgoing) = self.backlog.pop()
        {
            self.actions.add(outgoing.waker);
            self.append(outgoing.json, outgoing.answers, now);
        }
    }

    /// Moves all that waits into the log: the session is closed, and its stream still takes what the log
    /// holds.
    pub(super) fn flush(&mut self, now: Instant) {
        while let Some(outgoing) = self.backlog.pop() {
            self.actions.add(outgoing.waker);
            self.append(outgoing.json, outgoing.answers, now);
        }
    }

    /// The message has passed the gate.
    fn append(&mut self, json: Bytes, answers: Option<RequestId>, now: Instant) {
        self.figures.messages_out += 1;
        self.figures.bytes_out += json.len() as u64;
        let sequence = self.log.push(json);
        if let Some(id) = answers {
            self.answered(&id, now);
            self.journal_answer(sequence, id);
        }
        self.notice_waiting(now);
    }

    /// A request has its answer.
    fn answered(&mut self, id: &RequestId, now: Instant) {
        if !self.leaves_flight(id, now) {
            self.cancelled.forget(id, now);
        }
    }

    /// A request is no longer in flight; whether it was.
    pub(super) fn leaves_flight(&mut self, id: &RequestId, now: Instant) -> bool {
        let Some(request) = self.in_flight.remove(id) else { return false };
        self.journaled();
        self.in_flight_gate.leave(1, request.cost);
        let waker = self.in_flight_gate.next_to_wake();
        self.actions.add(waker);
        if self.in_flight.is_empty() && self.phase == Phase::Draining {
            self.close(CloseReason::Shutdown, now);
        }
        true
    }
}
