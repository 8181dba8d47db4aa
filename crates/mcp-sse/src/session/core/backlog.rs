//! Messages that wait for room in the log, in the order in which they were sent.

use std::{collections::VecDeque, task::Waker};

use bytes::Bytes;

use crate::message::RequestId;

/// Messages that wait for room in the log.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: VecDeque<Outgoing>,
    /// The size of their JSON.
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// The ticket of the first message that waits; those with lower tickets are in the log.
    first: u64,
}

/// What became of a message that had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is in the log.
    MovedUp,
    Waits,
    /// It was dropped, or never existed.
    Gone,
}

/// A message that waits, and the waker of the task that awaits it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) json: Bytes,
    /// The request that it answers.
    pub(super) answers: Option<RequestId>,
    pub(super) waker: Option<Waker>,
}

impl Backlog {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, max_messages, max_bytes, first: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a message of this many bytes may wait too. A message of any size may wait alone.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.waiting.is_empty()
            || (self.waiting.len() < self.max_messages && self.bytes.saturating_add(bytes) <= self.max_bytes)
    }

    /// Whether its limit is reached or exceeded.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.max_messages || self.bytes >= self.max_bytes
    }

    pub(super) fn push(&mut self, json: Bytes, answers: Option<RequestId>) -> u64 {
        self.bytes += json.len();
        self.waiting.push_back(Outgoing { json, answers, waker: None });
        self.first + self.waiting.len() as u64 - 1
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = self.waiting.pop_front()?;
        self.bytes -= outgoing.json.len();
        self.first += 1;
        Some(outgoing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The size of the first message that waits.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        self.waiting.front().map(|outgoing| outgoing.json.len())
    }

    /// Where the message with this ticket is; registers the waker if it waits.
    pub(super) fn poll(&mut self, ticket: u64, waker: &Waker) -> Place {
        let Some(at) = ticket.checked_sub(self.first) else { return Place::MovedUp };
        match self.waiting.get_mut(at as usize) {
            Some(outgoing) => {
                outgoing.waker = Some(waker.clone());
                Place::Waits
            }
            None => Place::Gone,
        }
    }

    /// Drops all messages that wait, and returns the wakers of the tasks that await them.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.bytes = 0;
        // `first` stays, so that these messages are `Gone` and not `MovedUp`.
        std::mem::take(&mut self.waiting).into_iter().filter_map(|outgoing| outgoing.waker)
    }

    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
    }
}
