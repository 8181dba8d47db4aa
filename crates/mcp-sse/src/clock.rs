//! The one place that reads the clock. Everything else takes `now`, so that the session core runs on
//! virtual time in tests. It reads tokio's clock, so that `tokio::time::pause` applies to it too.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time of day, which can be set. Only what another machine has dated is compared with it.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The longest time until a deadline. Adding a longer one to an `Instant` might overflow.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// This long after `now`, a year at most.
pub(crate) fn after(now: Instant, time: Duration) -> Instant {
    now + time.min(FAR)
}

/// Sleeps until `deadline`. Only the driver calls it.
pub(crate) async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

/// Runs a future for at most the time that is `left`, and subtracts from it the time that the future took.
/// `None` if it takes longer. A timer is created only if the future is not ready at once, which is rare where
/// this is used.
pub(crate) async fn within<F: Future>(left: &mut Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let at_once = poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    });
    if let Some(output) = at_once.await {
        return Some(output);
    }
    let start = now();
    let output = tokio::time::timeout(*left, future).await.ok();
    *left = left.saturating_sub(now().saturating_duration_since(start));
    output
}
