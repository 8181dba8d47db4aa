//! Sessions of which something is to be written down.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::id::SessionId;

/// How many sessions that have closed may wait; records of others stay until they expire.
const CLOSED: usize = 10_000;

/// Those that have changed since they were taken last. There are at most as many as are open, and some that were.
#[derive(Debug)]
pub(crate) struct Marks<S> {
    marked: Mutex<HashMap<SessionId, Arc<S>>>,
    news: Notify,
}

impl<S> Default for Marks<S> {
    fn default() -> Self {
        Self { marked: Mutex::default(), news: Notify::new() }
    }
}

impl<S> Marks<S> {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<S>>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of this session has changed; `is_open`: whether it is open.
    pub(crate) fn mark(&self, id: SessionId, session: &Arc<S>, is_open: bool) {
        {
            let mut marked = self.lock();
            if !is_open && marked.len() >= CLOSED && !marked.contains_key(&id) {
                return;
            }
            marked.entry(id).or_insert_with(|| Arc::clone(session));
        }
        self.news.notify_one();
    }

    /// Waits until there are some.
    pub(crate) async fn some(&self) {
        while self.is_empty() {
            self.news.notified().await;
        }
    }

    pub(crate) fn has(&self, id: SessionId) -> bool {
        self.lock().contains_key(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(crate) fn take(&self) -> Vec<Arc<S>> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }
}
