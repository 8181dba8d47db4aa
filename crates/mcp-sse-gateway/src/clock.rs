//! The one place that reads the clock.

use tokio::time::Instant;

/// Now, on the runtime's clock: tests can pause it.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
