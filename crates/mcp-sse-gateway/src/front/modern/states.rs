//! Requests whose clients have to come back with answers: by the states that they come back with.

use std::{
    collections::HashMap,
    hash::RandomState,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::crypto::ring::default_provider;

use super::owner::{Owner, Whose};
use crate::bridge::modern_client::State;

/// The most of them, of all servers together, and of one owner.
const STATES: usize = 4096;
const STATES_OF_OWNER: usize = 256;

/// All of them, each in a session of this type.
#[derive(Debug)]
pub(crate) struct States<H> {
    all: Mutex<All<H>>,
    /// For prints of requests.
    pub(super) secret: RandomState,
    sessions: AtomicUsize,
}

#[derive(Debug)]
struct All<H> {
    by_state: HashMap<State, Entry<H>>,
    /// How many there are of each.
    by_owner: HashMap<Owner, usize>,
}

/// Where one is, and whose it is.
#[derive(Debug)]
struct Entry<H> {
    server: usize,
    whose: Arc<Whose>,
    print: u64,
    host: Weak<H>,
    call: i64,
}

impl<H> Default for States<H> {
    fn default() -> Self {
        let all = All { by_state: HashMap::new(), by_owner: HashMap::new() };
        Self { all: Mutex::new(all), secret: RandomState::new(), sessions: AtomicUsize::new(0) }
    }
}

impl<H> States<H> {
    fn lock(&self) -> MutexGuard<'_, All<H>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of the id of the next session, by which operators know it.
    pub(super) fn next_id(&self) -> String {
        format!("m{:07x}", self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// A new state for a request; `None` if there are too many.
    pub(super) fn mint(
        &self,
        server: usize,
        whose: &Arc<Whose>,
        print: u64,
        host: &Weak<H>,
        call: i64,
    ) -> Option<State> {
        let mut bytes = [0; 16];
        default_provider().secure_random.fill(&mut bytes).ok()?;
        let state = State::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let mut all = self.lock();
        let of_owner = all.by_owner.get(&whose.owner).copied().unwrap_or_default();
        if all.by_state.len() >= STATES || of_owner >= STATES_OF_OWNER {
            return None;
        }
        all.by_owner.insert(whose.owner.clone(), of_owner + 1);
        let entry = Entry { server, whose: Arc::clone(whose), print, host: host.clone(), call };
        all.by_state.insert(state.clone(), entry);
        Some(state)
    }

    /// Where the request is that is continued with this state; `None` if it is not there, or if it is another's or another
    /// request.
    pub(super) fn find(
        &self,
        state: &State,
        server: usize,
        whose: &Whose,
        print: u64,
    ) -> Option<(Arc<H>, i64)> {
        let all = self.lock();
        let entry = all.by_state.get(state)?;
        let is_it = entry.server == server && *entry.whose == *whose && entry.print == print;
        if is_it { entry.host.upgrade().map(|host| (host, entry.call)) } else { None }
    }

    pub(super) fn has(&self, state: &State) -> bool {
        self.lock().by_state.contains_key(state)
    }

    pub(super) fn free(&self, states: &[State]) {
        if states.is_empty() {
            return;
        }
        let mut all = self.lock();
        for state in states {
            let Some(Entry { whose, .. }) = all.by_state.remove(state) else { continue };
            if let Some(count) = all.by_owner.get_mut(&whose.owner) {
                *count -= 1;
                if *count == 0 {
                    all.by_owner.remove(&whose.owner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_sse::Principal;

    use super::*;

    fn whose(name: &str) -> Arc<Whose> {
        Arc::new(Whose { owner: Owner::Principal(Principal::new(name)), headers: Box::default() })
    }

    #[test]
    fn one_owner_leaves_room_for_others() {
        let (states, host) = (States::<()>::default(), Arc::new(()));
        let (alice, bob) = (whose("alice"), whose("bob"));
        let mint = |whose: &Arc<Whose>| states.mint(1, whose, 7, &Arc::downgrade(&host), 3);
        let all: Vec<State> = std::iter::from_fn(|| mint(&alice)).collect();
        assert_eq!(all.len(), STATES_OF_OWNER);
        let other = mint(&bob).unwrap();
        states.free(&all[..1]);
        states.free(&all[..1]);
        assert!(mint(&alice).is_some() && mint(&alice).is_none());
        assert!(!all.contains(&other));
        states.free(&[other]);
        assert!(!states.lock().by_owner.contains_key(&bob.owner));
    }

    #[test]
    fn a_state_is_found_only_by_the_same_client_for_the_same_request_of_the_same_server() {
        let (states, host) = (States::<()>::default(), Arc::new(()));
        let alice = whose("alice");
        let state = states.mint(1, &alice, 7, &Arc::downgrade(&host), 3).unwrap();
        assert_eq!(states.find(&state, 1, &alice, 7).map(|(_, call)| call), Some(3));
        let headers = Whose { owner: alice.owner.clone(), headers: b"x".as_slice().into() };
        assert!(states.find(&state, 2, &alice, 7).is_none());
        assert!(states.find(&state, 1, &whose("bob"), 7).is_none());
        assert!(states.find(&state, 1, &headers, 7).is_none());
        assert!(states.find(&state, 1, &alice, 8).is_none());
        assert!(states.has(&state) && !states.has(&State::new("0".repeat(32))));
        drop(host);
        assert!(states.find(&state, 1, &alice, 7).is_none(), "its session is over");
    }
}
