//! When keys are fetched, and how long they count: a state machine that takes `now`.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two attempts that somebody has asked for, and after one that failed.
pub(crate) const COOLDOWN: Duration = Duration::from_secs(10);
/// How old keys become before they are fetched again.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// How long keys count that cannot be fetched again.
const STALE: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// When the last attempt began.
    attempted: Option<Instant>,
    /// When the last attempt that succeeded began.
    fetched: Option<Instant>,
    /// Somebody has asked for a key that is not there.
    wanted: bool,
    /// When the last attempt that was made for that began.
    asked: Option<Instant>,
}

impl Schedule {
    /// When the next attempt is due.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        match (self.attempted, self.fetched) {
            (None, _) => now,
            (Some(attempted), fetched) if fetched != Some(attempted) => attempted + COOLDOWN,
            // A new key should not wait because of an attempt that nobody asked for.
            _ if self.wanted => self.asked.map_or(now, |asked| asked + COOLDOWN),
            (Some(attempted), _) => attempted + REFRESH,
        }
    }

    /// Somebody needs a key that is not there.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        self.attempted = Some(now);
        if std::mem::take(&mut self.wanted) {
            self.asked = Some(now);
        }
    }

    /// The attempt that was begun last has succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.fetched = self.attempted;
    }

    /// Until when the keys that are there count.
    pub(crate) fn stale_at(&self) -> Option<Instant> {
        self.fetched.map(|fetched| fetched + STALE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_can_ask_more_often_than_every_ten_seconds() {
        let start = crate::clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        assert_eq!((schedule.next(start), schedule.stale_at()), (start, None));
        schedule.begin(start);
        assert_eq!(schedule.next(at(1)), at(10), "if it fails");
        schedule.succeeded();
        assert_eq!((schedule.next(at(1)), schedule.stale_at()), (at(300), Some(at(3600))));
        schedule.want();
        assert_eq!(schedule.next(at(1)), at(1), "it is the first that was asked for");
        // What is asked for while an attempt goes on may have come too late for it.
        schedule.begin(at(200));
        schedule.want();
        schedule.succeeded();
        assert_eq!(schedule.next(at(201)), at(210));
        schedule.begin(at(210));
        // It fails: what was there counts for the rest of its hour.
        assert_eq!((schedule.next(at(211)), schedule.stale_at()), (at(220), Some(at(3800))));
    }
}
