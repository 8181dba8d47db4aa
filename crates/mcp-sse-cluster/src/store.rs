//! What outlives a replica: small records, kept in the engine.
//!
//! A record is changed only by whoever knows its revision, so that of two who change it at once one wins, and the other knows
//! that it has not. No revision is given twice: one that was seen before a record was removed fits none that comes after.
//!
//! Invariant: nothing is sent twice. What is not known to be done or not done is `Unavailable`, and whoever wants to know
//! reads the record again; had it been tried again here, its own change would look like that of somebody else.

#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;

use crate::carrier::BoxFuture;

/// The most that a record may have, in bytes: what a transport writes at most, sealed.
pub(crate) const MAX_VALUE: usize = 97 * 1024;
/// How long one operation may take in all.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// The shortest time that records are kept for.
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);

/// A record, and the revision that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) revision: u64,
}

/// Why an operation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The engine cannot be reached, or has not answered in time. It may have done what it was asked, and may still do it.
    #[error("the engine cannot be reached, or does not answer in time")]
    Unavailable,
    /// The engine does not do it: what it says, and what to do.
    #[error("{0}")]
    Refused(String),
}

/// Records by key, for all replicas of a cluster. Keys are 64 hex digits.
///
/// A future that is dropped leaves open whether the operation was done.
pub(crate) trait Store: Send + Sync + 'static {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// Makes a record; its revision. `None`: there is one already.
    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// Changes a record, if it still has this revision; its new one. `None`: it has another one, or is gone.
    fn replace<'a>(
        &'a self,
        key: &'a str,
        revision: u64,
        value: Bytes,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// Removes a record, if it has this revision; whether it had.
    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// Refuses a value that is too large for a record.
pub(crate) fn check_size(value: &Bytes) -> Result<(), StoreError> {
    if value.len() <= MAX_VALUE {
        return Ok(());
    }
    let why = format!("the record has {} bytes; expected at most {MAX_VALUE}", value.len());
    Err(StoreError::Refused(why))
}

/// A number that nobody else comes upon.
pub(crate) fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Each has a key of its own, which begins with what the system gives.
    RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}
