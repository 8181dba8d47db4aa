//! One JSON-RPC message: its bytes as they came, and of its content only the envelope (kind, id, method).
//!
//! The transport carries bytes. It knows no MCP revision, so it serves all of them.
//!
//! Invariant: the bytes of a [`Message`] are UTF-8 and one JSON-RPC 2.0 message, no batch.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The longest id that is accepted, in bytes of its JSON text. Ids are kept while a request is in
/// flight, so they must be bounded; real clients use numbers and UUIDs.
const MAX_ID_BYTES: usize = 1024;

/// One JSON-RPC 2.0 message: a request, a notification or a response.
///
/// ```
/// use mcp_sse::{Message, MessageKind};
///
/// let message = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).unwrap();
/// assert_eq!(message.method(), Some("ping"));
/// assert!(matches!(message.kind(), MessageKind::Request { .. }));
///
/// let error = Message::parse(r#"{"jsonrpc":"2.0"}"#).unwrap_err();
/// assert!(error.to_string().contains("neither"));
/// ```
#[derive(Clone)]
pub struct Message {
    json: Bytes,
    kind: MessageKind,
}

/// What a [`Message`] is, with the parts of its envelope.
///
/// ```
/// use mcp_sse::{Message, MessageKind, RequestId};
///
/// let message = Message::parse(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)?;
/// match message.kind() {
///     MessageKind::Request { id, method } => println!("{id} asks for {method}"),
///     MessageKind::Notification { method } => println!("tells of {method}"),
///     MessageKind::Response { id, is_error } => {
///         assert_eq!((id.as_ref(), *is_error), (Some(&RequestId::from(7)), false));
///     }
/// }
/// # assert!(matches!(message.kind(), MessageKind::Response { .. }));
/// # Ok::<(), mcp_sse::ParseMessageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Wants a response that bears the same id.
    Request {
        /// The id that the response must bear.
        id: RequestId,
        /// The method, e.g. `tools/call`.
        method: Box<str>,
    },
    /// Wants no response.
    Notification {
        /// The method, e.g. `notifications/cancelled`.
        method: Box<str>,
    },
    /// Answers a request, with a result or an error.
    Response {
        /// The id of the request; `None` in an error about a request whose id could not be read.
        id: Option<RequestId>,
        /// Whether it is an error.
        is_error: bool,
    },
}

/// The id of a JSON-RPC request: a string or a number.
///
/// `Display` writes it as JSON (`7`, `"a"`).
///
/// ```
/// use mcp_sse::{Message, RequestId};
///
/// assert_eq!(RequestId::from(7).to_string(), "7");
/// assert_eq!(RequestId::from("7").to_string(), r#""7""#);
/// assert_ne!(RequestId::from(7), RequestId::from("7"));
///
/// // The same number, written otherwise, is the same id.
/// let message = Message::parse(r#"{"jsonrpc":"2.0","id":7.0,"method":"ping"}"#)?;
/// assert_eq!(message.id(), Some(&RequestId::from(7)));
/// # Ok::<(), mcp_sse::ParseMessageError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(IdRepr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum IdRepr {
    Integer(i64),
    /// A number that is no `i64`, as it was written.
    Number(Box<str>),
    String(Box<str>),
}

