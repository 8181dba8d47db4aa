//! id → session, for requests. In shards with a lock each, so that requests of different sessions rarely wait
//! for each other, on any number of cores.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::id::SessionId;

/// Several for each core of a typical machine; an empty one takes 64 bytes.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Index<S>(Box<[Shard<S>]>);

/// On a cache line of its own, to avoid false sharing between cores that use different shards.
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
        // After a peak of sessions, the memory is freed.
        if sessions.capacity() > 64 && sessions.len() < sessions.capacity() / 8 {
            let half = sessions.capacity() / 2;
            sessions.shrink_to(half);
        }
        drop(sessions);
        // After the lock: this may be the last reference, and the drop of a session must not run under it.
        drop(removed);
    }

    fn read(&self, id: SessionId) -> RwLockReadGuard<'_, HashMap<SessionId, Arc<S>>> {
        self.0[id.shard(SHARDS)].0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, id: SessionId) -> RwLockWriteGuard<'_, HashMap<SessionId, Arc<S>>> {
        self.0[id.shard(SHARDS)].0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
