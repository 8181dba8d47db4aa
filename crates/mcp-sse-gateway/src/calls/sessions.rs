//! The sessions that have begun, for their operator: what each does, what all have done, and an end to one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_sse::SessionHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Outcome,
    pending::{Calls, Seen},
};
use crate::metrics::Totals;

/// How many are listed of those with the latest calls, and as many of those with the most.
const LISTED: usize = 250;

/// All sessions that have begun and have not ended.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<u64, Open>,
    /// How many there have been.
    begun: u64,
    /// What those have done that have ended.
    ended: Totals,
}

#[derive(Clone, Debug)]
struct Open {
    /// The beginning of the session's id.
    id: Box<str>,
    calls: Arc<Calls>,
    close: CancellationToken,
    /// While nobody runs it.
    resting: Option<SessionHandle>,
}

/// What is known of one.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// The beginning of its id.
    pub(crate) id: Box<str>,
    pub(crate) seen: Seen,
}

/// Why a session was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotClosed {
    /// There is none whose id begins like this.
    Unknown,
    /// There are several.
    Ambiguous,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One has begun; it has ended when what this returns is dropped. `id` is the beginning of its id.
    pub(crate) fn enter(self: &Arc<Self>, id: &str, calls: &Arc<Calls>) -> Entered {
        let close = CancellationToken::new();
        let mut state = self.lock();
        state.begun += 1;
        let key = state.begun;
        let open = Open { id: id.into(), calls: Arc::clone(calls), close: close.clone(), resting: None };
        state.open.insert(key, open);
        drop(state);
        Entered { sessions: Arc::clone(self), key, close }
    }

    /// What all have done so far. None of it ever becomes less.
    pub(crate) fn totals(&self) -> Totals {
        let state = self.lock();
        let mut totals = Totals { sessions: state.begun, ..state.ended };
        for open in state.open.values() {
            totals.add(open.calls.transport(), open.calls.figures());
        }
        totals
    }

    /// The busiest, and how many there are.
    pub(crate) fn busiest(&self) -> (usize, Vec<Listed>) {
        let open: Vec<Open> = self.lock().open.values().cloned().collect();
        let total = open.len();
        let mut all: Vec<Listed> =
            open.into_iter().map(|open| Listed { id: open.id, seen: open.calls.seen() }).collect();
        all.sort_by_key(|listed| listed.seen.idle);
        let mut others = all.split_off(LISTED.min(all.len()));
        others.sort_by_key(|listed| std::cmp::Reverse(listed.seen.figures.calls));
        others.truncate(LISTED);
        all.extend(others);
        (total, all)
    }

    /// Ends the one whose id begins like this.
    pub(crate) fn close(&self, id: &str) -> Result<(), NotClosed> {
        let resting = {
            let state = self.lock();
            let mut found = state.open.values().filter(|open| *open.id == *id);
            match (found.next(), found.next()) {
                (Some(open), None) => {
                    open.close.cancel();
                    open.resting.clone()
                }
                (None, _) => return Err(NotClosed::Unknown),
                (Some(_), Some(_)) => return Err(NotClosed::Ambiguous),
            }
        };
        // Not under the lock, as what is dropped with the session takes it.
        if let Some(session) = resting {
            session.close();
        }
        Ok(())
    }
}

/// A session among the others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    sessions: Arc<Sessions>,
    key: u64,
    /// Cancelled when its operator wants it to end.
    pub(crate) close: CancellationToken,
}

impl Entered {
    /// Nobody runs the session from now on, or somebody does again (`None`).
    pub(crate) fn rests(&self, session: Option<SessionHandle>) {
        if let Some(open) = self.sessions.lock().open.get_mut(&self.key) {
            open.resting = session;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        if let Some(Open { calls, .. }) = state.open.remove(&self.key) {
            calls.failed(Outcome::Ended);
            state.ended.add(calls.transport(), calls.figures());
        }
    }
}