/// Why some bytes are not a [`Message`].
///
/// ```
/// use mcp_sse::{Message, ParseMessageError};
///
/// let error = |bytes: &'static [u8]| Message::parse(bytes).unwrap_err();
/// assert!(matches!(error(b"{\xff}"), ParseMessageError::NotUtf8 { at: 1 }));
/// assert!(matches!(error(b"[]"), ParseMessageError::NotJson(_)));
/// assert!(matches!(error(br#"{"jsonrpc":"1.0"}"#), ParseMessageError::NotJsonRpc(_)));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMessageError {
    /// The bytes are not UTF-8.
    #[error("expected a JSON-RPC message in UTF-8, but byte {at} is not UTF-8; encode the message as UTF-8")]
    NotUtf8 {
        /// Where the first wrong byte stands.
        at: usize,
    },
    /// The text is not one JSON object, or one of its members has the wrong type.
    #[error("expected one JSON-RPC message as a JSON object; batches are not part of this protocol")]
    NotJson(#[source] Option<serde_json::Error>),
    /// The object is no JSON-RPC 2.0 message.
    #[error("not a JSON-RPC 2.0 message: {0}")]
    NotJsonRpc(&'static str),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// A member that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads one JSON-RPC 2.0 message. The bytes are kept as they are.
    ///
    /// ```
    /// use mcp_sse::Message;
    ///
    /// let json = r#"{ "jsonrpc": "2.0", "method": "notifications/initialized" }"#;
    /// assert_eq!(Message::parse(json)?.as_str(), json); // not rewritten
    ///
    /// assert!(Message::parse("[]").is_err()); // no batches
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ParseMessageError`] says what is wrong: not UTF-8, not one JSON object, a member of the wrong
    /// type or given twice, an id that is neither string nor number (or longer than 1,024 bytes).
    pub fn parse(json: impl Into<Bytes>) -> Result<Self, ParseMessageError> {
        let json = json.into();
        let text =
            std::str::from_utf8(&json).map_err(|e| ParseMessageError::NotUtf8 { at: e.valid_up_to() })?;
        // A derived struct would also read an array as its fields in order.
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            return Err(ParseMessageError::NotJson(None));
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|e| ParseMessageError::NotJson(Some(e)))?;
        let kind = envelope.kind().map_err(ParseMessageError::NotJsonRpc)?;
        Ok(Self { json, kind })
    }

    /// A message whose bytes and envelope are known to belong together.
    pub(crate) fn from_trusted(json: Bytes, kind: MessageKind) -> Self {
        debug_assert!(Message::parse(json.clone()).is_ok_and(|parsed| parsed.kind == kind));
        Self { json, kind }
    }

    /// An error response; `id` is that of the request it answers.
    ///
    /// ```
    /// use mcp_sse::{Message, RequestId};
    ///
    /// let message = Message::error(&RequestId::from(7), -32000, "the backend is gone");
    /// assert_eq!(
    ///     message.as_str(),
    ///     r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"the backend is gone"}}"#,
    /// );
    /// ```
    pub fn error(id: &RequestId, code: i32, text: &str) -> Self {
        let text = serde_json::Value::from(text);
        let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{text}}}}}"#);
        let kind = MessageKind::Response { id: Some(id.clone()), is_error: true };
        Self::from_trusted(json.into(), kind)
    }

    /// A response with a result; `id` is that of the request it answers.
    ///
    /// ```
    /// use mcp_sse::{Message, RequestId};
    ///
    /// let message = Message::result(&RequestId::from(7), &["a", "b"])?;
    /// assert_eq!(message.as_str(), r#"{"jsonrpc":"2.0","id":7,"result":["a","b"]}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// That of serde if the result cannot be written as JSON, e.g. a map whose keys are no strings.
    pub fn result(id: &RequestId, result: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        use std::io::Write as _;
        let mut json = Vec::with_capacity(128);
        // Writing to a vector does not fail.
        let _ = write!(json, r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
        serde_json::to_writer(&mut json, result)?;
        json.push(b'}');
        let kind = MessageKind::Response { id: Some(id.clone()), is_error: false };
        Ok(Self::from_trusted(json.into(), kind))
    }

    /// What it is, with its id and method.
    ///
    /// ```
    /// # use mcp_sse::{Message, MessageKind};
    /// let message = Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
    /// assert!(matches!(message.kind(), MessageKind::Notification { .. }));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn kind(&self) -> &MessageKind {
        &self.kind
    }

    /// The method of a request or notification.
    ///
    /// ```
    /// # use mcp_sse::Message;
    /// let message = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)?;
    /// assert_eq!(message.method(), Some("ping"));
    ///
    /// let response = Message::parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)?;
    /// assert_eq!(response.method(), None);
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            MessageKind::Request { method, .. } | MessageKind::Notification { method } => Some(method),
            MessageKind::Response { .. } => None,
        }
    }

    /// The id of a request or response.
    ///
    /// ```
    /// # use mcp_sse::{Message, RequestId};
    /// let message = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)?;
    /// assert_eq!(message.id(), Some(&RequestId::from(1)));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn id(&self) -> Option<&RequestId> {
        match &self.kind {
            MessageKind::Request { id, .. } => Some(id),
            MessageKind::Response { id, .. } => id.as_ref(),
            MessageKind::Notification { .. } => None,
        }
    }

    /// The message as it came.
    ///
    /// ```
    /// # use mcp_sse::Message;
    /// let message = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)?;
    /// assert!(message.as_bytes().starts_with(b"{\"jsonrpc\""));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// The message as it came, as text.
    ///
    /// ```
    /// # use mcp_sse::Message;
    /// let message = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)?;
    /// assert!(message.as_str().ends_with(r#""method":"ping"}"#));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        // Checked when the message was made; the fallback can not be reached.
        std::str::from_utf8(&self.json).unwrap_or_default()
    }

    /// The bytes, without a copy.
    ///
    /// ```
    /// # use mcp_sse::Message;
    /// let bytes = bytes::Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    /// let message = Message::parse(bytes.clone())?;
    /// assert_eq!(message.into_bytes().as_ptr(), bytes.as_ptr());
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn into_bytes(self) -> Bytes {
        self.json
    }

    /// The id of the request that a `notifications/cancelled` gives up; `None` for every other message.
    ///
    /// ```
    /// # use mcp_sse::{Message, RequestId};
    /// let json = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    /// assert_eq!(Message::parse(json)?.cancelled_id(), Some(RequestId::from(7)));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn cancelled_id(&self) -> Option<RequestId> {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow)]
            params: CancelledParams<'a>,
        }
        #[derive(Deserialize)]
        struct CancelledParams<'a> {
            #[serde(borrow, rename = "requestId")]
            request_id: &'a RawValue,
        }
        if self.method() != Some("notifications/cancelled") {
            return None;
        }
        let cancelled: Cancelled<'_> = serde_json::from_slice(&self.json).ok()?;
        RequestId::read(cancelled.params.request_id).ok()
    }

    /// Whether it carries its protocol version in `_meta`, as the stateless revisions (2026-07-28 on) do.
    pub(crate) fn names_its_protocol_version(&self) -> bool {
        #[derive(Deserialize)]
        struct Versioned<'a> {
            #[serde(borrow)]
            params: VersionedParams<'a>,
        }
        #[derive(Deserialize)]
        struct VersionedParams<'a> {
            #[serde(borrow, rename = "_meta")]
            meta: VersionedMeta<'a>,
        }
        #[derive(Deserialize)]
        struct VersionedMeta<'a> {
            #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
            version: &'a RawValue,
        }
        serde_json::from_slice::<Versioned<'_>>(&self.json)
            .is_ok_and(|message| message.params.meta.version.get().starts_with('"'))
    }
}

