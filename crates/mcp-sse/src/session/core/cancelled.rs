//! Requests that the client cancelled and the app has not answered.
//!
//! A cancelled request is no longer in flight, but the app may still be working on it. Without a limit on
//! those, "request, cancel, request, cancel …" would start an unbounded amount of work.

use std::{
    collections::VecDeque,
    sync::Weak,
    time::{Duration, Instant},
};

use crate::message::RequestId;

/// How long a cancelled request counts if it is not known when the app stops working on it. An app need not
/// answer a cancelled request, and most do not.
pub(crate) const COUNTS_FOR: Duration = Duration::from_secs(30);

/// Whether the app is still working on a request: it holds the strong reference until then.
pub(crate) type Working = Weak<()>;

#[derive(Debug, Default)]
pub(super) struct Cancelled(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    id: RequestId,
    /// What it counted among the requests in flight, in bytes.
    cost: usize,
    since: Instant,
    working: Option<Working>,
}

impl Entry {
    fn counts(&self, now: Instant) -> bool {
        match &self.working {
            Some(working) => working.strong_count() > 0,
            None => now.saturating_duration_since(self.since) < COUNTS_FOR,
        }
    }
}

impl Cancelled {
    /// Adds a request that was cancelled. There are never more than this limit and that of the requests in
    /// flight together: at this limit no further request is accepted, so only those in flight can still be
    /// cancelled.
    pub(super) fn add(&mut self, id: RequestId, cost: usize, working: Option<Working>, now: Instant) {
        let entry = Entry { id, cost, since: now, working };
        if entry.counts(now) {
            self.0.push_back(entry);
        }
    }

    /// The app is working on a request although it was cancelled.
    #[cfg(feature = "rmcp-3")]
    pub(super) fn works(&mut self, id: &RequestId, working: Working, now: Instant) {
        if let Some(entry) = self.0.iter_mut().rfind(|entry| entry.id == *id && entry.counts(now)) {
            entry.working = Some(working);
        }
    }

    /// The app has answered a cancelled request after all.
    pub(super) fn forget(&mut self, id: &RequestId, now: Instant) {
        if let Some(at) = self.0.iter().position(|entry| entry.id == *id && entry.counts(now)) {
            self.0.remove(at);
        }
    }

    /// Whether a limit is reached: `max` of them count now, or several that are larger than `max_bytes`
    /// together.
    pub(super) fn are(&mut self, max: usize, max_bytes: usize, now: Instant) -> bool {
        if self.reach(max, max_bytes) {
            self.0.retain(|entry| entry.counts(now));
        }
        self.reach(max, max_bytes)
    }

    fn reach(&self, max: usize, max_bytes: usize) -> bool {
        // A single one may have any size, as with the requests in flight.
        let bytes = || self.0.iter().map(|entry| entry.cost).fold(0, usize::saturating_add);
        self.0.len() >= max || (self.0.len() > 1 && bytes() > max_bytes)
    }

    pub(super) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }

    pub(super) fn shrink(&mut self, now: Instant) {
        self.0.retain(|entry| entry.counts(now));
        self.0.shrink_to_fit();
    }
}
