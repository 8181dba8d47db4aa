//! A session: one client's conversation, a pair of bounded queues that outlives its connections.
//!
//! | room | what lives there |
//! |---|---|
//! | `core` | the state machine, without IO and without a clock |
//! | `head` | the head of the request that brought a message |
//! | `gate`, `log`, `handshake`, `id` | its parts: bounds, the outbound log, the made-up `initialize`, ids |
//! | `shared` | the driver: the core behind a lock, wakes, timers, the registry, the log line at the end |
//! | `timers` | one table of all deadlines |
//! | `handle`, `sink` | what users hold |
//! | `app` | running the app |

mod app;
pub(crate) mod core;
mod gate;
mod handle;
mod handshake;
pub(crate) mod head;
pub(crate) mod id;
mod log;
#[cfg(test)]
mod model_test;
pub(crate) mod shared;
mod sink;
pub(crate) mod timers;

use std::fmt;

pub(crate) use self::app::spawn_app;
pub use self::handle::{Session, SessionHandle, SessionInfo, SessionReceiver};
use self::head::Head;
use crate::message::Message;

/// A message from the client, with the head of the request that brought it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(mut session)) = sse.connect(&get) else { panic!("refused") };
/// # let uri = format!("http://localhost/messages/?session_id={}", session.id().expose_hex());
/// # let post = http::Request::post(uri).header("content-type", "application/json");
/// # let post = post.header("x-tenant", "seven");
/// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
/// // The client posted a `ping` with the header `x-tenant: seven`.
/// let incoming = session.recv().await.unwrap();
/// assert_eq!(incoming.message.method(), Some("ping"));
/// assert_eq!(incoming.parts().headers["x-tenant"], "seven");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The message.
    pub message: Message,
    pub(crate) head: Head,
}

impl Incoming {
    /// A message as if a POST with this head had brought it: for tests of an app, and for apps that serve
    /// clients of other transports too.
    ///
    /// ```
    /// use mcp_sse::{Incoming, Message};
    ///
    /// let (parts, ()) = http::Request::post("/messages/").header("x-tenant", "seven").body(())?.into_parts();
    /// let incoming = Incoming::new(Message::parse(r#"{"jsonrpc":"2.0","method":"m"}"#)?, parts);
    /// assert_eq!(incoming.parts().headers["x-tenant"], "seven");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(message: Message, parts: http::request::Parts) -> Self {
        Self { message, head: Head::new(parts) }
    }

    /// Method, URI, headers and extensions of the POST; a tool can read headers and the principal here.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(mut session)) = sse.connect(&get) else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
    /// let incoming = session.recv().await.unwrap();
    /// assert_eq!(incoming.parts().method, http::Method::POST);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parts(&self) -> &http::request::Parts {
        self.head.parts()
    }
}

/// Why a session closed.
///
/// ```
/// use mcp_sse::CloseReason;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get) else { panic!("refused") };
/// let handle = session.handle();
/// drop(session);
/// assert_eq!(handle.closed().await, CloseReason::AppEnded);
/// assert_eq!(CloseReason::AppEnded.to_string(), "app ended");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client went away and did not resume within the window.
    ClientGone,
    /// The app ended: it returned, panicked, or dropped its [`Session`] or [`SessionReceiver`].
    AppEnded,
    /// The client did not read what waited for it until the deadline.
    Stalled,
    /// Another session needed the place, and this one's client was away, or had never said anything.
    Evicted,
    /// [`SessionHandle::close`] was called.
    ClosedByServer,
    /// The transport was shut down or dropped.
    Shutdown,
}

impl CloseReason {
    /// What the requests in flight are answered.
    fn to_client(self) -> &'static str {
        match self {
            Self::AppEnded => "the server ended before it answered",
            Self::Shutdown => "the server is shutting down and did not answer in time",
            Self::ClosedByServer => "the server closed the session before it answered",
            Self::ClientGone | Self::Stalled | Self::Evicted => "the session ended before the answer",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientGone => "client gone",
            Self::AppEnded => "app ended",
            Self::Stalled => "client did not read",
            Self::Evicted => "evicted for another session",
            Self::ClosedByServer => "closed by the server",
            Self::Shutdown => "shutdown",
        })
    }
}

/// Why a message was not sent.
///
/// ```
/// use mcp_sse::{CloseReason, Message, SendError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::builder("/messages/").max_outbound_message_bytes(100).build()?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get) else { panic!("refused") };
/// let long = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(100));
/// let error = session.send(Message::parse(long)?).await.unwrap_err();
/// assert_eq!(error, SendError::TooLarge { bytes: 129, limit: 100 });
///
/// session.handle().close();
/// let late = Message::parse(r#"{"jsonrpc":"2.0","method":"m"}"#)?;
/// assert_eq!(session.send(late).await, Err(SendError::Closed(CloseReason::ClosedByServer)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is closed; nothing can be sent any more.
    #[error("the session is closed ({0}); nothing can be sent any more")]
    Closed(CloseReason),
    /// The message is larger than [`Builder::max_outbound_message_bytes`](crate::Builder). If it was a
    /// response, the client got an error in its place.
    #[error(
        "a message of {bytes} bytes is over the limit of {limit}; send less, or raise max_outbound_message_bytes"
    )]
    TooLarge {
        /// The size of the message.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// So much waits for the client already that no more is kept; see
    /// [`Builder::outbound_backlog`](crate::Builder::outbound_backlog). If the message was a response, the
    /// client got an error in its place, unless it was tried with
    /// [`SessionHandle::try_send`](crate::SessionHandle::try_send).
    #[error(
        "{messages} messages wait for the client already; send less, or raise outbound_queue and outbound_backlog"
    )]
    Full {
        /// How many wait.
        messages: usize,
    },
    /// A typed message could not be written as JSON.
    #[error("the message cannot be written as JSON: {0}")]
    NotJson(String),
}
