//! The server that requests are for, as far as they need to know.

use std::pin::Pin;

use http::{HeaderName, StatusCode, request::Parts};
use mcp_sse::Message;
use tokio::sync::mpsc;

use super::hosted::{HostReceiver, HostReply};
use crate::bridge::modern_client::Asked;

/// Messages that wait to be written, of those that are passed on.
pub(crate) const CAPACITY: usize = 8;

/// What a server answers that knows no sessions.
pub(crate) struct Passed {
    pub(crate) status: StatusCode,
    /// Whether it answers with a stream.
    pub(crate) streams: bool,
    /// The last one is the answer.
    pub(crate) messages: mpsc::Receiver<Message>,
}

/// Why a session ended, when it has.
type Run = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// The server that requests are for.
pub(crate) trait Server: Send + Sync {
    /// Runs a session with it, of which the beginning of the id is given.
    fn run(&self, id: String, receiver: HostReceiver, reply: HostReply) -> Run;

    /// Passes a request on, if the server is of this era and needs no session; `None` if it is not.
    fn pass<'a>(
        &'a self,
        id: String,
        asked: &'a Asked,
        parts: &'a Parts,
    ) -> Pin<Box<dyn Future<Output = Option<Passed>> + Send + 'a>>;

    /// The headers that tell its clients apart, or that it gets.
    fn headers(&self) -> Vec<HeaderName>;

    /// Tells its definition from those before.
    fn definition(&self) -> usize;

    /// Whether it speaks the modern era; `None` if it has to be asked.
    fn speaks_modern(&self) -> Option<bool>;

    /// It was found out.
    fn found(&self, modern: bool);
}
