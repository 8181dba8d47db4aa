//! Requests for sessions of other replicas: how many may be under way.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{backplane::Backplane, replica::ReplicaId};

/// The service that answers requests for sessions.
pub(super) const SESSIONS: &str = "sse";
/// The one that sends a message to all sessions of a replica.
pub(super) const ALL: &str = "sse-all";

/// How many bytes of bodies are held for other replicas.
const BYTES: usize = 16 * 1024 * 1024;
/// How many of them for one address, and for one session, so that a few clients that send half and stop do not hold all.
/// One body may be larger.
const BYTES_OF_ONE: usize = BYTES / 4;
/// How many bytes of a body are read without room for them, as of any body, and with how many more it goes on then.
pub(super) const PART: usize = 64 * 1024;
/// How many requests are under way to one replica, how many of them for one session and for one address, and how many to all
/// replicas. One that waits at a host waits for up to 5 s.
const CALLS_TO_ONE: usize = 256;
const CALLS_OF_SESSION: usize = 64;
const CALLS_OF_ADDRESS: usize = 128;
const CALLS: usize = 4_096;

/// The other replicas, as a transport sees them.
#[derive(Clone)]
pub(super) struct Elsewhere {
    pub(super) backplane: Arc<dyn Backplane>,
    gate: Arc<Mutex<Gate>>,
    hasher: RandomState,
}

/// What is under way to other replicas.
#[derive(Debug, Default)]
struct Gate {
    bytes: usize,
    bytes_by: HashMap<Of, usize>,
    calls: usize,
    calls_by: HashMap<Of, usize>,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Replica(ReplicaId),
    Address(IpAddr),
    /// By what the client says, so that it may be any text.
    Session(u64),
}

impl Elsewhere {
    pub(super) fn new(backplane: Arc<dyn Backplane>) -> Self {
        Self { backplane, gate: Arc::default(), hasher: RandomState::new() }
    }

    /// The other replica that a request names.
    pub(super) fn named(&self, at: Option<&str>) -> Option<ReplicaId> {
        at?.parse().ok().filter(|at| at != self.backplane.id())
    }

    /// What a request of this client counts with.
    pub(super) fn of(&self, address: Option<IpAddr>, session: &[u8]) -> Vec<Of> {
        let session = Of::Session(self.hasher.hash_one(session));
        address.map(Of::Address).into_iter().chain([session]).collect()
    }

    /// Room for a body.
    pub(super) fn room(&self, of: Vec<Of>) -> Held {
        Held { gate: Arc::clone(&self.gate), of, bytes: 0 }
    }

    /// A place among the requests that are under way.
    pub(super) fn call(&self, to: &ReplicaId, of: &[Of]) -> Option<Calling> {
        let mut gate = lock(&self.gate);
        let all: Vec<Of> = of.iter().cloned().chain([Of::Replica(to.clone())]).collect();
        let is_full = |of: &Of| {
            let most = match of {
                Of::Replica(_) => CALLS_TO_ONE,
                Of::Address(_) => CALLS_OF_ADDRESS,
                Of::Session(_) => CALLS_OF_SESSION,
            };
            gate.calls_by.get(of).is_some_and(|calls| *calls >= most)
        };
        if gate.calls >= CALLS || all.iter().any(is_full) {
            return None;
        }
        gate.calls += 1;
        for of in &all {
            *gate.calls_by.entry(of.clone()).or_default() += 1;
        }
        Some(Calling { gate: Arc::clone(&self.gate), of: all })
    }
}

