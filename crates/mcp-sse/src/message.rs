//! One JSON-RPC message: its bytes as they came, and of its content only the envelope (kind, id, method, and
//! where the parameters are).
//!
//! The transport carries bytes. It knows no MCP revision, so it serves all of them.
//!
//! Invariant: the bytes of a [`Message`] are UTF-8 and one JSON-RPC 2.0 message, no batch.

mod envelope;
mod error;
mod id;
mod member;
mod scan;
pub(crate) mod write;

use std::{fmt, io, ops::Range};

use bytes::Bytes;
use serde::Serialize;

use self::{envelope::Envelope, error::WriteError, id::MAX_ID_BYTES, write::Buffer};
pub use self::{
    envelope::MessageKind,
    error::{ParseMessageError, WriteMessageError},
    id::RequestId,
};

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
    params: Params,
    /// It was found to have nothing that an event must not have.
    is_one_line: bool,
}

/// Where the parameters of a message are.
#[derive(Clone)]
enum Params {
    Absent,
    At(Range<usize>),
    /// The message was not read, because it was written here.
    Unread,
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
        let Envelope { kind, params, is_one_line } = envelope::read(&json)?;
        let params = params.map_or(Params::Absent, Params::At);
        Ok(Self { json, kind, params, is_one_line })
    }

    /// A message whose bytes and envelope are known to belong together.
    pub(crate) fn from_trusted(json: Bytes, kind: MessageKind) -> Self {
        debug_assert!(Message::parse(json.clone()).is_ok_and(|parsed| parsed.kind == kind));
        let params = match kind {
            MessageKind::Response { .. } => Params::Absent,
            MessageKind::Request { .. } | MessageKind::Notification { .. } => Params::Unread,
        };
        Self { json, kind, params, is_one_line: false }
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
    /// # Ok::<(), mcp_sse::WriteMessageError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the result cannot be written as JSON, e.g. a map whose keys are no strings.
    pub fn result(id: &RequestId, result: &impl Serialize) -> Result<Self, WriteMessageError> {
        let json = write::bytes(|buffer| {
            put(buffer, format_args!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#));
            write_value(buffer, result)?;
            buffer.put(b"}");
            Ok::<_, WriteMessageError>(())
        })?;
        let kind = MessageKind::Response { id: Some(id.clone()), is_error: false };
        Ok(Self::from_trusted(json, kind))
    }

    /// A request of the app to its client. The client answers with a response that bears the same id; ids are
    /// the app's to choose, and each may be used once in a session.
    ///
    /// `params` must be written as an object or an array; what is written as `null`, such as `&()`, means that
    /// there are none, and the member is left out.
    ///
    /// ```
    /// use mcp_sse::Message;
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// #[serde(rename_all = "camelCase")]
    /// struct Elicit<'a> {
    ///     message: &'a str,
    /// }
    ///
    /// let question = Message::request(1, "elicitation/create", &Elicit { message: "Which city?" })?;
    /// assert_eq!(
    ///     question.as_str(),
    ///     r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"Which city?"}}"#,
    /// );
    ///
    /// let ping = Message::request("ping-1", "ping", &())?;
    /// assert_eq!(ping.as_str(), r#"{"jsonrpc":"2.0","id":"ping-1","method":"ping"}"#);
    /// # Ok::<(), mcp_sse::WriteMessageError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the parameters cannot be written as JSON or are neither object nor array, or the id takes more than
    /// 1,024 bytes as JSON.
    pub fn request(
        id: impl Into<RequestId>,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Self, WriteMessageError> {
        let id = id.into();
        let text = id.to_string();
        if text.len() > MAX_ID_BYTES {
            return Err(WriteError::LongId.into());
        }
        let (json, params) = write_call(Some(&text), method, params)?;
        let kind = MessageKind::Request { id, method: method.into() };
        Ok(Self { params, ..Self::from_trusted(json, kind) })
    }

    /// A notification of the app to its client, which is not answered.
    ///
    /// `params` must be written as an object or an array; what is written as `null`, such as `&()`, means that
    /// there are none, and the member is left out.
    ///
    /// ```
    /// use mcp_sse::Message;
    ///
    /// let params = serde_json::json!({ "progressToken": 1, "progress": 50, "total": 100 });
    /// let progress = Message::notification("notifications/progress", &params)?;
    /// assert!(progress.as_str().starts_with(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"#));
    ///
    /// let changed = Message::notification("notifications/tools/list_changed", &())?;
    /// assert_eq!(changed.as_str(), r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    /// # Ok::<(), mcp_sse::WriteMessageError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the parameters cannot be written as JSON, or are neither object nor array.
    pub fn notification(method: &str, params: &impl Serialize) -> Result<Self, WriteMessageError> {
        let (json, params) = write_call(None, method, params)?;
        let kind = MessageKind::Notification { method: method.into() };
        Ok(Self { params, ..Self::from_trusted(json, kind) })
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
        simdutf8::basic::from_utf8(&self.json).unwrap_or_default()
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

    /// The parameters of a request or a notification, as the JSON text of an object or an array. `None` if it has
    /// none (or `null`), and for a response.
    ///
    /// The text was checked to be JSON when the message was read, and is not decoded: an app reads it with the
    /// types it has.
    ///
    /// ```
    /// use mcp_sse::Message;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Call<'a> {
    ///     name: &'a str,
    /// }
    ///
    /// let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;
    /// let message = Message::parse(json)?;
    /// let call: Call<'_> = serde_json::from_str(message.params().unwrap_or("{}"))?;
    /// assert_eq!(call.name, "echo");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn params(&self) -> Option<&str> {
        simdutf8::basic::from_utf8(self.params_json()?).ok()
    }

    fn params_json(&self) -> Option<&[u8]> {
        let range = match &self.params {
            Params::Absent => return None,
            Params::At(range) => range.clone(),
            Params::Unread => envelope::read(&self.json).ok()?.params?,
        };
        self.json.get(range)
    }

    /// One value of the parameters, as JSON text, by the names of the members that lead to it. `None` if it is
    /// not there, or if a name on the way is given twice, which readers of JSON understand differently.
    ///
    /// What is beside it is not decoded. For one value of a large message this is several times as fast as
    /// reading all of it with types.
    ///
    /// ```
    /// use mcp_sse::Message;
    ///
    /// // Which tool a call is for, to pass it on to the server that has it.
    /// let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"…"}}}"#;
    /// let call = Message::parse(json)?;
    /// let tool: Option<String> = call.param(&["name"]).and_then(|name| serde_json::from_str(name).ok());
    /// assert_eq!(tool.as_deref(), Some("echo"));
    /// assert_eq!(call.param(&["arguments", "text"]), Some(r#""…""#));
    /// # Ok::<(), mcp_sse::ParseMessageError>(())
    /// ```
    pub fn param(&self, path: &[&str]) -> Option<&str> {
        let params = self.params_json()?;
        simdutf8::basic::from_utf8(params.get(member::find(params, path)?)?).ok()
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
        if self.method() != Some("notifications/cancelled") {
            return None;
        }
        RequestId::read(self.param(&["requestId"])?).ok()
    }

    /// Whether it carries its protocol version in `_meta`, as the stateless revisions (2026-07-28 on) do.
    pub(crate) fn names_its_protocol_version(&self) -> bool {
        self.param(&["_meta", "io.modelcontextprotocol/protocolVersion"])
            .is_some_and(|version| version.starts_with('"'))
    }

    /// Whether it is known to have nothing that the data of an event must not have: line ends, and the characters
    /// that some clients take for such.
    pub(crate) fn is_one_line(&self) -> bool {
        self.is_one_line
    }
}

/// A request or a notification, and where its parameters are.
fn write_call(
    id: Option<&str>,
    method: &str,
    params: &impl Serialize,
) -> Result<(Bytes, Params), WriteMessageError> {
    let mut range = Params::Absent;
    let json = write::bytes(|buffer| {
        buffer.put(br#"{"jsonrpc":"2.0","#);
        if let Some(id) = id {
            put(buffer, format_args!(r#""id":{id},"#));
        }
        buffer.put(br#""method":"#);
        write_value(buffer, method)?;
        let end = buffer.bytes().len();
        buffer.put(br#","params":"#);
        let start = buffer.bytes().len();
        write_value(buffer, params)?;
        match buffer.bytes().get(start..) {
            Some(b"null") => buffer.truncate(end),
            Some([b'{' | b'[', ..]) => range = Params::At(start..buffer.bytes().len()),
            _ => return Err(WriteError::NotParams.into()),
        }
        buffer.put(b"}");
        Ok::<_, WriteMessageError>(())
    })?;
    Ok((json, range))
}

fn write_value(buffer: &mut Buffer, value: &(impl Serialize + ?Sized)) -> Result<(), WriteError> {
    serde_json::to_writer(buffer, value).map_err(WriteError::NotJson)
}

fn put(buffer: &mut Buffer, text: fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = io::Write::write_fmt(buffer, text);
}

/// Shows the envelope, not the content.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("kind", &self.kind).field("bytes", &self.json.len()).finish()
    }
}

#[cfg(test)]
mod tests;
