//! Who the other replicas are, as far as they are known, and which of them do not answer.

use std::{collections::HashMap, time::Duration};

use mcp_sse::ReplicaId;
use tokio::time::Instant;

/// How often a replica says that it is there.
pub(crate) const ANNOUNCED_EVERY: Duration = Duration::from_secs(2);
/// After how long without a word it is not spoken to unasked.
const SILENT_FOR: Duration = Duration::from_secs(7);
/// After how long without a word one that nobody can reach counts as gone. It may only be cut off, and its sessions wait as
/// long for their clients.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(30);
/// How many are known.
const KNOWN: usize = 256;
/// After so many requests in a row without a reply, one at a time is sent.
const SILENT: u32 = 2;
/// How many silent ones are remembered, and for how long after the last request.
const REMEMBERED: usize = 256;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Others {
    known: HashMap<ReplicaId, Heard>,
    /// Those that have left lately, of which something may still be on its way.
    left: HashMap<ReplicaId, Instant>,
    silent: HashMap<ReplicaId, Silent>,
}

/// When a replica has said first and last that it is there.
#[derive(Debug)]
struct Heard {
    first: Instant,
    last: Instant,
}

#[derive(Debug)]
struct Silent {
    in_a_row: u32,
    is_probed: bool,
    last: Instant,
}

impl Others {
    /// A replica says that it is there, or that it leaves. Returns whether that is news.
    pub(crate) fn announced(&mut self, replica: ReplicaId, leaves: bool, now: Instant) -> bool {
        self.forget(now);
        if leaves {
            self.silent.remove(&replica);
            if self.left.len() < KNOWN {
                self.left.insert(replica.clone(), now);
            }
            return self.known.remove(&replica).is_some();
        }
        if self.left.contains_key(&replica) {
            return false;
        }
        if self.known.len() >= KNOWN && !self.known.contains_key(&replica) {
            return false;
        }
        if let Some(heard) = self.known.get_mut(&replica) {
            heard.last = now;
            return false;
        }
        self.known.insert(replica, Heard { first: now, last: now });
        true
    }

    fn forget(&mut self, now: Instant) {
        self.known.retain(|_, heard| now.saturating_duration_since(heard.last) < GONE_AFTER);
        self.left.retain(|_, last| now.saturating_duration_since(*last) < REMEMBERED_FOR);
    }

    /// Those that are there, in the order of their names.
    pub(crate) fn known(&mut self, now: Instant) -> Vec<ReplicaId> {
        self.forget(now);
        let is_there = |heard: &Heard| now.saturating_duration_since(heard.last) < SILENT_FOR;
        let there = self.known.iter().filter(|(_, heard)| is_there(heard)).map(|(replica, _)| replica);
        let mut there: Vec<_> = there.filter(|replica| !self.is_replaced(replica)).cloned().collect();
        there.sort();
        there
    }

    /// Whether one that nobody can reach may still be there: it has said so lately, and not that it leaves, and no other one
    /// has come since by its name.
    pub(crate) fn may_be_there(&self, replica: &ReplicaId, now: Instant) -> bool {
        let heard = self.known.get(replica);
        heard.is_some_and(|heard| now.saturating_duration_since(heard.last) < GONE_AFTER)
            && !self.is_replaced(replica)
    }

    /// Whether another run of the same replica has come since it was heard last.
    fn is_replaced(&self, replica: &ReplicaId) -> bool {
        let Some(heard) = self.known.get(replica) else { return false };
        self.known.iter().any(|(other, since)| {
            other != replica && other.name() == replica.name() && since.first > heard.last
        })
    }

    /// Whether a request may be sent to it now. If so, [`spoke`](Self::spoke), [`was_silent`](Self::was_silent) or
    /// [`was_not_asked`](Self::was_not_asked) has to follow.
    pub(crate) fn may_be_asked(&mut self, replica: &ReplicaId, now: Instant) -> bool {
        match self.silent.get_mut(replica) {
            Some(silent) if now.saturating_duration_since(silent.last) >= REMEMBERED_FOR => {
                self.silent.remove(replica);
                true
            }
            Some(silent) if silent.in_a_row >= SILENT => !std::mem::replace(&mut silent.is_probed, true),
            _ => true,
        }
    }

