//! Counts the sessions and requests over Streamable HTTP, and ends all of them.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The counts for all sessions of the gateway over Streamable HTTP.
#[derive(Debug)]
pub(crate) struct Figures {
    open: watch::Sender<usize>,
    requests: watch::Sender<usize>,
    pub(in crate::front) end: CancellationToken,
}

impl Default for Figures {
    fn default() -> Self {
        Self { open: watch::Sender::new(0), requests: watch::Sender::new(0), end: CancellationToken::new() }
    }
}

impl Figures {
    pub(crate) fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Requests of clients in flight.
    pub(crate) fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Resolves when no request of a client is in flight.
    pub(crate) async fn no_requests(&self) {
        let _ = self.requests.subscribe().wait_for(|requests| *requests == 0).await;
    }

    pub(in crate::front) fn request(&self) {
        self.requests.send_modify(|requests| *requests += 1);
    }

    pub(in crate::front) fn answered(&self, number: usize) {
        self.requests.send_modify(|requests| *requests -= number);
    }

    /// Ends all sessions, once the messages already sent in them are handled.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }

    /// Resolves when no session is open.
    pub(crate) async fn no_sessions(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// One session in the count, until it is dropped.
pub(in crate::front) struct Counted(Arc<Figures>);

impl Counted {
    pub(in crate::front) fn new(figures: Arc<Figures>) -> Self {
        figures.open.send_modify(|open| *open += 1);
        Self(figures)
    }

    /// Whether all sessions are to end.
    pub(in crate::front) fn is_ended(&self) -> bool {
        self.0.end.is_cancelled()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}
