//! How often children may be started.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::clock;

/// A number of turns a second, as many of them at once.
#[derive(Debug)]
pub(crate) struct Rate {
    step: Duration,
    burst: Duration,
    /// When all turns that were given are used up.
    next: Mutex<Instant>,
}

impl Rate {
    pub(crate) fn new(per_second: u32) -> Self {
        let step = Duration::from_secs(1) / per_second.max(1);
        Self { step, burst: Duration::from_secs(1), next: Mutex::new(clock::now()) }
    }

    /// Waits for a turn; `false` if there is none until the deadline.
    pub(crate) async fn turn(&self, deadline: Instant) -> bool {
        let at = {
            let now = clock::now();
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            // Turns that nobody took come back, as many as make a second.
            let start = (*next).max(now.checked_sub(self.burst).unwrap_or(now));
            let at = start + self.step;
            if at > deadline {
                return false;
            }
            *next = at;
            at
        };
        sleep_until(at).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seconds_turns_come_at_once_and_then_one_a_step() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let rate = Rate::new(10);
        let start = clock::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        let far = clock::now() + Duration::from_secs(3600);
        for _ in 0..10 {
            assert!(rate.turn(far).await);
        }
        assert_eq!(start.elapsed(), Duration::from_secs(60));
        for _ in 0..5 {
            assert!(rate.turn(far).await);
        }
        assert_eq!(start.elapsed(), Duration::from_millis(60_500));
        assert!(!rate.turn(clock::now() + Duration::from_millis(50)).await, "not within the deadline");
    }
}
