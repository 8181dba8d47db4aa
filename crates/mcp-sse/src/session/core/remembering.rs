//! A session that may be revived at another replica remembers what the one there has to know.

use super::{Core, handshake::Handshake, journal::Remembered};
use crate::{message::RequestId, session::error::CloseReason};

/// How many bytes of the last events go with a session that ends as its replica does.
const TAIL_BYTES: usize = 32 * 1024;

impl Core {
    /// From now on, the session remembers.
    pub(crate) fn remember(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// Its client has shaken hands at another replica.
    pub(crate) fn shook_hands(&mut self) {
        self.handshake = Handshake::Done;
    }

    /// It does not any more.
    pub(crate) fn remember_nothing(&mut self) {
        self.journal = None;
    }

    pub(crate) fn remembered(&self) -> Remembered {
        let Some(journal) = &self.journal else { return Remembered::default() };
        Remembered {
            asked: self.in_flight.keys().cloned().collect(),
            answered: journal.answered.iter().cloned().collect(),
            forgotten: journal.forgotten,
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