impl Envelope<'_> {
    fn kind(self) -> Result<MessageKind, &'static str> {
        if self.jsonrpc != "2.0" {
            return Err(r#"the member "jsonrpc" must be "2.0""#);
        }
        let starts_with =
            |raw: Option<&RawValue>, chars: &[char]| raw.is_none_or(|r| r.get().starts_with(chars));
        match (self.method, self.id, self.result, self.error) {
            (Some(_), _, None, None) if !starts_with(self.params, &['{', '[', 'n']) => {
                Err(r#"the member "params" must be an object or an array"#)
            }
            (Some(method), Some(id), None, None) => {
                Ok(MessageKind::Request { id: RequestId::read(id)?, method: method.into() })
            }
            (Some(method), None, None, None) => Ok(MessageKind::Notification { method: method.into() }),
            (None, Some(id), Some(_), None) => {
                Ok(MessageKind::Response { id: Some(RequestId::read(id)?), is_error: false })
            }
            (None, id, None, Some(error)) => {
                if !error.get().starts_with('{') {
                    return Err(r#"the member "error" must be an object"#);
                }
                let id = id.filter(|id| id.get() != "null").map(RequestId::read).transpose()?;
                Ok(MessageKind::Response { id, is_error: true })
            }
            (None, None, Some(_), None) => Err(r#"a response needs the member "id""#),
            (None, _, None, None) => Err(r#"it has neither "method" nor "result" nor "error""#),
            _ => Err(r#"only one of "method", "result" and "error" may be there"#),
        }
    }
}

impl RequestId {
    #[cfg(feature = "rmcp")]
    pub(crate) fn as_integer(&self) -> Option<i64> {
        if let IdRepr::Integer(number) = self.0 { Some(number) } else { None }
    }

    #[cfg(feature = "rmcp")]
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let IdRepr::String(text) = &self.0 { Some(text) } else { None }
    }

    fn read(raw: &RawValue) -> Result<Self, &'static str> {
        let text = raw.get();
        if text.len() > MAX_ID_BYTES {
            return Err(r#"the member "id" is longer than 1024 bytes"#);
        }
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Box<str>>(text)
                .map(|id| Self(IdRepr::String(id)))
                .map_err(|_| r#"the member "id" is no valid string"#),
            Some(b'-' | b'0'..=b'9') => {
                Ok(Self(integer(text).map_or_else(|| IdRepr::Number(text.into()), IdRepr::Integer)))
            }
            _ => Err(r#"the member "id" must be a string or a number"#),
        }
    }
}

/// The integer that a number is, also where it is written as `1.0` or `1e2`: an app that reads JSON numbers
/// answers these with the integer.
fn integer(text: &str) -> Option<i64> {
    /// Up to here a float is exact.
    const EXACT: f64 = (1_u64 << 53) as f64;
    text.parse().ok().or_else(|| {
        let float = text.parse::<f64>().ok()?;
        (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
    })
}

impl From<i64> for RequestId {
    fn from(id: i64) -> Self {
        Self(IdRepr::Integer(id))
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self(IdRepr::String(id.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            IdRepr::Integer(id) => id.fmt(f),
            IdRepr::Number(text) => f.write_str(text),
            IdRepr::String(text) => serde_json::Value::from(&**text).fmt(f),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows the envelope, not the content.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("kind", &self.kind).field("bytes", &self.json.len()).finish()
    }
}

#[cfg(test)]
mod tests;
