//! All sessions of a transport: by id, counted against the caps, and in the order in which their clients
//! went away.
//!
//! Invariant: the registry never takes a session's lock while it holds its own.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    CloseReason, Principal, SessionId,
    limits::Limits,
    session::{shared::Shared, timers::Timers},
    throttle::Throttle,
};

#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    pub(crate) timers: Arc<Timers>,
    /// Streams that were refused at a cap.
    pub(crate) full_lines: Throttle,
}

#[derive(Debug, Default)]
struct State {
    by_id: HashMap<SessionId, Entry>,
    /// Sessions that wait for their clients to resume, the longest first. They make room at a cap.
    detached: BTreeSet<(Instant, SessionId)>,
    by_principal: HashMap<Principal, OfPrincipal>,
    /// Places that are taken by sessions of other kinds.
    others: usize,
    /// Sessions that are closed and whose apps go on.
    ending: HashSet<SessionId>,
    draining: bool,
}

impl State {
    fn check_draining(&self) -> Result<(), (Full, Option<SessionId>)> {
        if self.draining { Err((Full::Draining, None)) } else { Ok(()) }
    }

    /// Whether there is room for one more; else who could make it.
    fn check(&self, limits: &Limits) -> Result<(), (Full, Option<SessionId>)> {
        self.check_draining()?;
        // Closing a session would not make room here: its app would only be one more.
        if self.ending.len() >= limits.max_sessions {
            return Err((Full::Sessions, None));
        }
        if self.by_id.len() + self.others < limits.max_sessions {
            return Ok(());
        }
        Err((Full::Sessions, self.detached.first().map(|(_, id)| *id)))
    }
}

#[derive(Debug)]
struct Entry {
    session: Arc<Shared>,
    detached: Option<Instant>,
    /// Its app runs.
    app: bool,
}

#[derive(Debug, Default)]
struct OfPrincipal {
    sessions: usize,
    detached: BTreeSet<(Instant, SessionId)>,
}

/// Why no session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Sessions,
    SessionsOfPrincipal,
    Draining,
}

/// A running app, in the count until it is dropped.
#[derive(Debug)]
pub(crate) struct AppRuns {
    registry: Arc<Registry>,
    id: SessionId,
}

impl Drop for AppRuns {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        match state.by_id.get_mut(&self.id) {
            Some(entry) => entry.app = false,
            None => drop(state.ending.remove(&self.id)),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // No session is left, not even one that is closed and whose stream still has to end.
        self.timers.stop();
    }
}

impl Registry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), timers: Arc::default(), full_lines: Throttle::new() })
    }

    /// Adds a session. At a cap, the session that has waited longest for its client makes room.
    pub(crate) fn open(&self, session: &Arc<Shared>, limits: &Limits) -> Result<(), Full> {
        self.with_room(|| self.try_open(session, limits))?;
        self.timers.ensure_running();
        session.opened();
        Ok(())
    }

    /// Takes a place for a session of another kind, as `open` does for one of ours.
    pub(crate) fn take_place(&self, limits: &Limits) -> Result<(), Full> {
        self.with_room(|| {
            let mut state = self.lock();
            state.check(limits)?;
            state.others += 1;
            Ok(())
        })
    }

    pub(crate) fn give_place(&self) {
        self.lock().others -= 1;
    }

    /// Tries it, and makes room by closing sessions that wait for their clients.
    fn with_room(&self, attempt: impl Fn() -> Result<(), (Full, Option<SessionId>)>) -> Result<(), Full> {
        // Every round but the last closes one session that was waiting; a few rounds are enough unless
        // others take the room at the same time.
        for _ in 0..8 {
            let gives_way = match attempt() {
                Ok(()) => return Ok(()),
                Err((full, None)) => return Err(full),
                Err((_, Some(id))) => self.get(id),
            };
            if let Some(other) = gives_way {
                other.with(|core, now| core.close_if_detached(CloseReason::Evicted, now));
            }
        }
        Err(Full::Sessions)
    }

    fn try_open(&self, session: &Arc<Shared>, limits: &Limits) -> Result<(), (Full, Option<SessionId>)> {
        let mut state = self.lock();
        state.check_draining()?;
        if let Some(of) = session.principal.as_ref().and_then(|p| state.by_principal.get(p))
            && of.sessions >= limits.max_sessions_per_principal
        {
            return Err((Full::SessionsOfPrincipal, of.detached.first().map(|(_, id)| *id)));
        }
        state.check(limits)?;
        if let Some(principal) = &session.principal {
            state.by_principal.entry(principal.clone()).or_default().sessions += 1;
        }
        state.by_id.insert(session.id, Entry { session: Arc::clone(session), detached: None, app: false });
        Ok(())
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Shared>> {
        self.lock().by_id.get(&id).map(|entry| Arc::clone(&entry.session))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        self.lock().by_id.values().map(|entry| Arc::clone(&entry.session)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Notes when a session's client went away, or that it is back.
    pub(crate) fn set_detached(&self, id: SessionId, principal: Option<&Principal>, since: Option<Instant>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(entry) = state.by_id.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.detached, since);
        let of = principal.and_then(|p| state.by_principal.get_mut(p)).map(|of| &mut of.detached);
        for set in [Some(&mut state.detached), of].into_iter().flatten() {
            if let Some(before) = before {
                set.remove(&(before, id));
            }
            if let Some(since) = since {
                set.insert((since, id));
            }
        }
    }

    pub(crate) fn remove(&self, id: SessionId, principal: Option<&Principal>) {
        self.set_detached(id, principal, None);
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(entry) = state.by_id.remove(&id) else { return };
        if entry.app {
            state.ending.insert(id);
        }
        if let Some(principal) = principal
            && let Some(of) = state.by_principal.get_mut(principal)
        {
            of.sessions -= 1;
            if of.sessions == 0 {
                state.by_principal.remove(principal);
            }
        }
        // A wave of sessions that is over gives its memory back.
        if state.by_id.capacity() > 64 && state.by_id.len() < state.by_id.capacity() / 8 {
            let half = state.by_id.capacity() / 2;
            state.by_id.shrink_to(half);
        }
    }

    /// The app of a session is started; what is returned is for the task that runs it.
    pub(crate) fn app_runs(self: &Arc<Self>, id: SessionId) -> AppRuns {
        let mut state = self.lock();
        match state.by_id.get_mut(&id) {
            Some(entry) => entry.app = true,
            // It has closed in the same moment.
            None => drop(state.ending.insert(id)),
        }
        drop(state);
        AppRuns { registry: Arc::clone(self), id }
    }

    pub(crate) fn has_room(&self, max_sessions: usize) -> bool {
        let state = self.lock();
        !state.draining
            && state.ending.len() < max_sessions
            && (state.by_id.len() + state.others < max_sessions || !state.detached.is_empty())
    }

    /// Opens no more sessions.
    pub(crate) fn refuse_new(&self) {
        self.lock().draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
