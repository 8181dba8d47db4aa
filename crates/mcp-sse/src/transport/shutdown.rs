//! The shutdown: no new sessions, then the end of each session.

use std::time::Duration;

use super::{SseServerTransport, keeping};
use crate::{
    clock,
    session::{CloseReason, core::Core, driver::Common},
};

/// The result of a [`shutdown`](SseServerTransport::shutdown): how many sessions ended in which way.
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// // There is one session, without a request in flight.
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
    /// Sessions with requests that got an error instead of an answer: at the deadline, or because the app
    /// ended or the client went away before it.
    pub cut: usize,
}

impl SseServerTransport {
    /// Shuts the transport down: refuses new sessions and new requests with 503, lets the requests in flight
    /// finish, and ends the streams. The ends are spread over
    /// [`Builder::shutdown_spread`](crate::Builder::shutdown_spread), so that clients do not all reconnect at
    /// once. Requests that are still in flight after `deadline` get an error, and their sessions are closed.
    ///
    /// A `deadline` of more than a year is taken as a year. Resolves when all sessions are closed. The
    /// graceful shutdown of an HTTP server waits for its open streams, so run this before it or at the same
    /// time.
    ///
    /// If the future is dropped, new sessions and new requests are still refused.
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
    /// // The app does not answer the client's request in time.
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
        // Only connected clients need the spread: only they would reconnect all at once.
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
            // A session may have closed for another reason meanwhile, a crash of its app for example.
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
        // Sessions that were being opened when the shutdown began.
        for session in registry.all() {
            session.close(CloseReason::Shutdown);
        }
        // So that they can be revived elsewhere.
        keeping::written(&self.inner.common).await;
        tracing::info!(drained = report.drained, cut = report.cut, "shut down");
        report
    }
}
