//! All sessions of a transport: by id, counted against the caps, and in the order in which they make room.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the registry: opening, the caps, which session makes room |
//! | `index` | id → session, for requests |
//! | `owner` | whose session it is |
//! | `order` | sessions that count together, and their order |
//! | `ending` | apps that are still running after their sessions closed |
//! | `rate` | sessions opened per second |
//!
//! It is generic over the sessions that it holds and cannot close them: it returns the session that is to
//! make room, and the caller closes it.
//!
//! Invariants:
//! - The registry never takes a session's lock while it holds its own.
//! - Whenever the table's lock is free, the index and the table have the same sessions. A message takes the
//!   lock of one shard of the index, never the table's.
//! - Each entry is in the group of all sessions and in those of its principal and of its address, with the
//!   entry's standing; a group without sessions is removed.

mod ending;
mod index;
mod order;
mod owner;
mod rate;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

pub(crate) use self::{ending::AppRuns, order::Standing, owner::Owner};
use self::{
    index::Index,
    order::{Group, Kind},
    rate::Rates,
};
use super::timers::Timers;
use crate::{clock, id::SessionId, limits::Limits, principal::Principal};

/// How many addresses are searched for a silent session that gives way, starting with those that have most of
/// them.
const CROWDS: usize = 8;

#[derive(Debug)]
pub(crate) struct Registry<S> {
    state: Mutex<State<S>>,
    index: Index<S>,
    /// A copy of the state's, to read it without the lock.
    draining: AtomicBool,
    pub(crate) timers: Arc<Timers<S>>,
}

#[derive(Debug)]
struct State<S> {
    by_id: HashMap<SessionId, Entry<S>>,
    /// How many of the entries are places of sessions of other kinds.
    places: usize,
    all: Group,
    by_principal: HashMap<Principal, Group>,
    by_address: HashMap<Option<IpAddr>, Group>,
    /// The addresses with silent sessions whose clients are connected, ordered by the number of these.
    crowds: BTreeSet<(usize, Option<IpAddr>)>,
    rates: Rates,
    /// Closed sessions whose apps are still running.
    ending: HashSet<SessionId>,
    draining: bool,
}

#[derive(Debug)]
struct Entry<S> {
    holder: Holder<S>,
    standing: Standing,
    principal: Option<Principal>,
    address: Option<IpAddr>,
    /// Whether its app is running.
    app: bool,
}

/// What takes up a place.
#[derive(Debug)]
pub(crate) enum Holder<S> {
    Session(Arc<S>),
    /// A session of another kind, which is told through the channel when it is evicted.
    Place(watch::Sender<bool>),
}

impl<S> Clone for Holder<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Session(session) => Self::Session(Arc::clone(session)),
            Self::Place(given_away) => Self::Place(given_away.clone()),
        }
    }
}

/// Which cap leaves no room for a new session, or for the first message of a silent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Sessions,
    SilentSessions,
    SessionsOfPrincipal,
    SessionsOfAddress,
    RateOfAddress,
    Draining,
}

/// Which cap leaves no room, and the session to close to make some.
#[derive(Debug)]
pub(crate) struct Blocked<S> {
    pub(crate) full: Full,
    pub(crate) gives_way: Option<Arc<S>>,
}

impl<S> From<Full> for Blocked<S> {
    fn from(full: Full) -> Self {
        Self { full, gives_way: None }
    }
}

/// The same within the registry, where what makes room can also be a place.
type Room = Result<(), (Full, Option<SessionId>)>;

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            by_id: HashMap::new(),
            places: 0,
            all: Group::default(),
            by_principal: HashMap::new(),
            by_address: HashMap::new(),
            crowds: BTreeSet::new(),
            rates: Rates::default(),
            ending: HashSet::new(),
            draining: false,
        }
    }
}

impl<S> State<S> {
    fn check_draining(&self) -> Result<(), Full> {
        if self.draining { Err(Full::Draining) } else { Ok(()) }
    }

