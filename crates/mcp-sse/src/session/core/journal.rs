//! What a session remembers for the one that may take its place at another replica: which requests have no answer, and
//! which answers its client may not have.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Core;
use crate::{message::RequestId, session::error::CloseReason};

/// How many answers are remembered. A client that is further behind does not get its stream back anyway.
const ANSWERS: usize = 256;
/// How many bytes of the last events go with a session that ends as its replica does.
const TAIL_BYTES: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct Journal {
    answered: VecDeque<(u64, RequestId)>,
    tail: Option<Vec<(u64, Bytes)>>,
}

/// What was remembered so far.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Requests that have no answer.
    pub(crate) asked: Vec<RequestId>,
    /// Those that have one, by the sequence numbers of the events.
    pub(crate) answered: Vec<(u64, RequestId)>,
    /// The last events of a session that has ended as its replica does, which are for the one that takes its place.
    pub(crate) tail: Option<Vec<(u64, Bytes)>>,
}

impl Journal {
    fn answered(&mut self, sequence: u64, id: RequestId) {
        if self.answered.len() >= ANSWERS {
            self.answered.pop_front();
        }
        self.answered.push_back((sequence, id));
    }
}

impl Core {
    /// From now on, the session remembers.
    pub(crate) fn remember(&mut self) {
        self.journal.get_or_insert_default();
    }

    pub(crate) fn remembered(&self) -> Remembered {
        let Some(journal) = &self.journal else { return Remembered::default() };
        Remembered {
            asked: self.in_flight.keys().cloned().collect(),
            answered: journal.answered.iter().cloned().collect(),
            tail: journal.tail.clone(),
        }
    }

    /// A request was accepted, or is over.
    pub(super) fn journaled(&mut self) {
        self.actions.journaled |= self.journal.is_some();
    }

    /// An answer is in the log.
    pub(super) fn journal_answer(&mut self, sequence: u64, id: RequestId) {
        if let Some(journal) = &mut self.journal {
            journal.answered(sequence, id);
            self.actions.journaled = true;
        }
    }

    /// The session has closed, and its log is whole for the last time.
    pub(super) fn leaves(&mut self, reason: CloseReason) {
        if let Some(journal) = self.journal.as_mut().filter(|_| reason == CloseReason::Shutdown) {
            journal.tail = Some(self.log.tail(TAIL_BYTES));
        }
    }
}
