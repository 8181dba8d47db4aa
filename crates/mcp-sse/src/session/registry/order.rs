//! Which session makes room: groups of sessions that count together, and the order in which they give way,
//! that is, are evicted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::id::SessionId;

/// The kinds of sessions that give way at a cap, in this order; of a kind, the session that has been of it
/// for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its client has never posted a message and has left: nothing is lost.
    SilentAndAway,
    /// Its client is connected but has not posted a message yet. Gives way only after the grace.
    Silent,
    /// Its client has posted a message and is away.
    Away,
}

/// Sessions that count together: all, those of a principal, or those of an address.
#[derive(Debug, Default)]
pub(super) struct Group {
    sessions: usize,
    silent: usize,
    by_kind: [BTreeSet<(Instant, SessionId)>; 3],
}

/// What determines how a session counts in its groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) id: SessionId,
    pub(crate) opened: Instant,
    /// Its client has not posted a message yet.
    pub(crate) silent: bool,
    /// Since when its client is away. For a place of another kind, the time from which on it is considered
    /// away, which may be in the future.
    pub(crate) away: Option<Instant>,
}

impl Standing {
    fn kind(&self) -> Option<(Kind, Instant)> {
        match (self.silent, self.away) {
            (true, Some(since)) => Some((Kind::SilentAndAway, since)),
            (true, None) => Some((Kind::Silent, self.opened)),
            (false, Some(since)) => Some((Kind::Away, since)),
            (false, None) => None,
        }
    }
}

impl Group {
    pub(super) fn add(&mut self, standing: &Standing) {
        self.sessions += 1;
        self.silent += usize::from(standing.silent);
        if let Some((kind, since)) = standing.kind() {
            self.by_kind[kind as usize].insert((since, standing.id));
        }
    }

    pub(super) fn take_out(&mut self, standing: &Standing) {
        self.sessions -= 1;
        self.silent -= usize::from(standing.silent);
        if let Some((kind, since)) = standing.kind() {
            self.by_kind[kind as usize].remove(&(since, standing.id));
        }
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    pub(super) fn silent(&self) -> usize {
        self.silent
    }

    /// How many clients are connected and have not posted a message yet.
    pub(super) fn listening(&self) -> usize {
        self.by_kind[Kind::Silent as usize].len()
    }

    pub(super) fn first(&self, kind: Kind, grace: Duration, now: Instant) -> Option<SessionId> {
        let (since, id) = self.by_kind[kind as usize].first()?;
        let grace = if kind == Kind::Silent { grace } else { Duration::ZERO };
        (*since + grace <= now).then_some(*id)
    }
}
