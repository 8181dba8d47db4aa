//! All sessions of a transport: by id, counted against the caps, and in the order in which they make room.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the registry: opening, the caps, who makes room |
//! | `order` | sessions that count together, and their order |
//! | `ending` | apps that go on after their sessions |
//! | `place` | places for sessions of other kinds |
//! | `rate` | sessions opened a second |
//!
//! Invariants:
//! - The registry never takes a session's lock while it holds its own.
//! - Each entry is in the group of all, and in those of its principal and of its address, with the standing
//!   that the entry has; a group without sessions is not kept.

mod ending;
mod order;
mod place;
mod rate;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;

pub(crate) use self::ending::AppRuns;
pub use self::place::SessionPlace;
use self::{
    order::{Group, Kind, Standing},
    rate::Rates,
};
use crate::{
    ClientIp, Principal, SessionId, clock,
    limits::Limits,
    session::{shared::Shared, timers::Timers},
    throttle::Throttle,
};

/// Who gives way is looked for among the silent sessions of so many addresses, those with most of them.
const CROWDS: usize = 8;

#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    pub(crate) timers: Arc<Timers>,
    full_lines: Throttle,
    /// Of their own, so that one address cannot keep the other lines out.
    address_lines: Throttle,
}

#[derive(Debug, Default)]
struct State {
    by_id: HashMap<SessionId, Entry>,
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
struct Entry {
    holder: Holder,
    standing: Standing,
    principal: Option<Principal>,
    address: Option<IpAddr>,
    /// Its app runs.
    app: bool,
}

#[derive(Clone, Debug)]
enum Holder {
    Session(Arc<Shared>),
    /// Told when its place is given to another.
    Place(watch::Sender<bool>),
}

/// Whose session it is, for the caps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    principal: Option<Principal>,
    /// What counts as one address.
    network: Option<IpAddr>,
    /// The same, if what it opens is bounded.
    bounded: Option<IpAddr>,
}

