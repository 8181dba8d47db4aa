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
    let session = Session::new(Arc::clone(&driver));
    spawn(driver, move || app(session));
}

impl Session {
    /// Lets go of the session until there is something to do: at the client's next message, which may wait already, `app` is run
    /// with it in a new task, like one that was given to [`connect_sse`](crate::SseServerTransport::connect_sse). If the session
    /// closes before, `app` is dropped.
    ///
    /// The app that calls this should return: the memory of its task is what is saved. A session that is parked takes no more
    /// than one whose client has said nothing yet, beside what `app` holds.
    ///
    /// ```
    /// use std::pin::Pin;
    ///
    /// use mcp_sse::Session;
    ///
    /// /// Counts messages, and keeps no task between two.
    /// fn app(mut session: Session, before: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    ///     Box::pin(async move {
    ///         let Some(_message) = session.recv().await else { return };
    ///         session.park(move |session| app(session, before + 1));
    ///     })
    /// }
    /// # let _ = app;
    /// ```
    pub fn park<A, F>(self, app: A)
    where
        A: FnOnce(Session) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let driver = Arc::clone(self.driver());
        let parked = Arc::clone(&driver);
        driver.park(Box::new(move || spawn(parked, move || app(self))));
    }
}

fn spawn<F: Future<Output = ()> + Send + 'static>(
    driver: Arc<Driver>,
    app: impl FnOnce() -> F + Send + 'static,
) {
    // The app's log lines show which session they belong to.
    let span = tracing::info_span!("session", id = %driver.id);
    let runs = driver.app_runs();
    let run = async move {
        // Dropped last, because the app counts as running until then.
        let _runs = runs;
        // Called here, so that a panic in it does not unwind into the POST that started it.
        let app = app();
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
