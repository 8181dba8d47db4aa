//! Who makes room: sessions that count together, and the order in which they give way.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::id::SessionId;

/// Sessions that give way at a cap, the first kind before the second, and so on; of a kind, the one that
/// has been so for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its client has said nothing and left: nothing is lost.
    SilentAndAway,
    /// Its client is there and has said nothing yet. Gives way only after the grace.
    Silent,
    /// Its client has said something and is away.
    Away,
}

/// Sessions that count together: all, those of a principal, those of an address.
#[derive(Debug, Default)]
pub(super) struct Group {
    sessions: usize,
    silent: usize,
    by_kind: [BTreeSet<(Instant, SessionId)>; 3],
}

/// What a session is to its groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) id: SessionId,
    pub(crate) opened: Instant,
    /// Its client has said nothing yet.
    pub(crate) silent: bool,
    /// Since when its client is away; a place, from when on it counts as that.
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

    /// How many clients are there and have said nothing.
    pub(super) fn listening(&self) -> usize {
        self.by_kind[Kind::Silent as usize].len()
    }

    pub(super) fn first(&self, kind: Kind, grace: Duration, now: Instant) -> Option<SessionId> {
        let (since, id) = self.by_kind[kind as usize].first()?;
        let grace = if kind == Kind::Silent { grace } else { Duration::ZERO };
        (*since + grace <= now).then_some(*id)
    }
}
