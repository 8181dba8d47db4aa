//! Which session starts a child next: bounds the children that run at once, and the starts per second.
//!
//! Invariants:
//! - A turn is consumed only when it is due and its waiter takes it. A waiter that gives up has consumed nothing.
//! - Addresses take turns: an address with a thousand waiters delays another address by one turn.
//! - Only the first in line waits for a place and for the next turn; the others wait to become the first.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};

use crate::clock;

/// Maximum number of starts that wait.
const WAITING: usize = 4096;
/// Of them, an address may have this many, or half of all if that is more.
const FEW: usize = 64;
/// Unused turns accumulate, up to those of this much time.
const BURST: Duration = Duration::from_secs(1);

/// Hands out places and turns.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    step: Duration,
    waiting_in_all: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the last turn that was taken is due.
    next: Instant,
    waiting: HashMap<Address, VecDeque<Arc<Waiter>>>,
    /// The addresses that wait; the one in front is the next.
    order: VecDeque<Address>,
    count: usize,
}

/// Starts are queued per address; those without an address share one queue.
type Address = Option<IpAddr>;

#[derive(Debug, Default)]
struct Waiter {
    /// Notified when this waiter may be the first, or was refused.
    look: Notify,
    refused: AtomicBool,
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// All places were taken until the deadline.
    NoPlace,
    /// Too many wait, or the turn did not come before the deadline.
    TooMany,
}

/// A position in the line, until it is dropped.
struct InLine<'a> {
    turns: &'a Turns,
    address: Address,
    waiter: Arc<Waiter>,
}

impl Turns {
    /// `patience` is the longest that a caller of `take` waits.
    pub(crate) fn new(places: Arc<Semaphore>, per_second: u32, patience: Duration) -> Self {
        let step = Duration::from_secs(1) / per_second.max(1);
        // Further ones could not get their turn in time.
        let reached = patience.as_secs_f64() * f64::from(per_second) + f64::from(per_second);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let waiting_in_all = (reached as usize).clamp(1, WAITING);
        let state = State { next: clock::now(), waiting: HashMap::new(), order: VecDeque::new(), count: 0 };
        Self { places, step, waiting_in_all, state: Mutex::new(state) }
    }

    /// Waits for a place and a turn.
    pub(crate) async fn take(
        &self,
        address: Address,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, NoTurn> {
        let line = self.join(address).ok_or(NoTurn::TooMany)?;
        let wait = async {
            line.first().await?;
            let places = Arc::clone(&self.places);
            let place = places.acquire_owned().await.map_err(|_| NoTurn::NoPlace)?;
            // Only the first in line gets here, so nobody else takes a turn meanwhile.
            let due = self.state().due(self.step);
            sleep_until(due).await;
            self.state().next = due;
            Ok(place)
        };
        timeout_at(deadline, wait).await.unwrap_or_else(|_| {
            Err(if self.places.available_permits() == 0 { NoTurn::NoPlace } else { NoTurn::TooMany })
        })
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().count
    }

    fn join(&self, address: Address) -> Option<InLine<'_>> {
        let mut state = self.state();
        let own = state.waiting.get(&address).map_or(0, VecDeque::len);
        if own >= FEW.max(self.waiting_in_all / 2) {
            return None;
        }
        if state.count >= self.waiting_in_all && !state.make_room(own) {
            return None;
        }
        let waiter = Arc::new(Waiter::default());
        if own == 0 {
            state.order.push_back(address);
        }
        state.waiting.entry(address).or_default().push_back(Arc::clone(&waiter));
        state.count += 1;
        Some(InLine { turns: self, address, waiter })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When the next turn is due.
    fn due(&self, step: Duration) -> Instant {
        let now = clock::now();
        self.next.max(now.checked_sub(BURST).unwrap_or(now)) + step
    }

    fn first(&self) -> Option<&Arc<Waiter>> {
        self.waiting.get(self.order.front()?)?.front()
    }

    /// Refuses the last waiter of the address with the most waiters, to make room for an address with `own` waiters;
    /// `false` if no address has at least two more than that.
    fn make_room(&mut self, own: usize) -> bool {
        let longest = self.waiting.iter_mut().max_by_key(|(_, waiters)| waiters.len());
        let Some((_, waiters)) = longest.filter(|(_, waiters)| waiters.len() > own + 1) else { return false };
        if let Some(last) = waiters.pop_back() {
            last.refused.store(true, Ordering::Release);
            last.look.notify_one();
            self.count -= 1;
        }
        true
    }

    /// Removes a waiter, and wakes the one that is now first.
    fn leave(&mut self, address: Address, waiter: &Arc<Waiter>) {
        let Some(waiters) = self.waiting.get_mut(&address) else { return };
        let Some(at) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) else { return };
        waiters.remove(at);
        self.count -= 1;
        let was_first = at == 0 && self.order.front() == Some(&address);
        if waiters.is_empty() {
            self.waiting.remove(&address);
            self.order.retain(|other| *other != address);
        } else if was_first {
            self.order.rotate_left(1);
        }
        if was_first && let Some(first) = self.first() {
            first.look.notify_one();
        }
        if self.waiting.is_empty() {
            // Frees the memory that a burst of waiters took.
            self.waiting = HashMap::new();
            self.order = VecDeque::new();
        }
    }
}

