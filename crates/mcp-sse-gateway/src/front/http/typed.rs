//! Converts a server's messages to rmcp's types without losing members: results, requests and notifications become
//! custom ones, whose content rmcp does not interpret. Only those that rmcp reads to find their stream become its
//! typed ones.

use mcp_sse::{Message, MessageKind};
use rmcp::model::{
    CustomNotification, CustomRequest, CustomResult, JsonRpcMessage, JsonRpcNotification, JsonRpcRequest,
    JsonRpcResponse, JsonRpcVersion2_0, RequestId, ServerJsonRpcMessage, ServerNotification, ServerRequest,
    ServerResult,
};
use serde::Deserialize;
use serde_json::Value;

/// The notifications that rmcp routes by their parameters.
const ROUTED: [&str; 2] = ["notifications/progress", "notifications/cancelled"];

#[derive(Deserialize)]
struct Body {
    id: Option<RequestId>,
    params: Option<Value>,
    result: Option<Value>,
}

pub(super) fn typed(message: &Message) -> Result<ServerJsonRpcMessage, serde_json::Error> {
    let whole = || serde_json::from_slice::<ServerJsonRpcMessage>(message.as_bytes());
    let body = || serde_json::from_slice::<Body>(message.as_bytes());
    match message.kind() {
        MessageKind::Response { is_error: true, .. } => whole(),
        MessageKind::Notification { method } if ROUTED.contains(&&**method) => whole(),
        MessageKind::Response { is_error: false, .. } => match body()? {
            Body { id: Some(id), result: Some(result), .. } => {
                Ok(JsonRpcMessage::Response(JsonRpcResponse {
                    jsonrpc: JsonRpcVersion2_0,
                    id,
                    result: ServerResult::CustomResult(CustomResult::new(result)),
                }))
            }
            _ => whole(),
        },
        MessageKind::Notification { method } => {
            let notification = CustomNotification::new(&**method, params(body()?.params));
            let notification = ServerNotification::CustomNotification(notification);
            Ok(JsonRpcMessage::Notification(JsonRpcNotification { jsonrpc: JsonRpcVersion2_0, notification }))
        }
        MessageKind::Request { method, .. } => match body()? {
            Body { id: Some(id), params, .. } => {
                let request =
                    ServerRequest::CustomRequest(CustomRequest::new(&**method, self::params(params)));
                Ok(JsonRpcMessage::Request(JsonRpcRequest { jsonrpc: JsonRpcVersion2_0, id, request }))
            }
            _ => whole(),
        },
    }
}

/// rmcp would write missing parameters as `null`, which is not valid JSON-RPC.
#[allow(clippy::unnecessary_wraps, reason = "the type that rmcp takes")]
fn params(params: Option<Value>) -> Option<Value> {
    Some(params.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_servers_message_is_lost() {
        for json in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","x-own":1}],"_meta":{"a":1},"extra":null}}"#,
            r#"{"jsonrpc":"2.0","id":"a","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"m","data":{"x":[1]}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1,"own":{}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.0}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{"messages":[],"own":true}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"own/method","params":{}}"#,
        ] {
            let message = Message::parse(json).unwrap();
            let written = serde_json::to_value(typed(&message).unwrap()).unwrap();
            assert_eq!(written, serde_json::from_str::<Value>(json).unwrap());
        }
    }

    #[test]
    fn parameters_that_are_not_there_are_empty_ones() {
        let message = Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/own"}"#).unwrap();
        let written = serde_json::to_string(&typed(&message).unwrap()).unwrap();
        assert_eq!(written, r#"{"jsonrpc":"2.0","method":"notifications/own","params":{}}"#);
    }
}
