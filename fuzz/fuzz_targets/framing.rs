//! Any JSON leaves as one event that every kind of line splitter reads as one, and the value is kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    // A name that serde_json keeps to itself: an object with it is no `Value`.
    if text.contains("$serde_json::private::") {
        return;
    }
    // What the fuzzer made, as JSON if it is, else as a string inside JSON.
    let value = serde_json::from_str(text).unwrap_or_else(|_| serde_json::json!({ text: [text] }));
    let source = match serde_json::from_str::<Value>(text) {
        Ok(_) => text.as_bytes().to_vec(),
        Err(_) => serde_json::to_vec_pretty(&value).expect("a value is JSON"),
    };
    let event = mcp_sse::fuzz::message_event(source);
    let event = std::str::from_utf8(&event).expect("UTF-8");
    let data = event.strip_prefix("event: message\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
    let data = data.expect("the frame");
    assert!(!data.contains(['\n', '\r', '\u{2028}', '\u{2029}', '\u{85}']));
    assert_eq!(serde_json::from_str::<Value>(data).expect("JSON"), value);
});
