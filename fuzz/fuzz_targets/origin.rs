//! Whatever passes `http://localhost:*` is that origin, with a port or without.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|origin: &str| {
    if mcp_sse::fuzz::origin_passes("http://localhost:*", origin) {
        let lower = origin.to_ascii_lowercase();
        let rest = lower.strip_prefix("http://localhost").expect("another origin passed");
        let port = rest.strip_prefix(':');
        assert!(rest.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_ok()));
    }
    if !origin.ends_with(":*") && mcp_sse::fuzz::is_origin_entry(origin) {
        assert!(mcp_sse::fuzz::origin_passes(origin, origin));
    }
});
