//! Who talks to a server: a session over SSE, one over Streamable HTTP, or the client on our own stdio. Each
//! is two halves, so that neither direction waits for the other.

pub(crate) mod http;
pub(crate) mod sse;
pub(crate) mod stdio;

use mcp_sse::{Incoming, Message};

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Gives the client's messages, in order.
pub(crate) trait Receive: Send {
    /// The next message; `None` when there will be none, however often it is asked. Cancel safe.
    fn recv(&mut self) -> impl Future<Output = Option<Incoming>> + Send;
}

/// Takes the server's messages, in order.
pub(crate) trait Reply: Send + Sync {
    /// Waits while the client takes no more.
    fn send(&self, message: Message) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Answers every request that waits with this text, and ends the session.
    fn fail(&self, text: &str) -> impl Future<Output = ()> + Send;

    /// Resolves when a client that says nothing more has its answers. One whose session has ended wants none.
    fn idle(&self) -> impl Future<Output = ()> + Send;

    /// Resolves when the client is gone.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}