    /// Whether there is room for one more session of this owner; if not, which entry could make it.
    fn check(&self, owner: &Owner, silent: bool, limits: &Limits, now: Instant) -> Room {
        self.check_draining().map_err(|full| (full, None))?;
        if let Some(group) = owner.bounded().and_then(|address| self.by_address.get(&Some(address)))
            && group.sessions() >= limits.max_sessions_per_address
        {
            return Err((Full::SessionsOfAddress, any(group, limits, now)));
        }
        if let Some(group) = owner.principal().and_then(|p| self.by_principal.get(p))
            && group.sessions() >= limits.max_sessions_per_principal
        {
            return Err((Full::SessionsOfPrincipal, any(group, limits, now)));
        }
        // Closing a session would not help: its app would still be running for a while.
        if self.ending.len() >= limits.max_sessions {
            return Err((Full::Sessions, None));
        }
        match limits.max_silent_sessions {
            None if self.all.sessions() < limits.max_sessions => Ok(()),
            None => {
                let gives_way =
                    self.silent_gives_way(limits, now).or_else(|| self.away_gives_way(limits, now));
                Err((Full::Sessions, gives_way))
            }
            Some(_) if !silent => self.check_speaking(limits, now),
            Some(max) => {
                // Without room for its first message, a new session would be of no use.
                if let Err((full, None)) = self.check_speaking(limits, now) {
                    return Err((full, None));
                }
                if self.all.silent() < max {
                    return Ok(());
                }
                Err((Full::SilentSessions, self.silent_gives_way(limits, now)))
            }
        }
    }

    /// Whether there is room for the first message of a silent session; only if silent ones have a cap of
    /// their own.
    fn check_speaking(&self, limits: &Limits, now: Instant) -> Room {
        if self.all.sessions() - self.all.silent() < limits.max_sessions {
            return Ok(());
        }
        Err((Full::Sessions, self.away_gives_way(limits, now)))
    }

    /// The silent session that gives way: one whose client has left, else the oldest of the address with
    /// most.
    fn silent_gives_way(&self, limits: &Limits, now: Instant) -> Option<SessionId> {
        let first = |group: &Group, kind| group.first(kind, limits.silent_grace, now);
        // If the oldest of all is still within the grace, all are.
        first(&self.all, Kind::SilentAndAway).or_else(|| {
            let oldest = first(&self.all, Kind::Silent)?;
            let beside_it = self.by_id.get(&oldest).and_then(|entry| self.by_address.get(&entry.address));
            let of_oldest = beside_it.map_or(0, Group::listening);
            let larger = self.crowds.iter().rev().take(CROWDS).take_while(|(silent, _)| *silent > of_oldest);
            let mut groups = larger.filter_map(|(_, address)| self.by_address.get(address));
            Some(groups.find_map(|group| first(group, Kind::Silent)).unwrap_or(oldest))
        })
    }

    fn away_gives_way(&self, limits: &Limits, now: Instant) -> Option<SessionId> {
        self.all.first(Kind::Away, limits.silent_grace, now)
    }

    fn insert(&mut self, id: SessionId, entry: Entry<S>) {
        self.places += usize::from(matches!(entry.holder, Holder::Place(_)));
        self.in_groups(&entry, |group| group.add(&entry.standing));
        self.by_id.insert(id, entry);
    }

    fn remove(&mut self, id: SessionId) -> Option<Entry<S>> {
        let entry = self.by_id.remove(&id)?;
        if entry.app {
            self.ending.insert(id);
        }
        self.places -= usize::from(matches!(entry.holder, Holder::Place(_)));
        self.in_groups(&entry, |group| group.take_out(&entry.standing));
        // After a peak of sessions, the memory is freed.
        if self.by_id.capacity() > 64 && self.by_id.len() < self.by_id.capacity() / 8 {
            let half = self.by_id.capacity() / 2;
            self.by_id.shrink_to(half);
        }
        Some(entry)
    }

    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut Standing)) {
        let Some(mut entry) = self.by_id.remove(&id) else { return };
        let before = entry.standing;
        change(&mut entry.standing);
        self.in_groups(&entry, |group| {
            group.take_out(&before);
            group.add(&entry.standing);
        });
        self.by_id.insert(id, entry);
    }

    /// Applies a change to all groups of an entry, and updates the crowds.
    fn in_groups(&mut self, entry: &Entry<S>, change: impl Fn(&mut Group)) {
        change(&mut self.all);
        if let Some(principal) = &entry.principal {
            let group = self.by_principal.entry(principal.clone()).or_default();
            change(group);
            if group.sessions() == 0 {
                self.by_principal.remove(principal);
            }
        }
        let group = self.by_address.entry(entry.address).or_default();
        let before = group.listening();
        change(group);
        let after = group.listening();
        if group.sessions() == 0 {
            self.by_address.remove(&entry.address);
        }
        if before != after {
            self.crowds.remove(&(before, entry.address));
            if after > 0 {
                self.crowds.insert((after, entry.address));
            }
        }
    }
}

