//! The way down: no new sessions, then the end of each.

use std::time::Duration;

use super::SseServerTransport;
use crate::{
    clock,
    session::{CloseReason, core::Core, driver::Common},
};

/// How a [`shutdown`](SseServerTransport::shutdown) went.
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// // One session, whose app owes no answer.
/// let report = sse.shutdown(Duration::from_secs(5)).await;
/// assert_eq!((report.drained, report.cut), (1, 0));
/// # drop(session);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Sessions that ended with all their requests answered.
    pub drained: usize,
    /// Sessions with requests that were answered with an error: at the deadline, or because their app ended
    /// or their client went away before.
    pub cut: usize,
}

impl SseServerTransport {
    /// Ends the transport: opens no more sessions and takes no new requests (503), lets the requests in
    /// flight finish, and ends the streams, spread over
    /// [`Builder::shutdown_spread`](crate::Builder::shutdown_spread) so that the clients do not all come back
    /// at once. At the deadline, what is left is answered with an error and ended.
    ///
    /// A `deadline` of more than a year is taken as a year. Resolves when all sessions are closed. After that, a
    /// server that waits for its connections to end has no stream left to wait for: run this before, or beside, its
    /// graceful shutdown.
    ///
    /// Cancel safe in that what was begun stays: no new sessions, no new requests.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// # let post = post.body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned())?;
    /// # assert_eq!(sse.post(post).await.status(), 202);
    /// // The client waits for an answer that the app does not give in time.
    /// let report = sse.shutdown(Duration::from_millis(10)).await;
    /// assert_eq!((report.drained, report.cut), (0, 1));
    ///
    /// // From now on, a client gets 503.
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let (response, _) = sse.connect(&get).await;
    /// assert_eq!(response.status(), 503);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let Common { registry, limits, .. } = &*self.inner.common;
        registry.refuse_new();
        let start = clock::now();
        let end = clock::after(start, deadline);
        let sessions = registry.all();
        let spread = limits.shutdown_spread.min(deadline);
        tracing::info!(sessions = sessions.len(), ?deadline, "shutting down");
        // Only who is there can come back all at once.
        let (connected, away): (Vec<_>, Vec<_>) =
            sessions.iter().partition(|session| session.with(|core, _| core.is_attached()));
        for session in away {
            session.with(Core::drain);
        }
        let steps = connected.len().max(1) as u32;
        for (session, step) in connected.into_iter().zip(0..) {
            clock::sleep_until(start + spread * step / steps).await;
            session.with(Core::drain);
        }
        let mut report = ShutdownReport { drained: 0, cut: 0 };
        for session in &sessions {
            if session.close_reason().is_none() {
                tokio::select! {
                    biased;
                    _ = session.closed() => {}
                    () = clock::sleep_until(end) => {}
                }
            }
            // Some may have closed in another way meanwhile: their apps may have crashed.
            let cut = session.with(|core, now| {
                core.close(CloseReason::Shutdown, now);
                core.figures.cut
            });
            if cut == 0 {
                report.drained += 1;
            } else {
                report.cut += 1;
            }
        }
        // A session that was being opened at the start.
        for session in registry.all() {
            session.close(CloseReason::Shutdown);
        }
        tracing::info!(drained = report.drained, cut = report.cut, "shut down");
        report
    }
}
