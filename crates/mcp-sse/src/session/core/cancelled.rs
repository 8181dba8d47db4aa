//! Requests that their client cancelled and that the app has not answered.
//!
//! A cancelled request gives up its place among the requests in flight at once, while the app may go on with
//! it. Without a bound on those, "request, cancel, request, cancel …" would start work without end.

use std::{
    collections::VecDeque,
    sync::Weak,
    time::{Duration, Instant},
};

use crate::message::RequestId;

/// An app need not answer what was cancelled, and most do not. Where nobody can tell how long it goes on with
/// a request, a request counts for this long.
pub(crate) const COUNTS_FOR: Duration = Duration::from_secs(30);

/// Whether the app still works on a request: it holds the other end.
pub(crate) type Working = Weak<()>;

#[derive(Debug, Default)]
pub(super) struct Cancelled(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    id: RequestId,
    /// What it counted among the requests in flight.
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
    /// A request was cancelled. At the bound no further request is taken, so none can be cancelled then but
    /// those that are in flight: there are never more than both bounds together.
    pub(super) fn add(&mut self, id: RequestId, cost: usize, working: Option<Working>, now: Instant) {
        let entry = Entry { id, cost, since: now, working };
        if entry.counts(now) {
            self.0.push_back(entry);
        }
    }

    /// The app works on it, though it was cancelled.
    #[cfg(feature = "rmcp-3")]
    pub(super) fn works(&mut self, id: &RequestId, working: Working, now: Instant) {
        if let Some(entry) = self.0.iter_mut().rfind(|entry| entry.id == *id && entry.counts(now)) {
            entry.working = Some(working);
        }
    }

    /// The app has answered it after all.
    pub(super) fn forget(&mut self, id: &RequestId, now: Instant) {
        if let Some(at) = self.0.iter().position(|entry| entry.id == *id && entry.counts(now)) {
            self.0.remove(at);
        }
    }

    /// Whether as many as this count now, or several that are larger than this together.
    pub(super) fn are(&mut self, max: usize, max_bytes: usize, now: Instant) -> bool {
        if self.reach(max, max_bytes) {
            self.0.retain(|entry| entry.counts(now));
        }
        self.reach(max, max_bytes)
    }

    fn reach(&self, max: usize, max_bytes: usize) -> bool {
        // One alone may have any size, as among the requests in flight.
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