    /// It has replied.
    pub(crate) fn spoke(&mut self, replica: &ReplicaId) {
        self.silent.remove(replica);
    }

    /// It has not.
    pub(crate) fn was_silent(&mut self, replica: &ReplicaId, now: Instant) {
        if self.silent.len() >= REMEMBERED && !self.silent.contains_key(replica) {
            self.silent.retain(|_, silent| now.saturating_duration_since(silent.last) < REMEMBERED_FOR);
            if self.silent.len() >= REMEMBERED {
                return;
            }
        }
        let new = Silent { in_a_row: 0, is_probed: false, last: now };
        let silent = self.silent.entry(replica.clone()).or_insert(new);
        silent.in_a_row += 1;
        (silent.is_probed, silent.last) = (false, now);
    }

    /// It was not asked after all.
    pub(crate) fn was_not_asked(&mut self, replica: &ReplicaId) {
        if let Some(silent) = self.silent.get_mut(replica) {
            silent.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn who_says_nothing_for_a_while_is_gone() {
        let (mut others, now) = (Others::default(), clock::now());
        let a = ReplicaId::new("a").unwrap();
        assert!(others.announced(a.clone(), false, now) && !others.announced(a.clone(), false, now));
        assert!(others.may_be_there(&a, now) && !others.may_be_there(&a, now + GONE_AFTER));
        assert_eq!(others.known(now), std::slice::from_ref(&a));
        assert!(others.known(now + SILENT_FOR).is_empty() && others.may_be_there(&a, now + SILENT_FOR));
        assert!(others.announced(a.clone(), true, now) && !others.may_be_there(&a, now));
        assert!(!others.announced(a.clone(), false, now) && !others.may_be_there(&a, now), "it was late");
        for _ in 0..2 * KNOWN {
            others.announced(ReplicaId::new("b").unwrap(), false, now);
        }
        assert_eq!(others.known(now).len(), KNOWN);
        assert!(others.known(now + GONE_AFTER).is_empty());
    }

    #[test]
    fn one_that_has_started_again_is_not_the_one_before_and_two_by_one_name_are_two() {
        let (mut others, now) = (Others::default(), clock::now());
        let [before, after] = [0, 1].map(|_| ReplicaId::new("a").unwrap());
        others.announced(before.clone(), false, now);
        let now = now + Duration::from_secs(1);
        others.announced(after.clone(), false, now);
        assert!(!others.may_be_there(&before, now) && others.may_be_there(&after, now));
        assert_eq!(others.known(now), std::slice::from_ref(&after));
        others.announced(before.clone(), false, now + Duration::from_secs(1));
        assert!(others.may_be_there(&before, now) && others.may_be_there(&after, now));
    }

    #[test]
    fn one_that_is_silent_is_asked_one_thing_at_a_time() {
        let (mut others, now) = (Others::default(), clock::now());
        let a = ReplicaId::new("a").unwrap();
        for _ in 0..SILENT {
            assert!(others.may_be_asked(&a, now) && others.may_be_asked(&a, now));
            others.was_silent(&a, now);
        }
        assert!(others.may_be_asked(&a, now) && !others.may_be_asked(&a, now));
        others.was_silent(&a, now);
        assert!(others.may_be_asked(&a, now) && !others.may_be_asked(&a, now));
        others.was_not_asked(&a);
        assert!(others.may_be_asked(&a, now) && !others.may_be_asked(&a, now));
        others.spoke(&a);
        assert!(others.may_be_asked(&a, now) && others.may_be_asked(&a, now));
        for _ in 0..2 * REMEMBERED {
            others.was_silent(&ReplicaId::new("b").unwrap(), now);
        }
        assert_eq!(others.silent.len(), REMEMBERED);
        let later = now + REMEMBERED_FOR;
        others.was_silent(&a, later);
        assert_eq!(others.silent.len(), 1);
    }
}
