//! What was last seen of a server, for its operator.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{backend::Failure, clock};

/// How much of an error is kept, in bytes.
const LONGEST: usize = 1024;

/// What was last seen of a server.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Seen>);

#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// When it was last started, or connected to.
    pub(super) start: Option<SystemTime>,
    /// When a session last ended since the server failed, and why.
    pub(super) error: Option<(SystemTime, String)>,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub(super) fn starts(&self) {
        self.lock().start = Some(clock::wall());
    }

    pub(super) fn failed(&self, failure: &Failure) {
        let Failure(text) = failure;
        let end = (0..=LONGEST.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.lock().error = Some((clock::wall(), text[..end].to_owned()));
    }
}
