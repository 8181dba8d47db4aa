//! A rate limiter that allows bursts (GCRA).

use std::time::Duration;

use tokio::time::Instant;

/// What was taken so far, expressed as a time: when all of it will have been given back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    back: Option<Instant>,
}

impl Pace {
    /// Takes an amount that is given back in the time `cost`. Takes nothing and returns `false` if more than `burst`
    /// would then be out. A cost of more than a whole burst passes when nothing is out.
    pub(crate) fn take(&mut self, now: Instant, cost: Duration, burst: Duration) -> bool {
        let out = self.out(now);
        if !out.is_zero() && out.saturating_add(cost) > burst {
            return false;
        }
        self.back = now.checked_add(out.saturating_add(cost));
        true
    }

    /// The time until everything that was taken is given back.
    pub(crate) fn out(&self, now: Instant) -> Duration {
        self.back.map_or(Duration::ZERO, |back| back.saturating_duration_since(now))
    }

    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.out(now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_burst_passes_and_then_as_much_as_is_given_back() {
        let (mut pace, now) = (Pace::default(), clock::now());
        let (cost, burst) = (Duration::from_secs(1), Duration::from_secs(20));
        let passed = |pace: &mut Pace, at| (0..100).filter(|_| pace.take(at, cost, burst)).count();
        assert_eq!(passed(&mut pace, now), 20);
        assert_eq!(passed(&mut pace, now + Duration::from_secs(5)), 5);
        assert!(!pace.is_idle(now + Duration::from_secs(5)));
        assert!(pace.is_idle(now + Duration::from_secs(25)));
        assert_eq!(passed(&mut pace, now + Duration::from_secs(3600)), 20);
        assert!(Pace::default().take(now, Duration::MAX, burst), "alone it passes");
    }
}
