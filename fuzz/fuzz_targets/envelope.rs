//! What the envelope says is what a full JSON parser sees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_sse::{Message, MessageKind};
use serde_json::Value;

/// Equal as JSON values; `1.0` and `1` are the same number.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::parse(bytes.to_vec()) else { return };
    assert_eq!(message.as_bytes(), bytes);
    // Deeper than the parser goes, or a number or an escape that it does not read; the app is told so.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    assert_eq!(value["jsonrpc"], "2.0");
    assert_eq!(message.method(), value["method"].as_str());
    let id = |id: &mcp_sse::RequestId| serde_json::from_str::<Value>(&id.to_string()).expect("an id is JSON");
    match message.kind() {
        MessageKind::Request { id: of, .. } => assert!(same(&id(of), &value["id"])),
        MessageKind::Notification { .. } => assert!(value.get("id").is_none()),
        MessageKind::Response { id: of, is_error } => {
            assert_eq!(*is_error, value.get("error").is_some());
            assert_ne!(*is_error, value.get("result").is_some());
            assert!(same(&of.as_ref().map_or(Value::Null, id), value.get("id").unwrap_or(&Value::Null)));
        }
    }
});