impl Owner {
    pub(crate) fn new(principal: Option<Principal>, client: Option<ClientIp>) -> Self {
        let network = client.map(ClientIp::network);
        let bounded = network.filter(|_| !client.is_some_and(ClientIp::is_loopback));
        Self { principal, network, bounded }
    }

    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Whom these extensions of a request name.
    pub(crate) fn of(extensions: &http::Extensions) -> Self {
        Self::new(extensions.get().cloned(), ClientIp::of(extensions))
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

/// What keeps a session out, and who could make room for it.
type Blocked = (Full, Option<SessionId>);

impl State {
    fn check_draining(&self) -> Result<(), Full> {
        if self.draining { Err(Full::Draining) } else { Ok(()) }
    }

    /// Whether there is room for one more of this owner; else who could make it.
    fn check(&self, owner: &Owner, silent: bool, limits: &Limits, now: Instant) -> Result<(), Blocked> {
        self.check_draining().map_err(|full| (full, None))?;
        if let Some(group) = owner.bounded.and_then(|address| self.by_address.get(&Some(address)))
            && group.sessions() >= limits.max_sessions_per_address
        {
            return Err((Full::SessionsOfAddress, any(group, limits, now)));
        }
        if let Some(group) = owner.principal.as_ref().and_then(|p| self.by_principal.get(p))
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
    fn check_speaking(&self, limits: &Limits, now: Instant) -> Result<(), Blocked> {
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

    fn insert(&mut self, id: SessionId, entry: Entry) {
        self.places += usize::from(matches!(entry.holder, Holder::Place(_)));
        self.in_groups(&entry, |group| group.add(&entry.standing));
        self.by_id.insert(id, entry);
    }

    fn remove(&mut self, id: SessionId) -> Option<Entry> {
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
    fn in_groups(&mut self, entry: &Entry, change: impl Fn(&mut Group)) {
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

impl Drop for Registry {
    fn drop(&mut self) {
        // No session is left, not even one that is closed and whose stream still has to end.
        self.timers.stop();
    }
}

impl Registry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            timers: Arc::default(),
            full_lines: Throttle::new(),
            address_lines: Throttle::new(),
        })
    }

    /// Adds a session. At a cap, another makes room.
    pub(crate) fn open(&self, session: &Arc<Shared>, owner: &Owner, limits: &Limits) -> Result<(), Full> {
        let standing = Standing { id: session.id, opened: session.opened, silent: true, away: None };
        self.add(&Holder::Session(Arc::clone(session)), standing, owner, limits)?;
        self.timers.ensure_running();
        session.opened();
        Ok(())
    }

    fn add(&self, holder: &Holder, standing: Standing, owner: &Owner, limits: &Limits) -> Result<(), Full> {
        let added = self.add_in_turn(holder, standing, owner, limits);
        if let Err(full) = added {
            self.log(full, owner, limits);
        }
        added
    }

    fn add_in_turn(
        &self,
        holder: &Holder,
        standing: Standing,
        owner: &Owner,
        limits: &Limits,
    ) -> Result<(), Full> {
        {
            let mut state = self.lock();
            state.check_draining()?;
            if let Some(address) = owner.bounded
                && !state.rates.turn(address, limits.sessions_per_second_per_address, standing.opened)
            {
                return Err(Full::RateOfAddress);
            }
        }
        self.with_room(|| {
            let mut state = self.lock();
            state.check(owner, standing.silent, limits, clock::now())?;
            let (principal, address) = (owner.principal.clone(), owner.network);
            state.insert(
                standing.id,
                Entry { holder: holder.clone(), standing, principal, address, app: false },
            );
            Ok(())
        })
    }

    /// A session's client says something for the first time.
    pub(crate) fn speak(&self, id: SessionId, limits: &Limits) -> Result<(), Full> {
        let spoken = self.with_room(|| {
            let mut state = self.lock();
            // One that is gone is refused where its message would go.
            if !state.by_id.get(&id).is_some_and(|entry| entry.standing.silent) {
                return Ok(());
            }
            if limits.max_silent_sessions.is_some() {
                state.check_speaking(limits, clock::now())?;
            }
            state.change(id, |standing| standing.silent = false);
            Ok(())
        });
        if let Err(full) = spoken {
            self.log(full, &Owner::default(), limits);
        }
        spoken
    }

    /// Tries it, and makes room by closing sessions that give way.
    fn with_room(&self, attempt: impl Fn() -> Result<(), Blocked>) -> Result<(), Full> {
        // Every round but the last closes one session that gave way; a few rounds are enough unless
        // others take the room at the same time.
        for _ in 0..8 {
            match attempt() {
                Ok(()) => return Ok(()),
                Err((full, None)) => return Err(full),
                Err((_, Some(id))) => self.evict(id),
            }
        }
        Err(Full::Sessions)
    }

    fn evict(&self, id: SessionId) {
        let session = {
            let mut state = self.lock();
            match state.by_id.get(&id).map(|entry| entry.holder.clone()) {
                None => return,
                Some(Holder::Session(session)) => session,
                Some(Holder::Place(given_away)) => {
                    state.remove(id);
                    given_away.send_replace(true);
                    return;
                }
            }
        };
        session.give_way();
    }

    fn log(&self, full: Full, owner: &Owner, limits: &Limits) {
        let of_address = matches!(full, Full::SessionsOfAddress | Full::RateOfAddress);
        let lines = if of_address { &self.address_lines } else { &self.full_lines };
        if full == Full::Draining {
            return;
        }
        let Some(left_out) = lines.line(clock::now()) else { return };
        let address = owner.bounded.map(tracing::field::display);
        match full {
            Full::Draining => {}
            Full::Sessions => {
                tracing::warn!(
                    limit = limits.max_sessions,
                    left_out,
                    "session refused: too many sessions; raise max_sessions if this load is expected"
                );
            }
            Full::SilentSessions => {
                tracing::warn!(
                    limit = limits.max_silent_sessions,
                    left_out,
                    "session refused: too many sessions in which nothing was said; raise max_silent_sessions if this is expected"
                );
            }
            Full::SessionsOfPrincipal => {
                tracing::warn!(
                    limit = limits.max_sessions_per_principal,
                    left_out,
                    "session refused: too many sessions of one principal; raise max_sessions_per_principal if this is expected"
                );
            }
            Full::SessionsOfAddress => {
                tracing::warn!(
                    address,
                    limit = limits.max_sessions_per_address,
                    left_out,
                    "session refused: too many sessions of one address; if it is a proxy, set trust_forwarded_for, else raise max_sessions_per_address if this is expected"
                );
            }
            Full::RateOfAddress => {
                tracing::warn!(
                    address,
                    limit = limits.sessions_per_second_per_address,
                    left_out,
                    "session refused: one address opens too many sessions a second; if it is a proxy, set trust_forwarded_for, else raise sessions_per_second_per_address if this is expected"
                );
            }
        }
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Shared>> {
        match &self.lock().by_id.get(&id)?.holder {
            Holder::Session(session) => Some(Arc::clone(session)),
            Holder::Place(_) => None,
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        let state = self.lock();
        let sessions = state.by_id.values().filter_map(|entry| match &entry.holder {
            Holder::Session(session) => Some(Arc::clone(session)),
            Holder::Place(_) => None,
        });
        sessions.collect()
    }

    pub(crate) fn len(&self) -> usize {
        let state = self.lock();
        state.by_id.len() - state.places
    }

    /// How many sessions are open in which nothing was said.
    pub(crate) fn silent(&self) -> usize {
        self.lock().all.silent()
    }

    /// Notes when a session's client went away, or that it is back.
    pub(crate) fn set_away(&self, id: SessionId, since: Option<Instant>) {
        self.lock().change(id, |standing| standing.away = since);
    }

    pub(crate) fn remove(&self, id: SessionId) {
        self.lock().remove(id);
    }

    /// Whether one more session of this owner would be taken now.
    pub(crate) fn has_room(&self, owner: &Owner, limits: &Limits) -> bool {
        let (state, now) = (self.lock(), clock::now());
        let has_turn = owner
            .bounded
            .is_none_or(|address| state.rates.has_turn(address, limits.sessions_per_second_per_address, now));
        has_turn && !matches!(state.check(owner, true, limits, now), Err((_, None)))
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
