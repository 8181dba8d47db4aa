//! What is wrong with a request, as its client is told.

use mcp_sse::{Message, RequestId};
use serde_json::{Value, json};

use crate::message::modern::{VERSION, code};

/// An error that answers a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) code: i32,
    text: String,
    data: Option<Value>,
}

impl Fault {
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), data: None }
    }

    pub(crate) fn params(text: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, text)
    }

    /// The request is for a revision that is not spoken here.
    pub(super) fn version(requested: &str) -> Self {
        let data = json!({ "supported": [VERSION], "requested": requested });
        let text = format!("Unsupported protocol version: {requested}; this server supports {VERSION}");
        Self { data: Some(data), ..Self::new(code::UNSUPPORTED_PROTOCOL_VERSION, text) }
    }

    /// The request continues one that is not there.
    pub(crate) fn state() -> Self {
        let data = json!({ "reason": "invalid_request_state" });
        Self { data: Some(data), ..Self::params("Invalid or expired requestState") }
    }

    /// The answer to the request with this id, if that is known.
    pub(crate) fn json(&self, id: Option<&RequestId>) -> String {
        let id = id.map_or_else(|| "null".to_owned(), ToString::to_string);
        let text = Value::from(self.text.as_str());
        let data = self.data.as_ref().map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{text}{data}}}}}"#, self.code)
    }

    pub(crate) fn message(&self, id: &RequestId) -> Message {
        Message::parse(self.json(Some(id))).unwrap_or_else(|_| Message::error(id, self.code, &self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_request_and_what_is_wrong() {
        assert_eq!(
            Fault::state().json(Some(&RequestId::from("a"))),
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"Invalid or expired requestState","data":{"reason":"invalid_request_state"}}}"#
        );
        assert_eq!(
            Fault::new(-32600, "a \"b\"").json(None),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a \"b\""}}"#
        );
        let message = Fault::version("2099-01-01").message(&RequestId::from(1));
        assert!(message.as_str().contains(r#""data":{"requested":"2099-01-01","supported":["2026-07-28"]}"#));
    }
}
