//! What a replica has done for others and had done by them, counted.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) forwarded: Count,
    pub(crate) gone: Count,
    pub(crate) unavailable: Count,
    pub(crate) unknown: Count,
    pub(crate) answered: Count,
    pub(crate) doubled: Count,
    pub(crate) unread: Count,
    pub(crate) kept: Count,
    pub(crate) not_kept: Count,
}

/// What a replica has done for others and had done by them, since it joined; see [`Cluster::figures`](crate::Cluster::figures).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterFigures {
    /// Requests that another replica has answered.
    pub forwarded: u64,
    /// Requests for replicas that are gone.
    pub gone: u64,
    /// Requests that were not sent, as their replica or the engine could not be reached.
    pub unavailable: u64,
    /// Requests that were sent and not answered.
    pub unknown: u64,
    /// Requests of other replicas that were answered here.
    pub answered: u64,
    /// Copies of those, which were not acted on again.
    pub doubled: u64,
    /// Messages that were not read: of another version, or not sealed with the cluster's key.
    pub unread: u64,
    /// Records of sessions that were written, to be revived elsewhere.
    pub kept: u64,
    /// Those that could not be written: the engine did not answer, or has refused it.
    pub not_kept: u64,
}

impl Figures {
    pub(crate) fn now(&self) -> ClusterFigures {
        let Self { forwarded, gone, unavailable, unknown, answered, doubled, unread, kept, not_kept } = self;
        ClusterFigures {
            forwarded: forwarded.get(),
            gone: gone.get(),
            unavailable: unavailable.get(),
            unknown: unknown.get(),
            answered: answered.get(),
            doubled: doubled.get(),
            unread: unread.get(),
            kept: kept.get(),
            not_kept: not_kept.get(),
        }
    }
}
