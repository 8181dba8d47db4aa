//! What sessions need to be revived, kept in the engine: under a hash of the session's id, sealed like all that crosses.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mcp_sse::{Record, Records, RecordsError, RecordsFuture, SessionId};
use ring::digest::{SHA256, digest};

use crate::{
    node::Node,
    seal::Sent,
    store::{Entry, Store, StoreError},
};

/// Where the sessions of a cluster are kept, so that one replica can revive those of another that is gone; for
/// [`Builder::revive`](mcp_sse::Builder::revive), created by [`Cluster::records`](crate::Cluster::records).
///
/// The engine keeps a record for each session of which the app says so: where it is, whose it is, what its app keeps, and the ids
/// of requests without an answer. It is written when one of these changes, ten times a second at most. Its key is a hash of
/// the session's id. With a [`ClusterKey`](crate::ClusterKey) it is sealed; without one, whoever can read the engine
/// can read it.
pub struct SessionRecords {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) expiry: Duration,
}

impl SessionRecords {
    /// What is in a record. It is bound to its key, so that none passes for another.
    fn opened(&self, key: &str, entry: &Entry) -> Option<Record> {
        let value = self.node.opened(Sent::Record { key }, &entry.value)?;
        Some(Record::new(value, entry.revision))
    }
}

/// The key of a session's record, from which nobody finds its id.
fn key(session: SessionId) -> String {
    let hash = digest(&SHA256, format!("mcp-sse session {}", session.expose_hex()).as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn error(error: StoreError) -> RecordsError {
    match error {
        StoreError::Unavailable => RecordsError::Unavailable,
        StoreError::Refused(why) => RecordsError::Refused(why),
    }
}

impl Records for SessionRecords {
    fn expiry(&self) -> Duration {
        self.expiry
    }

    fn get(&self, session: SessionId) -> RecordsFuture<'_, Option<Record>> {
        Box::pin(async move {
            let key = key(session);
            let entry = self.store.get(&key).await.map_err(error)?;
            let Some(entry) = entry else { return Ok(None) };
            let unreadable = || {
                RecordsError::Refused(
                    "a record is of another version, or was sealed with another key".to_owned(),
                )
            };
            self.opened(&key, &entry).ok_or_else(unreadable).map(Some)
        })
    }

    fn put(&self, session: SessionId, over: Option<u64>, value: Bytes) -> RecordsFuture<'_, Option<u64>> {
        Box::pin(async move {
            let key = key(session);
            let sealed = self.node.sealed(Sent::Record { key: &key }, &value);
            let put = match over {
                Some(revision) => self.store.replace(&key, revision, sealed).await,
                None => self.store.create(&key, sealed).await,
            };
            match &put {
                Ok(Some(_)) => self.node.figures.kept.add(),
                Ok(None) => {}
                Err(_) => self.node.figures.not_kept.add(),
            }
            put.map_err(error)
        })
    }

    fn remove(&self, session: SessionId, revision: u64) -> RecordsFuture<'_, bool> {
        Box::pin(async move { self.store.remove(&key(session), revision).await.map_err(error) })
    }
}

impl std::fmt::Debug for SessionRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecords").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}
