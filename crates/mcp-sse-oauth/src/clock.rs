//! The one place that reads the clocks. Everything else takes `now`.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// What waits are measured with.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, which tokens speak of.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The longest time until a deadline; adding a longer one might overflow.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
