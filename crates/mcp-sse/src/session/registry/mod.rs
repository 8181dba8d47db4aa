//! All sessions of a transport: by id, counted against the caps, and in the order in which they make room.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the registry: opening, the caps, who makes room |
//! | `index` | id → session, for requests |
//! | `owner` | whose session it is |
//! | `order` | sessions that count together, and their order |
//! | `ending` | apps that go on after their sessions |
//! | `rate` | sessions opened a second |
//!
//! It is generic over the session that it holds and knows nothing of it: who makes room is closed by whoever
//! needs the room.
//!
//! Invariants:
//! - The registry never takes a session's lock while it holds its own.
//! - What is in the index is in the table, and the other way round, whenever the table's lock is free. The way of
//!   a message takes a shard of the index, never the table's lock.
//! - Each entry is in the group of all, and in those of its principal and of its address, with the standing
//!   that the entry has; a group without sessions is not kept.

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

/// Who gives way is looked for among the silent sessions of so many addresses, those with most of them.
const CROWDS: usize = 8;

#[derive(Debug)]
pub(crate) struct Registry<S> {
    state: Mutex<State<S>>,
    index: Index<S>,
    /// The same as the state's, for those who do not want its lock.
    draining: AtomicBool,
    pub(crate) timers: Arc<Timers<S>>,
}

#[derive(Debug)]
struct State<S> {
    by_id: HashMap<SessionId, Entry<S>>,
    /// How many of them are places of other kinds.
    places: usize,
    all: Group,
    by_principal: HashMap<Principal, Group>,
    by_address: HashMap<Option<IpAddr>, Group>,
    /// The addresses of silent sessions, by their number.
    crowds: BTreeSet<(usize, Option<IpAddr>)>,
    rates: Rates,
    /// Sessions that are closed and whose apps go on.
    ending: HashSet<SessionId>,
    draining: bool,
}

#[derive(Debug)]
struct Entry<S> {
    holder: Holder<S>,
    standing: Standing,
    principal: Option<Principal>,
    address: Option<IpAddr>,
    /// Its app runs.
    app: bool,
}

/// What takes a place.
#[derive(Debug)]
pub(crate) enum Holder<S> {
    Session(Arc<S>),
    /// A session of another kind; told when its place is given to another.
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

/// Why no session was opened, or none more may begin to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Sessions,
    SilentSessions,
    SessionsOfPrincipal,
    SessionsOfAddress,
    RateOfAddress,
    Draining,
}

/// What keeps a session out, and the session that makes room for it if it is closed.
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

/// The same within the registry, where it may be a place too.
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

    /// Whether there is room for one more of this owner; else who could make it.
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
        // Closing a session would not make room here: its app would only be one more.
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
                // It would have nowhere to go with its first message.
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

    /// Whether one more session may say something; asked only where silent ones have a bound of their own.
    fn check_speaking(&self, limits: &Limits, now: Instant) -> Room {
        if self.all.sessions() - self.all.silent() < limits.max_sessions {
            return Ok(());
        }
        Err((Full::Sessions, self.away_gives_way(limits, now)))
    }

    /// Of the addresses with silent sessions, the one with most gives way first.
    fn silent_gives_way(&self, limits: &Limits, now: Instant) -> Option<SessionId> {
        let first = |group: &Group, kind| group.first(kind, limits.silent_grace, now);
        // The first of all says whether there is any.
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
        // A wave of sessions that is over gives its memory back.
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

    /// Changes the groups of an entry, and keeps the crowds in step.
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

/// Who of a group gives way.
fn any(group: &Group, limits: &Limits, now: Instant) -> Option<SessionId> {
    let kinds = [Kind::SilentAndAway, Kind::Silent, Kind::Away];
    kinds.into_iter().find_map(|kind| group.first(kind, limits.silent_grace, now))
}

impl<S> Drop for Registry<S> {
    fn drop(&mut self) {
        // No session is left, not even one that is closed and whose stream still has to end.
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

    /// Takes one of the owner's turns at opening a session.
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

    /// Adds a session, if there is room. Places that give way have done so when this returns.
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

    /// A session's client says something for the first time.
    pub(crate) fn speak(&self, id: SessionId, limits: &Limits) -> Result<(), Blocked<S>> {
        self.with_room(|state| {
            // One that is gone is refused where its message would go.
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

    /// Tries it until a session would have to be closed for it.
    fn with_room(&self, attempt: impl Fn(&mut State<S>) -> Room) -> Result<(), Blocked<S>> {
        let mut state = self.lock();
        loop {
            let (full, gives_way) = match attempt(&mut state) {
                Ok(()) => return Ok(()),
                Err(blocked) => blocked,
            };
            let holder = gives_way.and_then(|id| Some((id, state.by_id.get(&id)?.holder.clone())));
            match holder {
                // It is out of the table then: no place gives way twice.
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

    /// How many sessions are open, and how many of them have said nothing yet.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.by_id.len() - state.places, state.all.silent())
    }

    /// Notes when a session's client went away, or that it is back.
    pub(crate) fn set_away(&self, id: SessionId, since: Option<Instant>) {
        self.lock().change(id, |standing| standing.away = since);
    }

    pub(crate) fn remove(&self, id: SessionId) {
        let mut state = self.lock();
        let removed = state.remove(id);
        self.index.remove(id);
        drop(state);
        // It may hold the last of a session, whose drop is not for these locks.
        drop(removed);
    }

    /// Whether one more session of this owner would be taken now.
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
