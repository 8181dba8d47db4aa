//! What the core asks its driver to do.

use std::{task::Waker, time::Instant};

use crate::session::error::CloseReason;

/// What the driver has to do after an operation.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    /// What a session that may be revived remembers has changed.
    pub(crate) journaled: bool,
    wakers: [Option<Waker>; 4],
    pub(super) more_wakers: Vec<Waker>,
    /// The session closed in this operation.
    pub(crate) closed: Option<CloseReason>,
    /// The session lost its stream in this operation (`Some(Some(since))`) or got one (`Some(None)`).
    pub(crate) detached: Option<Option<Instant>>,
}

impl Actions {
    pub(crate) fn wake(self) {
        self.wakers.into_iter().flatten().chain(self.more_wakers).for_each(Waker::wake);
    }

    pub(super) fn add(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match self.wakers.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(waker),
            None => self.more_wakers.push(waker),
        }
    }
}
