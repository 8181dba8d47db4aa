//! The adapter to rmcp (feature `rmcp-3`): a [`Session`] is a `Transport<RoleServer>`.
//!
//! Typed messages are rmcp's; here they are read from and written to bytes. A handler finds the
//! [`http::request::Parts`] of the POST in its context's extensions, as with rmcp's Streamable HTTP.

use std::sync::Arc;

use http::request::Parts;
use rmcp::{
    RoleServer,
    model::{
        CallToolRequest, ClientJsonRpcMessage, ClientNotification, ClientRequest, ClientResult, ErrorData,
        GetExtensions, JsonRpcError, JsonRpcMessage, JsonRpcNotification, JsonRpcRequest, JsonRpcResponse,
        JsonRpcVersion2_0, NumberOrString, ServerJsonRpcMessage, ServerNotification,
    },
    transport::Transport,
};
use serde::Deserialize;

use crate::{
    message::{Message, MessageKind, RequestId, write},
    session::{
        CloseReason, Incoming, SendError, Session,
        driver::{Driver, Sending},
    },
};

const INVALID_PARAMS: i32 = -32602;

/// Give it to rmcp's `serve`. A handler finds the head of the POST that brought the message in its
/// context: `context.extensions.get::<http::request::Parts>()`. A request that rmcp cannot read is answered
/// with a JSON-RPC error (-32602).
///
/// ```
/// # use http_body_util::BodyExt;
/// # use mcp_sse::SseServerTransport;
/// use rmcp::{ServerHandler, ServiceExt};
///
/// struct Counter; // your MCP server
/// impl ServerHandler for Counter {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// let (stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
/// # let post = http::Request::post(uri).header("content-type", "application/json");
/// tokio::spawn(async {
///     if let Ok(server) = Counter.serve(session).await {
///         let _ = server.waiting().await;
///     }
/// });
/// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05",
/// #     "capabilities":{},"clientInfo":{"name":"doc","version":"1"}}}"#;
/// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
/// # let mut stream = stream.into_body();
/// # let mut events = String::new();
/// # while !events.contains("event: message") {
/// #     let chunk = stream.frame().await.unwrap()?.into_data().unwrap();
/// #     events.push_str(std::str::from_utf8(&chunk)?);
/// # }
/// // The client has posted `initialize` and reads its stream.
/// assert!(events.contains(r#""serverInfo""#));
/// # Ok(())
/// # }
/// ```
impl Transport<RoleServer> for Session {
    type Error = SendError;

    fn name() -> std::borrow::Cow<'static, str> {
        "mcp-sse".into()
    }

    /// The message has its place in the order when this returns: rmcp spawns the future, and spawned
    /// futures run in any order.
    fn send(
        &mut self,
        item: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        match write(&item) {
            Ok(message) => self.driver().send(message),
            Err(error) => Sending::Done(Err(error)),
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let Incoming { message, head } = self.recv().await?;
            match read(&message, head.into_parts()) {
                Ok(mut typed) => {
                    if let (JsonRpcMessage::Request(request), Some(id)) = (&mut typed, message.id()) {
                        let working = Working { _until_dropped: self.driver().work_on(id) };
                        request.request.extensions_mut().insert(working);
                    }
                    return Some(typed);
                }
                Err(error) => refuse(self.driver(), &message, &error),
            }
        }
    }

    async fn close(&mut self) -> Result<(), SendError> {
        self.driver().close(CloseReason::AppEnded);
        Ok(())
    }
}

/// Reads the type that the envelope shows, so that what is wrong is said of that type.
/// rmcp does not say when the handler of a cancelled request ends. The handler holds this with the request's
/// other extensions, and drops it at its end.
#[derive(Clone, Debug)]
struct Working {
    _until_dropped: Arc<()>,
}

fn read(message: &Message, parts: Parts) -> Result<ClientJsonRpcMessage, serde_json::Error> {
    fn typed<'a, T: Deserialize<'a>>(message: &'a Message) -> Result<T, serde_json::Error> {
        serde_json::from_str(message.as_str())
    }
    Ok(match message.kind() {
        MessageKind::Request { id, method } => {
            let mut request = match (&**method, number_or_string(id)) {
                // By far the most frequent. Read straight away: the general way buffers the message and
                // tries one type after the other.
                ("tools/call", Some(id)) => match typed::<CallToolRequest>(message) {
                    Ok(call) => JsonRpcRequest { jsonrpc: JsonRpcVersion2_0, id, request: call.into() },
                    Err(_) => typed(message)?,
                },
                _ => typed::<JsonRpcRequest<ClientRequest>>(message)?,
            };
            request.request.extensions_mut().insert(parts);
            JsonRpcMessage::Request(request)
        }
        MessageKind::Notification { .. } => {
            let mut notification: JsonRpcNotification<ClientNotification> = typed(message)?;
            notification.notification.extensions_mut().insert(parts);
            JsonRpcMessage::Notification(notification)
        }
        MessageKind::Response { is_error, .. } => {
            let response = if *is_error {
                typed(message).map(JsonRpcMessage::Error)
            } else {
                typed::<JsonRpcResponse<ClientResult>>(message).map(JsonRpcMessage::Response)
            };
            match (response, message.id().and_then(number_or_string)) {
                (Ok(response), _) => response,
                // The handler that asked must not wait for ever.
                (Err(error), Some(id)) => JsonRpcMessage::Error(JsonRpcError::new(
                    Some(id),
                    ErrorData::internal_error(format!("the client's response cannot be read: {error}"), None),
                )),
                (Err(error), None) => return Err(error),
            }
        }
    })
}

/// A message that rmcp cannot read: a request is answered with an error, anything else is told to the
/// log.
fn refuse(session: &Arc<Driver>, message: &Message, error: &serde_json::Error) {
    // The error's text may quote the message.
    let (line, column) = (error.line(), error.column());
    tracing::warn!(session = %session.id, line, column, "rmcp cannot read a message of the client");
    tracing::trace!(session = %session.id, %error, "why");
    if let MessageKind::Request { id, method } = message.kind() {
        let text = format!("cannot read the request {method}: {error}");
        let answer = Message::error(id, INVALID_PARAMS, &text);
        // It is on its way; nobody has to wait for that.
        drop(session.send(answer));
    }
}

fn write(item: &ServerJsonRpcMessage) -> Result<Message, SendError> {
    let json = write::bytes(|buffer| serde_json::to_writer(buffer, item))
        .map_err(|error| SendError::NotJson(error.to_string()))?;
    let kind = match item {
        JsonRpcMessage::Response(response) => {
            MessageKind::Response { id: Some(request_id(&response.id)), is_error: false }
        }
        JsonRpcMessage::Error(error) => {
            MessageKind::Response { id: error.id.as_ref().map(request_id), is_error: true }
        }
        // They come by the thousand.
        JsonRpcMessage::Notification(JsonRpcNotification {
            notification: ServerNotification::ProgressNotification(_),
            ..
        }) => MessageKind::Notification { method: "notifications/progress".into() },
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => {
            return Message::parse(json).map_err(|error| SendError::NotJson(error.to_string()));
        }
    };
    Ok(Message::from_trusted(json, kind))
}

fn request_id(id: &NumberOrString) -> RequestId {
    match id {
        NumberOrString::Number(number) => RequestId::from(*number),
        NumberOrString::String(text) => RequestId::from(&**text),
    }
}

fn number_or_string(id: &RequestId) -> Option<NumberOrString> {
    match id.as_integer() {
        Some(number) => Some(NumberOrString::Number(number)),
        None => id.as_str().map(|text| NumberOrString::String(text.into())),
    }
}
