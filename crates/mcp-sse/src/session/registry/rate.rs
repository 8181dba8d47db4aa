//! How many sessions an address may open per second.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// The size of a burst, as the time in which an address gets that many turns back.
const BURST: Duration = Duration::from_secs(5);
/// How many addresses are remembered. An entry can be dropped once its address has all of its turns back,
/// which takes no longer than [`BURST`].
const ADDRESSES: usize = 16 * 1024;
const CLEAN_EVERY: Duration = Duration::from_secs(1);

/// The turns of each address: a turn lets it open one session.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When an address will have all of its turns back.
    whole: HashMap<IpAddr, Instant>,
    cleaned: Option<Instant>,
}

impl Rates {
    /// Takes a turn; `false` if the address has none.
    pub(super) fn turn(&mut self, address: IpAddr, per_second: u32, now: Instant) -> bool {
        let Some(whole) = self.next(address, per_second, now) else { return false };
        if self.whole.len() >= ADDRESSES && !self.whole.contains_key(&address) {
            self.clean(now);
            // The table is full of addresses that opened sessions in the last seconds. Another one passes
            // without an entry; those that have one stay limited.
            if self.whole.len() >= ADDRESSES {
                return true;
            }
        }
        self.whole.insert(address, whole);
        true
    }

    /// Whether the address has a turn.
    pub(super) fn has_turn(&self, address: IpAddr, per_second: u32, now: Instant) -> bool {
        self.next(address, per_second, now).is_some()
    }

    fn next(&self, address: IpAddr, per_second: u32, now: Instant) -> Option<Instant> {
        let step = Duration::from_secs(1) / per_second.max(1);
        let whole = self.whole.get(&address).map_or(now, |whole| (*whole).max(now)) + step;
        (whole <= now + BURST).then_some(whole)
    }

    fn clean(&mut self, now: Instant) {
        if self.cleaned.is_some_and(|at| now.saturating_duration_since(at) < CLEAN_EVERY) {
            return;
        }
        self.cleaned = Some(now);
        self.whole.retain(|_, whole| *whole > now);
        self.whole.shrink_to(ADDRESSES / 8);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some instant")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn five_seconds_turns_come_at_once_and_then_one_a_step() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for _ in 0..50 {
            assert!(rates.turn(ONE, 10, now));
        }
        assert!(!rates.has_turn(ONE, 10, now) && !rates.turn(ONE, 10, now));
        assert!(rates.turn(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 10, now), "another address");
        let later = now + Duration::from_millis(100);
        assert!(rates.turn(ONE, 10, later) && !rates.turn(ONE, 10, later));
    }

    #[test]
    fn the_table_is_bounded_and_a_known_address_stays_so() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for _ in 0..5 {
            assert!(rates.turn(ONE, 1, now));
        }
        for address in 0..2 * ADDRESSES as u32 {
            assert!(rates.turn(IpAddr::V4(address.into()), 1, now));
        }
        assert_eq!(rates.whole.len(), ADDRESSES);
        assert!(!rates.turn(ONE, 1, now));
        let later = now + BURST;
        assert!(rates.turn(IpAddr::V4(u32::MAX.into()), 1, later));
        assert_eq!(rates.whole.len(), 1, "what is whole again is forgotten");
    }

    #[test]
    fn a_rate_without_end_is_no_bound() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        assert!((0..1_000).all(|_| rates.turn(ONE, u32::MAX, now)));
    }
}