/// Takes some away of what is counted.
fn less(counts: &mut HashMap<Of, usize>, of: &Of, by: usize) {
    if let Some(count) = counts.get_mut(of) {
        *count -= by;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are held. Dropping it gives them back.
pub(super) struct Held {
    gate: Arc<Mutex<Gate>>,
    of: Vec<Of>,
    bytes: usize,
}

impl Held {
    /// Holds so many more; whether there was room.
    pub(super) fn more(&mut self, bytes: usize) -> bool {
        let mut gate = lock(&self.gate);
        // What is alone may take more than its part.
        let fits = |all: usize, most: usize| all == self.bytes || all + bytes <= most;
        let of_each = |of: &Of| gate.bytes_by.get(of).copied().unwrap_or_default();
        if !fits(gate.bytes, BYTES) || !self.of.iter().all(|of| fits(of_each(of), BYTES_OF_ONE)) {
            return false;
        }
        gate.bytes += bytes;
        for of in &self.of {
            *gate.bytes_by.entry(of.clone()).or_default() += bytes;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        gate.bytes -= self.bytes;
        for of in &self.of {
            less(&mut gate.bytes_by, of, self.bytes);
        }
    }
}

/// A request that is under way. Dropping it gives its place back.
pub(super) struct Calling {
    gate: Arc<Mutex<Gate>>,
    of: Vec<Of>,
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        gate.calls -= 1;
        for of in &self.of {
            less(&mut gate.calls_by, of, 1);
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("id", self.backplane.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(last: u8, session: u64) -> Vec<Of> {
        vec![Of::Address(IpAddr::from([192, 0, 2, last])), Of::Session(session)]
    }

    fn held(gate: &Arc<Mutex<Gate>>, of: Vec<Of>) -> Held {
        Held { gate: Arc::clone(gate), of, bytes: 0 }
    }

    #[test]
    fn one_address_and_one_session_hold_a_part_of_the_bytes_and_all_together_no_more_than_there_are() {
        let gate = Arc::default();
        let mut first = held(&gate, of(1, 1));
        assert!(first.more(BYTES_OF_ONE));
        assert!(!held(&gate, of(1, 2)).more(1), "its address has its part");
        assert!(!held(&gate, of(2, 1)).more(1), "its session has its part");
        // One body that is larger than that passes.
        assert!(first.more(BYTES_OF_ONE));
        let mut second = held(&gate, of(2, 2));
        assert!(second.more(BYTES_OF_ONE));
        let mut third = held(&gate, vec![Of::Session(3)]);
        assert!(third.more(BYTES_OF_ONE));
        assert!(!held(&gate, of(4, 4)).more(1), "all are taken");
        drop(first);
        assert!(held(&gate, of(1, 1)).more(1));
        drop((second, third));
        let gate = lock(&gate);
        assert_eq!((gate.bytes, gate.bytes_by.len()), (0, 0));
    }

    #[derive(Debug)]
    struct Nobody(ReplicaId);

    impl Backplane for Nobody {
        fn id(&self) -> &ReplicaId {
            &self.0
        }

        fn replicas(&self) -> Vec<ReplicaId> {
            Vec::new()
        }

        fn bind(&self, _: &'static str, _: std::sync::Weak<dyn crate::Host>) {}

        fn forward(
            &self,
            _: &ReplicaId,
            _: &'static str,
            _: http::Request<bytes::Bytes>,
        ) -> std::pin::Pin<
            Box<dyn Future<Output = Result<http::Response<crate::Body>, crate::NotForwarded>> + Send + '_>,
        > {
            Box::pin(std::future::ready(Err(crate::NotForwarded::Gone)))
        }
    }

    #[test]
    fn one_session_one_address_and_one_replica_have_so_many_calls_under_way_and_no_more() {
        let [me, a, b] = ["me", "a", "b"].map(|name| ReplicaId::new(name).unwrap());
        let elsewhere = Elsewhere::new(Arc::new(Nobody(me)));
        let of = |address: u16, session: u16| {
            let [high, low] = address.to_be_bytes();
            elsewhere.of(Some(IpAddr::from([192, 0, high, low])), &session.to_be_bytes())
        };
        let mut calls = Vec::new();
        let mut fill = |to: &ReplicaId, most: usize, of: &dyn Fn(u16) -> Vec<Of>| {
            let before = calls.len();
            calls.extend((0..5_000).map_while(|nth| elsewhere.call(to, &of(nth))));
            assert_eq!(calls.len() - before, most);
        };
        fill(&a, CALLS_OF_SESSION, &|nth| of(nth, 1));
        fill(&a, CALLS_OF_ADDRESS, &|nth| of(9_999, 10_000 + nth));
        fill(&a, CALLS_TO_ONE - CALLS_OF_SESSION - CALLS_OF_ADDRESS, &|nth| of(nth, 20_000 + nth));
        fill(&b, CALLS_TO_ONE, &|nth| of(nth, 20_000 + nth));
        let others = (2..CALLS / CALLS_TO_ONE).map(|nth| ReplicaId::new(&nth.to_string()).unwrap());
        others.for_each(|to| fill(&to, CALLS_TO_ONE, &|nth| of(20_000 + nth, 30_000 + nth)));
        let last = ReplicaId::new("last").unwrap();
        fill(&last, 0, &|nth| of(nth, nth));
        drop(calls);
        assert!(elsewhere.call(&last, &of(9_999, 1)).is_some());
        let gate = lock(&elsewhere.gate);
        assert_eq!((gate.calls, gate.calls_by.len()), (0, 0), "each has given its place back");
    }
}
