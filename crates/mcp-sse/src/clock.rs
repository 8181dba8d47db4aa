//! The one place that reads the clock. Everything else takes `now`, so that the session core runs on
//! virtual time in tests. Tokio's clock is read, so that `tokio::time::pause` governs it too.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sleeps until `deadline`. Only the driver calls it.
pub(crate) async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}
