//! Apps that are still running after their sessions closed.

use std::sync::Arc;

use super::Registry;
use crate::id::SessionId;

/// Counts an app as running until it is dropped.
#[derive(Debug)]
pub(crate) struct AppRuns<S> {
    registry: Arc<Registry<S>>,
    id: SessionId,
}

impl<S> Registry<S> {
    /// Counts the app of a session as running until the returned value is dropped.
    pub(crate) fn app_runs(self: &Arc<Self>, id: SessionId) -> AppRuns<S> {
        let mut state = self.lock();
        match state.by_id.get_mut(&id) {
            Some(entry) => entry.app = true,
            // The session closed at the same moment.
            None => drop(state.ending.insert(id)),
        }
        drop(state);
        AppRuns { registry: Arc::clone(self), id }
    }
}

impl<S> Drop for AppRuns<S> {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        match state.by_id.get_mut(&self.id) {
            Some(entry) => entry.app = false,
            None => drop(state.ending.remove(&self.id)),
        }
    }
}
