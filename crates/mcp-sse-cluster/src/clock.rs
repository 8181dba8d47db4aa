//! The one place that reads the clock. It is tokio's, so that `tokio::time::pause` applies.

use tokio::time::Instant;

#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
