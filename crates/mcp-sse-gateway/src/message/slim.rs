//! A client's message as rmcp needs it, in its server and in its client: the envelope, and the parameters that rmcp
//! itself reads to find streams and to compare them with headers. The whole message is carried alongside, as its bytes.

use bytes::Bytes;
use mcp_sse::{Message, MessageKind};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Larger parameters are left out. An `initialize` of up to this size is kept whole.
const SEEN_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
}

pub(crate) fn slim(message: &Message) -> Bytes {
    let (id, method) = match message.kind() {
        MessageKind::Request { id, method } => (Some(id), method),
        MessageKind::Notification { method } => (None, method),
        // rmcp need not match it to its request.
        MessageKind::Response { .. } => {
            return Bytes::from_static(br#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
        }
    };
    if &**method == "initialize" && message.as_bytes().len() <= SEEN_BYTES {
        return message.clone().into_bytes();
    }
    let whole = serde_json::from_str::<Whole<'_>>(message.as_str());
    let seen = whole.ok().and_then(|whole| whole.params).unwrap_or_default();
    let params = [
        ("_meta", seen.meta),
        ("name", seen.name),
        ("uri", seen.uri),
        ("taskId", seen.task_id),
        ("requestId", seen.request_id),
    ];
    let params: Vec<String> = params
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.filter(|value| value.get().len() <= SEEN_BYTES)?)))
        .map(|(name, value)| format!("{name:?}:{value}"))
        .collect();
    let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
    let method = serde_json::Value::from(&**method);
    let json = format!(r#"{{"jsonrpc":"2.0",{id}"method":{method},"params":{{{}}}}}"#, params.join(","));
    json.into()
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ClientJsonRpcMessage, ClientNotification, GetMeta as _};

    use super::*;

    fn seen(json: &str) -> ClientJsonRpcMessage {
        let slim = slim(&Message::parse(json.to_owned()).unwrap());
        serde_json::from_slice(&slim).unwrap_or_else(|error| panic!("{error}: {slim:?}"))
    }

    #[test]
    fn rmcp_sees_the_envelope_and_what_it_looks_for() {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"name":"t","arguments":{{"x":"{}"}},"_meta":{{"progressToken":7}}}}}}"#,
            "x".repeat(1_000_000)
        );
        let ClientJsonRpcMessage::Request(request) = seen(&json) else { panic!() };
        assert_eq!(serde_json::to_value(&request.id).unwrap(), "a");
        let token = request.request.get_meta().get_progress_token().unwrap();
        assert_eq!(serde_json::to_value(&token).unwrap(), 7);

        let json =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3,"reason":"r"}}"#;
        let ClientJsonRpcMessage::Notification(note) = seen(json) else { panic!() };
        let ClientNotification::CancelledNotification(cancelled) = note.notification else { panic!() };
        assert_eq!(serde_json::to_value(&cancelled.params.request_id).unwrap(), 3);
    }

    #[test]
    fn whatever_is_a_message_here_is_one_to_rmcp() {
        for json in [
            r#"{"jsonrpc":"2.0","id":1,"method":"own"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"own":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1,2]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"own"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
            r#"{"jsonrpc":"2.0","method":"o\"wn"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":7}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#,
        ] {
            seen(json);
        }
    }
}
