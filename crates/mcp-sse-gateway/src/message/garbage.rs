//! Input that is not a message, where messages are expected.

use std::time::Duration;

use tokio::time::Instant;

use crate::pace::Pace;

/// Lines or events that are not messages are tolerated for ever at up to 1,000 per second.
const LINE: Duration = Duration::from_millis(1);
/// And at up to 1 MiB per second.
const KIB: Duration = Duration::from_micros(977);
/// Above those rates, 100,000 of them or 100 MiB are tolerated. A message resets the count.
const FLOOD: Duration = Duration::from_secs(100);

/// Detects a peer that sends nothing but input that is not a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Garbage(Pace);

impl Garbage {
    /// Counts one that has this many bytes; whether that is too much.
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
