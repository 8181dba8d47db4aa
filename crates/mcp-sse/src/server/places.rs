//! How many connections an address has.
//!
//! Invariant: the table has entries only for addresses with an open connection, and the number of these is
//! limited.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{clock, throttle::Throttle};

/// The connections of each address.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    full_lines: Throttle,
}

/// Counts a connection of an address until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    network: IpAddr,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default(), full_lines: Throttle::new() }
    }

    /// Counts a connection of an address; `None`, with a warning, if the address has too many.
    pub(super) fn take(&self, network: IpAddr) -> Option<Place> {
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let connections = open.entry(network).or_default();
            if *connections < self.limit {
                *connections += 1;
                return Some(Place { open: Arc::clone(&self.open), network });
            }
        }
        if let Some(left_out) = self.full_lines.line(clock::now()) {
            let limit = self.limit;
            tracing::warn!(address = %network, limit, left_out, "a connection was closed: too many of one address; if it is a proxy, set trust_forwarded_for or proxy_protocol, else raise max_connections_per_address if this is expected");
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connections) = open.get_mut(&self.network) else { return };
        *connections -= 1;
        if *connections == 0 {
            open.remove(&self.network);
            // After a peak of addresses, the memory is freed.
            if open.capacity() > 64 && open.len() < open.capacity() / 8 {
                let half = open.capacity() / 2;
                open.shrink_to(half);
            }
        }
    }
}
