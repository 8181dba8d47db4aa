//! What was last seen of a server, for its operator.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{backend::Failure, clock};

/// How much of an error is kept, in bytes.
const LONGEST: usize = 1024;

/// What was last seen of a server.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: Mutex<Seen>,
    /// Its programs: the processes that keep them.
    programs: Mutex<HashSet<u32>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// When it was last started, or connected to.
    pub(super) start: Option<SystemTime>,
    /// When it last failed, and why.
    pub(super) error: Option<(SystemTime, String)>,
    /// How often another one has taken the place of one that had ended.
    pub(super) revived: u64,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn programs(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its programs that serve a session, by the processes that keep them.
    pub(super) fn keepers(&self) -> Vec<u32> {
        self.programs().iter().copied().collect()
    }

    /// A program runs, until what this returns is dropped.
    pub(super) fn runs(&self, keeper: Option<u32>) -> Runs<'_> {
        self.programs().extend(keeper);
        Runs { history: self, keeper }
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub(super) fn starts(&self) {
        self.lock().start = Some(clock::wall());
    }

    pub(super) fn revived(&self) {
        self.lock().revived += 1;
    }

    pub(super) fn failed(&self, failure: &Failure) {
        let Failure { text, .. } = failure;
        let end = (0..=LONGEST.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.lock().error = Some((clock::wall(), text[..end].to_owned()));
    }
}

/// One program that runs, until it is dropped.
pub(super) struct Runs<'a> {
    history: &'a History,
    keeper: Option<u32>,
}

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper {
            self.history.programs().remove(&keeper);
        }
    }
}
