//! Who requests come from that belong to no session, and what those of one hold together.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::Extensions;
use mcp_sse::{ClientIp, Principal};
use tokio::sync::Semaphore;

use crate::front::http::{Room, Share};

/// Listeners that requests are passed on for, beside others.
const LISTENERS: usize = 64;
/// Sweeps when there are this many, and twice as many as were left the last time.
const MANY: usize = 64;

/// Whose a request is: its principal's, or where it has none, its address's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Principal(Principal),
    Network(IpAddr),
    /// From this machine, by a socket without addresses.
    Here,
}

impl Owner {
    pub(super) fn of(extensions: &Extensions) -> Self {
        match extensions.get::<Principal>() {
            Some(principal) => Self::Principal(principal.clone()),
            None => ClientIp::of(extensions).map_or(Self::Here, |address| Self::Network(address.network())),
        }
    }
}

/// Whose a session is, and with it all that is done in it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    pub(super) owner: Owner,
    /// The headers that tell the server's clients apart, or that it gets.
    pub(super) headers: Box<[u8]>,
}

/// What requests of one owner hold.
#[derive(Debug)]
pub(super) struct Holding {
    /// The memory of their bodies.
    pub(super) share: Share,
    /// The room for those that wait for a server.
    pub(super) room: Room,
    /// Places for those that are passed on.
    pub(super) passing: Arc<Semaphore>,
}

/// What all of them hold, while they do.
#[derive(Debug, Default)]
pub(super) struct Holdings(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    by_owner: HashMap<Owner, Weak<Holding>>,
    left: usize,
}

impl Holdings {
    /// `requests` are passed on at a time, beside as many that listen as there may be.
    pub(super) fn of(&self, owner: &Owner, requests: usize) -> Arc<Holding> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holding) = all.by_owner.get(owner).and_then(Weak::upgrade) {
            return holding;
        }
        if all.by_owner.len() >= MANY.max(2 * all.left) {
            all.by_owner.retain(|_, holding| holding.strong_count() > 0);
            all.left = all.by_owner.len();
        }
        let passing =
            Arc::new(Semaphore::new(requests.saturating_add(LISTENERS).min(Semaphore::MAX_PERMITS)));
        let holding = Arc::new(Holding { share: Share::default(), room: Room::default(), passing });
        all.by_owner.insert(owner.clone(), Arc::downgrade(&holding));
        holding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let holdings = Holdings::default();
        let network = |at: u8| Owner::Network(IpAddr::from([192, 0, 2, at]));
        let kept = holdings.of(&network(0), 1);
        for at in 0..=255 {
            drop(holdings.of(&network(at), 1));
        }
        assert!(Arc::ptr_eq(&kept, &holdings.of(&network(0), 1)));
        assert!(holdings.0.lock().unwrap().by_owner.len() <= MANY + 1);
    }

    #[test]
    fn a_principal_is_the_same_everywhere_and_others_are_told_apart_by_their_networks() {
        let of = |principal: Option<&str>, address: &str| {
            let mut extensions = Extensions::new();
            extensions.insert(ClientIp(address.parse().unwrap()));
            if let Some(principal) = principal {
                extensions.insert(Principal::new(principal));
            }
            Owner::of(&extensions)
        };
        assert_eq!(of(Some("a"), "192.0.2.1"), of(Some("a"), "192.0.2.2"));
        assert_ne!(of(Some("a"), "192.0.2.1"), of(Some("b"), "192.0.2.1"));
        assert_ne!(of(None, "192.0.2.1"), of(None, "192.0.2.2"));
        assert_eq!(of(None, "2001:db8::1"), of(None, "2001:db8::2"));
        assert_ne!(of(Some("a"), "192.0.2.1"), of(None, "192.0.2.1"));
    }
}