impl InLine<'_> {
    /// Waits until this one is the first in line.
    async fn first(&self) -> Result<(), NoTurn> {
        loop {
            if self.waiter.refused.load(Ordering::Acquire) {
                return Err(NoTurn::TooMany);
            }
            if self.turns.state().first().is_some_and(|first| Arc::ptr_eq(first, &self.waiter)) {
                return Ok(());
            }
            self.waiter.look.notified().await;
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.turns.state().leave(self.address, &self.waiter);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::task::JoinSet;

    use super::*;

    const FAR: Duration = Duration::from_secs(3600);

    fn turns(places: usize, per_second: u32) -> Arc<Turns> {
        Arc::new(Turns::new(Arc::new(Semaphore::new(places)), per_second, FAR))
    }

    fn address(last: u8) -> Address {
        Some(Ipv4Addr::new(192, 0, 2, last).into())
    }

    async fn far() -> Instant {
        tokio::time::advance(Duration::from_secs(60)).await;
        clock::now() + FAR
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_turns_come_at_once_and_then_one_a_step() {
        let turns = turns(100, 10);
        let far = far().await;
        let start = clock::now();
        let mut kept = Vec::new();
        for _ in 0..10 {
            kept.push(turns.take(None, far).await.unwrap());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        kept.push(turns.take(None, far).await.unwrap());
        assert_eq!(start.elapsed(), Duration::from_millis(100));
        let soon = clock::now() + Duration::from_millis(50);
        assert_eq!(turns.take(None, soon).await.unwrap_err(), NoTurn::TooMany);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_gave_up_have_taken_nothing() {
        let turns = turns(10_000, 10);
        let far = far().await;
        let mut waiting = JoinSet::new();
        for _ in 0..3_200 {
            let turns = Arc::clone(&turns);
            waiting.spawn(async move { turns.take(address(1), far).await });
        }
        while turns.state().count < 1_000 {
            tokio::task::yield_now().await;
        }
        waiting.shutdown().await;
        assert_eq!(turns.state().count, 0);
        let start = clock::now();
        drop(turns.take(address(2), far).await.unwrap());
        assert!(start.elapsed() <= Duration::from_millis(100), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_take_turns() {
        let turns = turns(10_000, 10);
        let far = far().await;
        let mut waiting = JoinSet::new();
        for _ in 0..1_000 {
            let turns = Arc::clone(&turns);
            waiting.spawn(async move { turns.take(address(1), far).await.map(|_| ()) });
        }
        while turns.state().count < 900 {
            tokio::task::yield_now().await;
        }
        let start = clock::now();
        drop(turns.take(address(2), far).await.unwrap());
        assert!(start.elapsed() <= Duration::from_millis(300), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_makes_room_for_those_who_wait_less() {
        let turns = Arc::new(Turns::new(Arc::new(Semaphore::new(0)), 1, Duration::from_secs(9)));
        assert_eq!(turns.waiting_in_all, 10);
        let soon = clock::now() + Duration::from_secs(9);
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let turns = Arc::clone(&turns);
            waiting.spawn(async move { turns.take(address(1), soon).await.unwrap_err() });
        }
        while turns.state().count < 10 {
            tokio::task::yield_now().await;
        }
        assert!(turns.join(address(1)).is_none(), "it waits ten times already");
        let other = turns.join(address(2)).expect("it has not waited yet");
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), NoTurn::TooMany);
        drop(other);
        // There is no place for the others.
        while let Some(refused) = waiting.join_next().await {
            assert_eq!(refused.unwrap(), NoTurn::NoPlace);
        }
        assert_eq!(turns.state().count, 0);
    }
}
