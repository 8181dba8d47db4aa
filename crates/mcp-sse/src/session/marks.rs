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
    marked: Mutex<Marked<S>>,
    news: Notify,
}

#[derive(Debug)]
struct Marked<S> {
    waiting: HashMap<SessionId, Arc<S>>,
    /// Those that are written now.
    taken: HashMap<SessionId, Arc<S>>,
}

impl<S> Default for Marks<S> {
    fn default() -> Self {
        let marked = Marked { waiting: HashMap::new(), taken: HashMap::new() };
        Self { marked: Mutex::new(marked), news: Notify::new() }
    }
}

impl<S> Marks<S> {
    fn lock(&self) -> MutexGuard<'_, Marked<S>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of this session has changed; `is_open`: whether it is open.
    pub(crate) fn mark(&self, id: SessionId, session: &Arc<S>, is_open: bool) {
        {
            let mut marked = self.lock();
            let waiting = &mut marked.waiting;
            if !is_open && waiting.len() >= CLOSED && !waiting.contains_key(&id) {
                return;
            }
            waiting.entry(id).or_insert_with(|| Arc::clone(session));
        }
        self.news.notify_one();
    }

    /// Waits until there are some.
    pub(crate) async fn some(&self) {
        while self.lock().waiting.is_empty() {
            self.news.notified().await;
        }
    }

    /// A session of which something is not written yet.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<S>> {
        let marked = self.lock();
        marked.waiting.get(&id).or_else(|| marked.taken.get(&id)).cloned()
    }

    /// Whether all is written.
    pub(crate) fn is_empty(&self) -> bool {
        let marked = self.lock();
        marked.waiting.is_empty() && marked.taken.is_empty()
    }

    /// Those that are to be written now, each until it [`is_written`](Self::is_written).
    pub(crate) fn take(&self) -> Vec<Arc<S>> {
        let mut marked = self.lock();
        let taken = std::mem::take(&mut marked.waiting);
        marked.taken.extend(taken.iter().map(|(id, session)| (*id, Arc::clone(session))));
        taken.into_values().collect()
    }

    pub(crate) fn is_written(&self, id: SessionId) {
        self.lock().taken.remove(&id);
    }
}
