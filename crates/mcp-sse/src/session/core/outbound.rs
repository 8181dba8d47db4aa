//! From the app to the log: a message passes the gate or waits; an answer ends its request.

use std::{
    task::{Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

use super::{Core, Phase};
use crate::{
    event,
    message::{Message, MessageKind, RequestId},
    session::{CloseReason, SendError, gate::Ticket},
};

/// The JSON-RPC code of the errors that take the place of an answer.
const INTERNAL_ERROR: i32 = -32603;

/// A message on its way into the log.
#[derive(Debug)]
pub(crate) struct Outgoing {
    json: Bytes,
    /// The request that it answers.
    answers: Option<RequestId>,
    ticket: Option<Ticket>,
}

impl Core {
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
    pub(super) fn answered(&mut self, id: &RequestId, now: Instant) {
        let Some(cost) = self.in_flight.remove(id) else { return };
        self.in_flight_gate.leave(1, cost);
        let waker = self.in_flight_gate.next_to_wake();
        self.actions.add(waker);
        if self.in_flight.is_empty() && self.phase == Phase::Draining {
            self.close(CloseReason::Shutdown, now);
        }
    }
}