/// The session of a group that gives way.
fn any(group: &Group, limits: &Limits, now: Instant) -> Option<SessionId> {
    let kinds = [Kind::SilentAndAway, Kind::Silent, Kind::Away];
    kinds.into_iter().find_map(|kind| group.first(kind, limits.silent_grace, now))
}

impl<S> Drop for Registry<S> {
    fn drop(&mut self) {
        // No session is left, not even a closed one whose stream still has to end.
        self.timers.stop();
    }
}

impl<S> Registry<S> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            index: Index::new(),
            draining: AtomicBool::new(false),
            timers: Arc::default(),
        })
    }

    /// Counts a new session in its owner's rate; an error if the rate is exceeded.
    pub(crate) fn take_turn(&self, owner: &Owner, limits: &Limits, now: Instant) -> Result<(), Full> {
        let mut state = self.lock();
        state.check_draining()?;
        match owner.bounded() {
            Some(address) if !state.rates.turn(address, limits.sessions_per_second_per_address, now) => {
                Err(Full::RateOfAddress)
            }
            _ => Ok(()),
        }
    }

    /// Adds a session, if there is room. Places of other kinds that had to make room are removed already when
    /// this returns.
    pub(crate) fn add(
        &self,
        holder: &Holder<S>,
        standing: Standing,
        owner: &Owner,
        limits: &Limits,
    ) -> Result<(), Blocked<S>> {
        self.with_room(|state| {
            state.check(owner, standing.silent, limits, clock::now())?;
            let (principal, address) = (owner.principal().cloned(), owner.network());
            state.insert(
                standing.id,
                Entry { holder: holder.clone(), standing, principal, address, app: false },
            );
            if let Holder::Session(session) = holder {
                self.index.insert(standing.id, Arc::clone(session));
            }
            Ok(())
        })
    }

    /// A silent session gets its first message, if there is room for that.
    pub(crate) fn speak(&self, id: SessionId, limits: &Limits) -> Result<(), Blocked<S>> {
        self.with_room(|state| {
            // If it is closed, its queue refuses the message.
            if !state.by_id.get(&id).is_some_and(|entry| entry.standing.silent) {
                return Ok(());
            }
            if limits.max_silent_sessions.is_some() {
                state.check_speaking(limits, clock::now())?;
            }
            state.change(id, |standing| standing.silent = false);
            Ok(())
        })
    }

    /// Repeats the attempt, removing places that give way, until it succeeds or a session would have to be
    /// closed.
    fn with_room(&self, attempt: impl Fn(&mut State<S>) -> Room) -> Result<(), Blocked<S>> {
        let mut state = self.lock();
        loop {
            let (full, gives_way) = match attempt(&mut state) {
                Ok(()) => return Ok(()),
                Err(blocked) => blocked,
            };
            let holder = gives_way.and_then(|id| Some((id, state.by_id.get(&id)?.holder.clone())));
            match holder {
                // Removed from the table, so no place gives way twice.
                Some((id, Holder::Place(given_away))) => {
                    state.remove(id);
                    given_away.send_replace(true);
                }
                Some((_, Holder::Session(session))) => {
                    return Err(Blocked { full, gives_way: Some(session) });
                }
                None => return Err(full.into()),
            }
        }
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<S>> {
        self.index.get(id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<S>> {
        let state = self.lock();
        let sessions = state.by_id.values().filter_map(|entry| match &entry.holder {
            Holder::Session(session) => Some(Arc::clone(session)),
            Holder::Place(_) => None,
        });
        sessions.collect()
    }

    /// How many sessions are open, and how many of them are silent.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.by_id.len() - state.places, state.all.silent())
    }

    /// Sets since when a session's client is away, or that it is back.
    pub(crate) fn set_away(&self, id: SessionId, since: Option<Instant>) {
        self.lock().change(id, |standing| standing.away = since);
    }

    pub(crate) fn remove(&self, id: SessionId) {
        let mut state = self.lock();
        let removed = state.remove(id);
        self.index.remove(id);
        drop(state);
        // After the locks: this may be the last reference, and the drop of a session must not run under them.
        drop(removed);
    }

    /// Whether a new session of this owner would be accepted now.
    pub(crate) fn has_room(&self, owner: &Owner, limits: &Limits) -> bool {
        let (state, now) = (self.lock(), clock::now());
        let has_turn = owner
            .bounded()
            .is_none_or(|address| state.rates.has_turn(address, limits.sessions_per_second_per_address, now));
        has_turn && !matches!(state.check(owner, true, limits, now), Err((_, None)))
    }

    /// Opens no more sessions.
    pub(crate) fn refuse_new(&self) {
        let mut state = self.lock();
        state.draining = true;
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
