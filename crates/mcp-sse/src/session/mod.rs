//! A session: one client's conversation, a pair of bounded queues that outlives its connections.
//!
//! | room | what lives there |
//! |---|---|
//! | `core` | the state machine, without IO and without a clock |
//! | `gate`, `log`, `handshake` | its parts: bounds, the outbound log, the made-up `initialize` |
//! | `shared` | the driver: the core behind a lock, wakes, timers, the registry, the log line at the end |
//! | `timers` | one table of all deadlines |
//! | `handle` | what users hold |

pub(crate) mod core;
mod gate;
mod handle;
mod handshake;
pub(crate) mod id;
mod log;
#[cfg(test)]
mod model_test;
pub(crate) mod shared;
pub(crate) mod timers;

use std::fmt;

pub(crate) use self::handle::spawn_app;
pub use self::handle::{Session, SessionHandle, SessionInfo, SessionReceiver};
use crate::message::Message;

/// A message from the client, with the head of the request that brought it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The message.
    pub message: Message,
    /// Method, URI, headers and extensions of the POST; a tool can read headers and the principal here.
    pub parts: http::request::Parts,
}

/// Why a session closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client went away and did not resume within the window.
    ClientGone,
    /// The app ended: it returned, panicked, or dropped its [`Session`] or [`SessionReceiver`].
    AppEnded,
    /// The client did not read what waited for it until the deadline.
    Stalled,
    /// The client was away, and a new session needed the place.
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
            Self::Evicted => "evicted while the client was away",
            Self::ClosedByServer => "closed by the server",
            Self::Shutdown => "shutdown",
        })
    }
}

/// Why a message was not sent.
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
    /// A typed message could not be written as JSON.
    #[error("the message cannot be written as JSON: {0}")]
    NotJson(String),
}
