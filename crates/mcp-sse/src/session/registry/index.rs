//! id → session, for the requests that look one up. In shards, each behind a lock of its own: requests of
//! different sessions do not wait for each other, on however many cores.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::id::SessionId;

/// A few for each core of a large machine; an empty one takes 64 bytes.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Index<S>(Box<[Shard<S>]>);

/// On a cache line of its own, so that cores that use different shards do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<S>(RwLock<HashMap<SessionId, Arc<S>>>);

impl<S> Index<S> {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Shard(RwLock::default())).collect())
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Arc<S>> {
        self.read(id).get(&id).cloned()
    }

    pub(super) fn insert(&self, id: SessionId, session: Arc<S>) {
        self.write(id).insert(id, session);
    }

    pub(super) fn remove(&self, id: SessionId) {
        let mut sessions = self.write(id);
        let removed = sessions.remove(&id);
        // A wave of sessions that is over gives its memory back.
        if sessions.capacity() > 64 && sessions.len() < sessions.capacity() / 8 {
            let half = sessions.capacity() / 2;
            sessions.shrink_to(half);
        }
        drop(sessions);
        // It may have been the last one, whose drop is not for this lock.
        drop(removed);
    }

    fn read(&self, id: SessionId) -> RwLockReadGuard<'_, HashMap<SessionId, Arc<S>>> {
        self.0[id.shard(SHARDS)].0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, id: SessionId) -> RwLockWriteGuard<'_, HashMap<SessionId, Arc<S>>> {
        self.0[id.shard(SHARDS)].0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
