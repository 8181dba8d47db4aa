//! Running the app of a session.

use std::sync::Arc;

use tracing::Instrument as _;

use super::Session;
use crate::clock;

/// Opens the app of a session on the current runtime, and ends it if it outlives its session by more
/// than the grace.
pub(crate) fn spawn_app<A, F>(session: Session, app: Arc<A>)
where
    A: Fn(Session) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let handle = session.handle();
    // What the app logs shows whose session it is.
    let span = tracing::info_span!("session", id = %session.id());
    let runs = handle.session.app_runs();
    let run = async move {
        // Dropped last: until then the app is there.
        let _runs = runs;
        // Called here, so that a panic is the app's and not that of the POST that started it.
        let app = app(session);
        let overdue = async {
            handle.closed().await;
            let grace = handle.session.limits.app_grace;
            clock::sleep_until(clock::now() + grace).await;
        };
        tokio::select! {
            biased;
            () = app => {}
            () = overdue => tracing::warn!(
                session = %handle.id(),
                "the app went on after the end of its session and was dropped; it should end when its input ends"
            ),
        }
    };
    tokio::spawn(run.instrument(span));
}
