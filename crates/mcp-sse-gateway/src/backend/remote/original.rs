//! Carries messages through rmcp's types as their original bytes, so that rmcp rewrites nothing.
//!
//! A client's message becomes an envelope for rmcp. The bytes are attached as an extension (requests and
//! notifications) or stored inside (responses, which have no extensions). A server's message is wrapped in an
//! envelope before rmcp parses it, so all of its content is preserved; nothing that a server sends can be mistaken
//! for such an envelope.

use bytes::Bytes;
use http::HeaderMap;
use mcp_sse::{Message, MessageKind};
use rmcp::model::{
    ClientJsonRpcMessage, ClientResult, CustomResult, GetExtensions as _, JsonRpcMessage, JsonRpcResponse,
    JsonRpcVersion2_0, ServerJsonRpcMessage, ServerNotification, ServerRequest, ServerResult,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::message::slim::slim;

/// The method of envelopes, and the mark of those without a method.
const METHOD: &str = "mcp-sse/original";
/// The parameter that holds the original.
const PARAMETER: &str = "original";

/// Attached to a client's message: its bytes, and the headers to send with them.
#[derive(Clone)]
pub(super) struct Original {
    bytes: Bytes,
    pub(super) headers: HeaderMap,
}

/// Wraps a client's message for rmcp.
pub(super) fn enclose(
    message: &Message,
    headers: HeaderMap,
) -> Result<ClientJsonRpcMessage, serde_json::Error> {
    let bytes = message.clone().into_bytes();
    let mut typed = match message.kind() {
        MessageKind::Response { id, .. } => {
            let id = id.as_ref().map_or_else(|| "0".to_owned(), ToString::to_string);
            let id = serde_json::from_str(&id)?;
            let result = ClientResult::CustomResult(CustomResult::new(message.as_str().into()));
            return Ok(JsonRpcMessage::Response(JsonRpcResponse { jsonrpc: JsonRpcVersion2_0, id, result }));
        }
        // Whole, because rmcp keeps it and reopens the session with it.
        MessageKind::Request { method, .. } if &**method == "initialize" => serde_json::from_slice(&bytes)
            .or_else(|_| serde_json::from_slice::<ClientJsonRpcMessage>(&slim(message)))?,
        _ => serde_json::from_slice(&slim(message))?,
    };
    let original = Original { bytes, headers };
    match &mut typed {
        ClientJsonRpcMessage::Request(request) => drop(request.request.extensions_mut().insert(original)),
        ClientJsonRpcMessage::Notification(note) => drop(note.notification.extensions_mut().insert(original)),
        ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => {}
    }
    Ok(typed)
}

/// What is attached to a client's message; `None` for rmcp's own messages.
pub(super) fn beside(message: &ClientJsonRpcMessage) -> Option<&Original> {
    match message {
        ClientJsonRpcMessage::Request(request) => request.request.extensions().get(),
        ClientJsonRpcMessage::Notification(note) => note.notification.extensions().get(),
        ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => None,
    }
}

/// The bytes to post.
pub(super) fn bytes(message: &ClientJsonRpcMessage) -> Result<Bytes, serde_json::Error> {
    if let Some(original) = beside(message) {
        return Ok(original.bytes.clone());
    }
    if let ClientJsonRpcMessage::Response(response) = message
        && let ClientResult::CustomResult(CustomResult(Value::String(original))) = &response.result
    {
        return Ok(Bytes::copy_from_slice(original.as_bytes()));
    }
    serde_json::to_vec(message).map(Bytes::from)
}

/// Wraps a server's message in an envelope for rmcp; `None` if it is not a message. With `initialize`, it may be the
/// answer to `initialize`, in which rmcp looks for the revision.
pub(super) fn wrap(text: &str, initialize: bool) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        result: Initialized,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Initialized {
        protocol_version: String,
    }

    let message = Message::parse(text.to_owned()).ok()?;
    let text = Value::from(text);
    let json = match message.kind() {
        MessageKind::Request { id, .. } => {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{METHOD}","params":{{"{PARAMETER}":{text}}}}}"#)
        }
        MessageKind::Notification { .. } => {
            format!(r#"{{"jsonrpc":"2.0","method":"{METHOD}","params":{{"{PARAMETER}":{text}}}}}"#)
        }
        MessageKind::Response { id: Some(id), is_error: false } => {
            let version = initialize
                .then(|| serde_json::from_str::<Answer>(message.as_str()).ok())
                .flatten()
                .map(|answer| answer.result.protocol_version);
            let result = match version {
                None => text,
                Some(version) => json!({
                    "protocolVersion": version,
                    "capabilities": {},
                    "serverInfo": { "name": METHOD, "version": "" },
                    "instructions": text,
                }),
            };
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
        }
        MessageKind::Response { id, .. } => {
            let id = id.as_ref().map_or_else(|| "null".to_owned(), ToString::to_string);
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":0,"message":{text},"data":"{METHOD}"}}}}"#
            )
        }
    };
    Some(json)
}

