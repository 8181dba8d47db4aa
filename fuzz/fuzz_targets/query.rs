//! A session id is read from a query only if it stands there once, as 32 hex digits; an event id is read
//! only if it writes itself back; so is the id of a replica, which is safe in a subject, a channel and a log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(id) = mcp_sse::fuzz::session_id(text) {
        let values: Vec<_> = text.split('&').filter_map(|pair| pair.strip_prefix("session_id=")).collect();
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].replace('-', "").to_ascii_lowercase(), id.expose_hex());
    }
    if let Some((session, sequence, at)) = mcp_sse::fuzz::event_id(text) {
        let mut written = format!("{}:{sequence}", session.expose_hex());
        if let Some(at) = at {
            written = format!("{written}:{at}");
        }
        // Of the whole text, the digits of the session alone may be of either case.
        assert_eq!(text[..32].to_ascii_lowercase(), written[..32]);
        assert_eq!(text[32..], written[32..]);
    }
    if let Some(replica) = mcp_sse::fuzz::replica_id(text) {
        assert_eq!(replica.as_str(), text);
        assert!(text.len() <= 80 && !replica.name().is_empty() && replica.run().len() == 16);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')));
    }
});
