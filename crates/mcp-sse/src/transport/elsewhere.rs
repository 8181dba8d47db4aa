//! Requests for sessions of other replicas: how many may be under way.

use std::{
    collections::HashMap,
    fmt,
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
/// How many of them for one address, so that a few clients that send half and stop do not hold all. One body may be
/// larger.
const BYTES_OF_ADDRESS: usize = BYTES / 4;
/// How many bytes of a body are read before there has to be room for more.
pub(super) const PART: usize = 64 * 1024;
/// How many requests are under way to one replica, and to all.
const CALLS_TO_ONE: usize = 256;
const CALLS: usize = 4_096;

/// The other replicas, as a transport sees them.
#[derive(Clone)]
pub(super) struct Elsewhere {
    pub(super) backplane: Arc<dyn Backplane>,
    gate: Arc<Mutex<Gate>>,
}

/// What is under way to other replicas.
#[derive(Debug, Default)]
struct Gate {
    bytes: usize,
    by_address: HashMap<IpAddr, usize>,
    calls: usize,
    by_replica: HashMap<ReplicaId, usize>,
}

impl Elsewhere {
    pub(super) fn new(backplane: Arc<dyn Backplane>) -> Self {
        Self { backplane, gate: Arc::default() }
    }

    /// The other replica that a request names.
    pub(super) fn named(&self, at: Option<&str>) -> Option<ReplicaId> {
        at?.parse().ok().filter(|at| at != self.backplane.id())
    }

    /// Room for a body of a client at this address.
    pub(super) fn room(&self, address: Option<IpAddr>) -> Held {
        Held { gate: Arc::clone(&self.gate), address, bytes: 0 }
    }

    /// A place among the requests that are under way.
    pub(super) fn call(&self, to: &ReplicaId) -> Option<Calling> {
        let mut gate = lock(&self.gate);
        let to_one = gate.by_replica.get(to).copied().unwrap_or_default();
        if gate.calls >= CALLS || to_one >= CALLS_TO_ONE {
            return None;
        }
        gate.calls += 1;
        gate.by_replica.insert(to.clone(), to_one + 1);
        Some(Calling { gate: Arc::clone(&self.gate), to: to.clone() })
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are held. Dropping it gives them back.
pub(super) struct Held {
    gate: Arc<Mutex<Gate>>,
    address: Option<IpAddr>,
    pub(super) bytes: usize,
}

impl Held {
    /// Holds so many more; whether there was room.
    pub(super) fn more(&mut self, bytes: usize) -> bool {
        let mut gate = lock(&self.gate);
        let of_address = self.address.map(|address| gate.by_address.entry(address).or_default());
        let others = of_address.as_ref().map_or(0, |of_address| **of_address - self.bytes);
        // What is alone may take more than its part.
        if others > 0 && others + self.bytes + bytes > BYTES_OF_ADDRESS {
            return false;
        }
        if let Some(of_address) = of_address {
            *of_address += bytes;
        }
        gate.bytes += bytes;
        self.bytes += bytes;
        gate.bytes == self.bytes || gate.bytes <= BYTES
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        gate.bytes -= self.bytes;
        if let Some(address) = self.address
            && let Some(of_address) = gate.by_address.get_mut(&address)
        {
            *of_address -= self.bytes;
            if *of_address == 0 {
                gate.by_address.remove(&address);
            }
        }
    }
}

/// A request that is under way. Dropping it gives its place back.
pub(super) struct Calling {
    gate: Arc<Mutex<Gate>>,
    to: ReplicaId,
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        gate.calls -= 1;
        if let Some(to_one) = gate.by_replica.get_mut(&self.to) {
            *to_one -= 1;
            if *to_one == 0 {
                gate.by_replica.remove(&self.to);
            }
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

    fn gate() -> Arc<Mutex<Gate>> {
        Arc::default()
    }

    fn held(gate: &Arc<Mutex<Gate>>, address: Option<u8>) -> Held {
        let address = address.map(|last| IpAddr::from([192, 0, 2, last]));
        Held { gate: Arc::clone(gate), address, bytes: 0 }
    }

    #[test]
    fn one_address_holds_a_part_of_the_bytes_and_all_together_no_more_than_there_are() {
        let gate = gate();
        let mut first = held(&gate, Some(1));
        assert!(first.more(BYTES_OF_ADDRESS));
        assert!(!held(&gate, Some(1)).more(1), "its part is taken");
        // One body that is larger than that passes.
        assert!(first.more(BYTES_OF_ADDRESS));
        let mut second = held(&gate, Some(2));
        assert!(second.more(BYTES_OF_ADDRESS));
        let mut local = held(&gate, None);
        assert!(local.more(BYTES_OF_ADDRESS));
        assert!(!held(&gate, Some(3)).more(1), "all are taken");
        drop(first);
        assert!(held(&gate, Some(1)).more(1));
        drop((second, local));
        let gate = lock(&gate);
        assert_eq!((gate.bytes, gate.by_address.len()), (0, 0));
    }
}