/// Unwraps a server's message; a message of rmcp's own is serialized.
pub(super) fn unwrap(message: &ServerJsonRpcMessage) -> Option<Message> {
    let original = match message {
        ServerJsonRpcMessage::Request(request) => match &request.request {
            ServerRequest::CustomRequest(custom) if custom.method == METHOD => custom.params.as_ref(),
            _ => None,
        }
        .and_then(|params| params.get(PARAMETER)?.as_str()),
        ServerJsonRpcMessage::Notification(note) => match &note.notification {
            ServerNotification::CustomNotification(custom) if custom.method == METHOD => {
                custom.params.as_ref()
            }
            _ => None,
        }
        .and_then(|params| params.get(PARAMETER)?.as_str()),
        ServerJsonRpcMessage::Response(response) => match &response.result {
            ServerResult::CustomResult(CustomResult(Value::String(original))) => Some(original.as_str()),
            ServerResult::InitializeResult(result) => result.instructions.as_deref(),
            _ => None,
        },
        ServerJsonRpcMessage::Error(error) => {
            let ours = error.error.data.as_ref().and_then(Value::as_str) == Some(METHOD);
            ours.then_some(&*error.error.message)
        }
    };
    match original {
        Some(original) => Message::parse(original.to_owned()).ok(),
        None => serde_json::to_vec(message).ok().and_then(|json| Message::parse(json).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_a_clients_message_keeps_its_bytes() {
        for json in [
            r#"{"jsonrpc": "2.0", "id": 1, "method": "own/method"}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","own":[1.0,1e5]},"own":null}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"own":{"a":1}},"clientInfo":{"name":"t","version":"0","own":1}}}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{"own":1}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"own":2}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{"roots":[{"uri":"file:///","own":1}],"own":{}}}"#,
            r#"{"jsonrpc":"2.0","id":"b","error":{"code":-1,"message":"m","data":[],"own":1}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}"#,
        ] {
            let enclosed = enclose(&Message::parse(json).unwrap(), HeaderMap::new()).unwrap();
            // rmcp clones what it posts.
            assert_eq!(bytes(&enclosed.clone()).unwrap(), json);
        }
    }

    #[test]
    fn every_kind_of_a_servers_message_comes_through_as_it_is() {
        for json in [
            r#"{"jsonrpc":"2.0", "id":1,"result":{"tools":[{"name":"a","inputSchema":7,"own":1}]}}"#,
            r#"{"jsonrpc":"2.0","id":"a","result":{"protocolVersion":"2025-06-18","own":1,"capabilities":{"own":{}},"serverInfo":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":"text"}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":{"own":1},"own":2}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{"own":true}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"own":true}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"mcp-sse/original","params":{"original":"{}"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":0,"message":"{}","data":"mcp-sse/original"}}"#,
        ] {
            for initialize in [false, true] {
                let wrapped = wrap(json, initialize).unwrap();
                let typed: ServerJsonRpcMessage = serde_json::from_str(&wrapped).unwrap();
                assert_eq!(unwrap(&typed).unwrap().as_str(), json, "{wrapped}");
                if let ServerJsonRpcMessage::Response(response) = typed {
                    let seen = matches!(response.result, ServerResult::InitializeResult(_));
                    assert_eq!(seen, initialize && json.contains("protocolVersion"));
                }
            }
        }
        assert!(wrap("[]", false).is_none());
    }
}
