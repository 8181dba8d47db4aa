//! What stands behind a session: a child process, or a remote server. Each is two halves, a sink for the
//! client's messages and a source of the server's, so that neither direction waits for the other.

pub(crate) mod child;
pub(crate) mod greeting;
pub(crate) mod remote;

use std::time::Duration;

use http::request::Parts;
use mcp_sse::{Incoming, Message};

/// Why a server answers no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For those whose requests are pending, and for the log.
    pub(crate) text: String,
    pub(crate) how: How,
}

/// What kind of an end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It has ended by itself, and says that all is well.
    Ended,
    /// It has died, or cannot be reached any more.
    Failed,
    /// It could not be started or reached.
    NotStarted,
    /// It was not started, as there is no room for it now.
    Busy,
    /// It does not do anything any more.
    Stuck,
    /// Nobody needs it now.
    Idle,
    /// Another one could not take its place.
    Impossible,
    /// It does not speak as it was spoken to, and may be spoken to otherwise.
    OtherEra,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::of(How::Failed, text)
    }

    pub(crate) fn of(how: How, text: impl Into<String>) -> Self {
        Self { text: text.into(), how }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What stands behind a session, and can be started again.
pub(crate) trait Backend: Send {
    type Sink: Sink;
    type Source: Source;
    /// Whether what is said is repeated in headers.
    const OVER_HTTP: bool = false;

    /// Starts it, for a request with this head.
    fn open(
        &mut self,
        head: &Parts,
    ) -> impl Future<Output = Result<(Self::Sink, Self::Source), Failure>> + Send;

    /// The same, to speak the stateless revision to it.
    fn open_modern(
        &mut self,
        head: &Parts,
    ) -> impl Future<Output = Result<(Self::Sink, Self::Source), Failure>> + Send {
        self.open(head)
    }

    /// The client's messages of which it is known that the server, which has ended, has not taken them.
    fn untaken(
        &mut self,
        sink: &mut Self::Sink,
        source: &mut Self::Source,
    ) -> impl Future<Output = Vec<Message>> + Send;

    /// Ends it; how it has ended already, if it has.
    fn close(&mut self, sink: Self::Sink, source: Self::Source, how: How) -> impl Future<Output = ()> + Send;
}

/// Takes the client's messages, in order.
pub(crate) trait Sink: Send {
    /// Once so many bytes of messages are taken from the client, they are sent before more is taken. With 0 each
    /// message is sent alone.
    const AT_ONCE: usize = 0;

    /// Waits while the server takes no more. An error means that nothing can be sent any more; why, the
    /// source will say.
    fn send(&mut self, incoming: Incoming) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The same, for those that wait already.
    fn send_all(&mut self, incoming: Vec<Incoming>) -> impl Future<Output = Result<(), Failure>> + Send {
        async {
            for incoming in incoming {
                self.send(incoming).await?;
            }
            Ok(())
        }
    }
}

/// Gives the server's messages, in order.
pub(crate) trait Source: Send {
    /// The next message, or why there will be none. Cancel safe.
    fn recv(&mut self) -> impl Future<Output = Result<Message, Failure>> + Send;

    /// What is said of a server that has not answered in this time.
    fn silent(&self, time: Duration) -> Failure;

    /// Whether it has answered `initialize` without a session, so that it can say nothing but answers.
    fn is_stateless(&self) -> bool {
        false
    }

    /// It has answered `initialize`, with a result or with an error; or it ended before it did.
    fn greeted(&mut self, _successfully: bool) {}
}
