//! The one place that reads the clock.

use tokio::time::Instant;

/// Now, on the runtime's clock: tests can pause it.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for what is read by people.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn wall() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
