//! A session id is read from a query only if it stands there once, as 32 hex digits; an event id is read
//! only if it writes itself back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(id) = mcp_sse::fuzz::session_id(text) {
        let values: Vec<_> = text.split('&').filter_map(|pair| pair.strip_prefix("session_id=")).collect();
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].replace('-', "").to_ascii_lowercase(), id.expose_hex());
    }
    if let Some((session, sequence)) = mcp_sse::fuzz::event_id(text) {
        assert_eq!(text.to_ascii_lowercase(), format!("{}:{sequence}", session.expose_hex()));
    }
});
