//! Why a session closed, and why a message was not sent.

use std::fmt;

/// Why a session closed.
///
/// ```
/// use mcp_sse::CloseReason;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// let handle = session.handle().clone();
/// drop(session);
/// assert_eq!(handle.closed().await, CloseReason::AppEnded);
/// assert_eq!(CloseReason::AppEnded.to_string(), "app ended");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client disconnected and did not resume within the resume window.
    ClientGone,
    /// The app ended: it returned, panicked, or dropped its [`Session`](crate::Session) or
    /// [`SessionReceiver`](crate::SessionReceiver).
    AppEnded,
    /// The client did not read what waited for it within the stall timeout.
    Stalled,
    /// Another session needed the place, and this one's client was away or had never posted a message.
    Evicted,
    /// [`SessionHandle::close`](crate::SessionHandle::close) was called.
    ClosedByServer,
    /// The transport was shut down or dropped.
    Shutdown,
    /// What its client had shown was revoked (see [`Grant`](crate::Grant)).
    Unauthorized,
    /// What its client had shown has expired, and it has shown nothing newer in time (see
    /// [`Grant::expires`](crate::Grant::expires)).
    Expired,
    /// It goes on at another replica, where it was revived (see [`Builder::revive`](crate::Builder::revive)).
    Moved,
}

impl CloseReason {
    /// The reason as one word, as logs and metrics have it: `client_gone`, `app_ended`, `stalled`, `evicted`,
    /// `closed_by_server`, `shutdown`, `unauthorized`, `expired` or `moved`. `Display` has it as text.
    ///
    /// ```
    /// use mcp_sse::CloseReason;
    ///
    /// assert_eq!(CloseReason::Stalled.as_str(), "stalled");
    /// assert_eq!(CloseReason::Stalled.to_string(), "client did not read");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::AppEnded => "app_ended",
            Self::Stalled => "stalled",
            Self::Evicted => "evicted",
            Self::ClosedByServer => "closed_by_server",
            Self::Shutdown => "shutdown",
            Self::Unauthorized => "unauthorized",
            Self::Expired => "expired",
            Self::Moved => "moved",
        }
    }

    /// The text of the error that the requests in flight get.
    pub(super) fn to_client(self) -> &'static str {
        match self {
            Self::AppEnded => "the server ended before it answered",
            Self::Shutdown => "the server is shutting down and did not answer in time",
            Self::ClosedByServer => "the server closed the session before it answered",
            Self::Unauthorized => "the client is no longer authorized; the session ended before the answer",
            Self::Expired => {
                "the client's authorization has expired and was not renewed; the session ended before the answer"
            }
            Self::ClientGone | Self::Stalled | Self::Evicted | Self::Moved => {
                "the session ended before the answer"
            }
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
            Self::Unauthorized => "no longer authorized",
            Self::Expired => "the client's authorization has expired",
            Self::ClosedByServer => "closed by the server",
            Self::Shutdown => "shutdown",
            Self::Moved => "it goes on at another replica",
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
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// let long = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "m".repeat(100));
/// let error = session.handle().send(Message::parse(long)?).await.unwrap_err();
/// assert_eq!(error, SendError::TooLarge { bytes: 129, limit: 100 });
///
/// session.handle().close();
/// let late = Message::parse(r#"{"jsonrpc":"2.0","method":"m"}"#)?;
/// assert_eq!(session.handle().send(late).await, Err(SendError::Closed(CloseReason::ClosedByServer)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is closed.
    #[error("the session is closed ({0}); nothing can be sent any more")]
    Closed(CloseReason),
    /// The message is larger than
    /// [`Builder::max_outbound_message_bytes`](crate::Builder::max_outbound_message_bytes). If it was a
    /// response, the client got an error instead.
    #[error(
        "a message of {bytes} bytes is over the limit of {limit}; send less, or raise max_outbound_message_bytes"
    )]
    TooLarge {
        /// The size of the message, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The backlog is full (see [`Builder::outbound_backlog`](crate::Builder::outbound_backlog)), or with
    /// [`SessionHandle::try_send`](crate::SessionHandle::try_send), the queue. If the message was a response,
    /// the client got an error instead, except with `try_send`.
    #[error(
        "{messages} messages wait for the client already; send less, or raise outbound_queue and outbound_backlog"
    )]
    Full {
        /// How many messages wait for the client.
        messages: usize,
    },
    /// A typed message could not be serialized to JSON.
    #[error("the message cannot be written as JSON: {0}")]
    NotJson(String),
}
