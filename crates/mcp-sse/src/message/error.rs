//! What is wrong with a message, either way.

/// Why some bytes are not a [`Message`](crate::Message). It says at which byte what was expected, and quotes nothing of
/// what came, so it can be logged.
///
/// ```
/// use mcp_sse::Message;
///
/// # let posted = &b"[]"[..];
/// if let Err(error) = Message::parse(posted) {
///     eprintln!("refused: {error}"); // … at byte 0 it needs a brace; batches are not part of this protocol
/// #   assert!(error.to_string().contains("at byte 0 it needs a brace"));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ParseMessageError(#[from] ParseError);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError {
    /// The bytes are not UTF-8.
    #[error("expected a JSON-RPC message in UTF-8, but byte {at} is not UTF-8; encode the message as UTF-8")]
    NotUtf8 {
        /// Where the first wrong byte is; the first byte is 0.
        at: usize,
    },
    /// The text is not one JSON object.
    #[error("expected one JSON-RPC message as a JSON object: at byte {at} it needs {expected}")]
    NotJson {
        /// The byte from which on it is not; the first byte is 0.
        at: usize,
        /// What JSON has there, e.g. `a value`; no part of the message.
        expected: &'static str,
    },
    /// The object is no JSON-RPC 2.0 message: a member is missing, is given twice or has the wrong type.
    #[error("not a JSON-RPC 2.0 message: {reason}")]
    NotJsonRpc {
        /// What is wrong, e.g. `the member "jsonrpc" must be "2.0"`; no part of the message.
        reason: &'static str,
    },
}

/// Why a value could not become part of a [`Message`](crate::Message), from [`Message::result`],
/// [`Message::request`] and [`Message::notification`]. It is the app's own value that is wrong.
///
/// ```
/// use std::collections::HashMap;
///
/// use mcp_sse::{Message, RequestId};
///
/// let id = RequestId::from(7);
/// let points = HashMap::from([((1, 2), "a point")]); // the keys of a JSON object are strings
/// let answer = Message::result(&id, &points)
///     .unwrap_or_else(|error| Message::error(&id, -32603, &format!("the result is lost: {error}")));
/// assert!(answer.as_str().contains("key must be a string"));
/// ```
///
/// [`Message::result`]: crate::Message::result
/// [`Message::request`]: crate::Message::request
/// [`Message::notification`]: crate::Message::notification
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct WriteMessageError(#[from] WriteError);

/// What it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("cannot be written as JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("params must be an object or an array")]
    NotParams,
    #[error("the id is longer than 1024 bytes")]
    LongId,
}
