//! What is a message, and what its envelope says, is what serde_json sees.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use mcp_sse::{Message, MessageKind};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
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

/// The message, if serde_json finds that it is one.
fn typed(bytes: &[u8]) -> Option<Typed<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // A derived struct would also read an array as its fields in order.
    let is_object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    let typed: Typed<'_> = is_object.then(|| serde_json::from_str(text).ok())??;
    let is_id = |id: &&RawValue| {
        let starts = id.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
        id.get().len() <= 1024 && (starts || serde_json::from_str::<String>(id.get()).is_ok())
    };
    let is_message = match (&typed.method, typed.id, typed.result, typed.error) {
        (Some(_), id, None, None) => {
            id.as_ref().is_none_or(is_id)
                && typed.params.is_none_or(|params| params.get().starts_with(['{', '[', 'n']))
        }
        (None, Some(id), Some(_), None) => is_id(&id),
        (None, id, None, Some(error)) => {
            error.get().starts_with('{') && id.filter(|id| id.get() != "null").as_ref().is_none_or(is_id)
        }
        _ => false,
    };
    (typed.jsonrpc == "2.0" && is_message).then_some(typed)
}

/// Equal as JSON values; `1.0` and `1` are the same number.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}

fuzz_target!(|bytes: &[u8]| {
    let typed = typed(bytes);
    let Ok(message) = Message::parse(bytes.to_vec()) else { return assert!(typed.is_none()) };
    let typed = typed.expect("what serde_json refuses is refused");
    assert_eq!(message.as_bytes(), bytes);
    assert_eq!(message.method(), typed.method.as_deref());
    let id = |id: &mcp_sse::RequestId| {
        let written = serde_json::from_str::<Value>(&id.to_string());
        let came = serde_json::from_str::<Value>(typed.id.expect("it has an id").get());
        // A number that is too large for a float is kept as it came.
        written.is_err() && came.is_err() || same(&written.expect("an id is JSON"), &came.expect("JSON"))
    };
    match message.kind() {
        MessageKind::Request { id: of, .. } => assert!(id(of)),
        MessageKind::Notification { .. } => assert!(typed.id.is_none()),
        MessageKind::Response { id: of, is_error } => {
            assert_eq!(*is_error, typed.error.is_some());
            assert_ne!(*is_error, typed.result.is_some());
            assert!(of.as_ref().map_or(typed.id.is_none_or(|id| id.get() == "null"), id));
        }
    }
    let params = typed.params.map(RawValue::get).filter(|params| *params != "null");
    assert_eq!(message.params(), params.filter(|_| message.method().is_some()));
});
