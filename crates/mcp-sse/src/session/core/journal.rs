//! What a session remembers for the one that may take its place at another replica: which requests have no answer, and
//! which answers its client may not have.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::RequestId;

/// How many answers are remembered. A client that is further behind does not get its session back.
const ANSWERS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) answered: VecDeque<(u64, RequestId)>,
    /// The sequence number of the last answer that is not remembered any more.
    pub(super) forgotten: u64,
    pub(super) tail: Option<Vec<(u64, Bytes)>>,
}

/// What was remembered so far.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Requests that have no answer.
    pub(crate) asked: Vec<RequestId>,
    /// Those that have one, by the sequence numbers of the events.
    pub(crate) answered: Vec<(u64, RequestId)>,
    /// There are answers up to this number that are not remembered.
    pub(crate) forgotten: u64,
    /// The last events of a session that has ended as its replica does, which are for the one that takes its place.
    pub(crate) tail: Option<Vec<(u64, Bytes)>>,
}

impl Journal {
    pub(super) fn answered(&mut self, sequence: u64, id: RequestId) {
        if self.answered.len() >= ANSWERS
            && let Some((sequence, _)) = self.answered.pop_front()
        {
            self.forgotten = sequence;
        }
        self.answered.push_back((sequence, id));
    }
}
