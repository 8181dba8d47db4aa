//! The client's side: a session over SSE, one over Streamable HTTP, or the client on our own stdio. Each is split
//! into two halves, so that neither direction waits for the other.

pub(crate) mod http;
pub(crate) mod modern;
pub(crate) mod sse;
pub(crate) mod stdio;

use ::http::request::Parts;
use mcp_sse::{Incoming, Message};

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Yields the client's messages, in order.
pub(crate) trait Receive: Send {
    /// The next message; `None` when there are no more, also when asked again. Cancel safe.
    fn recv(&mut self) -> impl Future<Output = Option<Incoming>> + Send;

    /// Whether none was taken that was not passed on yet.
    fn is_clear(&self) -> bool {
        true
    }
}

/// Sends the server's messages to the client, in order.
pub(crate) trait Reply: Send + Sync {
    /// Waits while the client has no room for more.
    fn send(&self, message: Message) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Answers every pending request with an error of this text, and ends the session.
    fn fail(&self, text: &str) -> impl Future<Output = ()> + Send;

    /// Resolves when all requests are answered, for a client that has closed its side but still reads. Resolves at once
    /// where a client that leaves no longer reads.
    fn idle(&self) -> impl Future<Output = ()> + Send;

    /// Keeps what another replica needs to revive the session, where that can be.
    fn keep(&self, state: String) {
        let _ = state;
    }

    /// What the session was revived with, and the head of the request for that, if it was at another replica before.
    fn revived(&self) -> Option<(&str, &Parts)> {
        None
    }

    /// Resolves when the client is gone.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}
