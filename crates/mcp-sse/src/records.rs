//! Where it is kept what sessions need to be revived: what a transport asks of whatever outlives a replica.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;

use crate::id::SessionId;

/// What is kept of a session, and the revision that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// As it was written.
    pub value: Bytes,
    /// A number that no other value of the record has, or had.
    pub revision: u64,
}

impl Record {
    /// What is kept.
    pub fn new(value: Bytes, revision: u64) -> Self {
        Self { value, revision }
    }
}

/// Why nothing is known of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// It cannot be reached now, or does not answer in time. What it was asked may be done or not.
    #[error("the records cannot be reached now")]
    Unavailable,
    /// It does not do that: why not, and what to do.
    #[error("{0}")]
    Refused(String),
}

/// The future of a call of [`Records`].
pub type RecordsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RecordsError>> + Send + 'a>>;

/// Keeps what sessions need to be revived at another replica, for all replicas; given to a transport with
/// [`Builder::revive`](crate::Builder::revive). The crate `mcp-sse-cluster` has one over NATS and one over Redis.
///
/// A record is changed only by whoever knows its revision: of two that change it at once, one wins. A call should end
/// within some seconds.
pub trait Records: Send + Sync + 'static {
    /// How long a record is kept after it was written last. A transport writes those of its sessions again in time.
    fn expiry(&self) -> Duration;

    /// The record of a session, if there is one. One that cannot be read is [`RecordsError::Refused`].
    fn get(&self, session: SessionId) -> RecordsFuture<'_, Option<Record>>;

    /// Writes a record of at most 96 KiB: over the one that has the revision `over`, or, with `None`, where there is none.
    /// Returns the new revision; `None` if that could not be, since there is another one, or none.
    fn put(&self, session: SessionId, over: Option<u64>, value: Bytes) -> RecordsFuture<'_, Option<u64>>;

    /// Removes a record that has this revision; whether it had.
    fn remove(&self, session: SessionId, revision: u64) -> RecordsFuture<'_, bool>;
}
