//! Runs the app of a session.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{driver::Driver, handle::Session};
use crate::clock;

/// Runs the app of a session in a new task, and drops it if it outlives its session by more than the grace.
pub(crate) fn spawn_app<A, F>(driver: Arc<Driver>, app: Arc<A>)
where
    A: Fn(Session) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    // The app's log lines show which session they belong to.
    let span = tracing::info_span!("session", id = %driver.id);
    let runs = driver.app_runs();
    let session = Session::new(Arc::clone(&driver));
    let run = async move {
        // Dropped last, because the app counts as running until then.
        let _runs = runs;
        // Called here, so that a panic in it does not unwind into the POST that started it.
        let app = app(session);
        let overdue = async {
            driver.closed().await;
            let grace = driver.common.limits.app_grace;
            clock::sleep_until(clock::now() + grace).await;
        };
        tokio::select! {
            biased;
            () = app => {}
            () = overdue => tracing::warn!(
                session = %driver.id,
                "the app went on after the end of its session and was dropped; it should end when its input ends"
            ),
        }
    };
    tokio::spawn(run.instrument(span));
}
