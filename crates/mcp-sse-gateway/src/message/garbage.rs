//! What comes where messages are expected, and is none.

use std::time::Duration;

use tokio::time::Instant;

use crate::pace::Pace;

/// A line, or an event, that is no message: as long as a thousand come in a second, or a MiB, and no more,
/// they may come for ever.
const LINE: Duration = Duration::from_millis(1);
const KIB: Duration = Duration::from_micros(977);
/// Above that, a hundred thousand or 100 MiB; unless a message comes, with which it begins anew.
const FLOOD: Duration = Duration::from_secs(100);

/// Tells when somebody says nothing any more but what is no message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Garbage(Pace);

impl Garbage {
    /// One of so many bytes; whether that is too much.
    pub(crate) fn is_flood(&mut self, now: Instant, bytes: u64) -> bool {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        !self.0.take(now, LINE.max(KIB.saturating_mul(kib)), FLOOD)
    }

    /// A message came.
    pub(crate) fn message(&mut self) {
        self.0 = Pace::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_flood_is_what_is_fast_and_long_and_without_a_message() {
        let now = clock::now();
        let mut garbage = Garbage::default();
        let until = (1..).find(|_| garbage.is_flood(now, 10));
        assert_eq!(until, Some(100_001));
        garbage.message();
        assert!(!garbage.is_flood(now, 10));
        let mut slow = Garbage::default();
        assert!(!(0..1_000_000).any(|n| slow.is_flood(now + n * LINE, 10)));
        let mut long = Garbage::default();
        let until = (1..).find(|_| long.is_flood(now, 1024 * 1024));
        assert!(until.is_some_and(|mebibytes: u32| (95..105).contains(&mebibytes)));
    }
}
