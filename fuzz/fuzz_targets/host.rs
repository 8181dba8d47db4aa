//! Whatever passes `localhost:*` or `[::1]:*` is that host, with a port or without.
#![no_main]

use libfuzzer_sys::fuzz_target;

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.parse::<u16>().is_ok() && !text.starts_with('+')
}

fuzz_target!(|host: &str| {
    if mcp_sse::fuzz::host_passes("localhost:*", host) {
        let lower = host.to_ascii_lowercase();
        let rest = lower.strip_prefix("localhost").expect("another name passed");
        assert!(rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    if mcp_sse::fuzz::host_passes("[::1]:*", host) {
        let (address, rest) =
            host.strip_prefix('[').and_then(|rest| rest.split_once(']')).expect("no brackets");
        assert!(address.parse::<std::net::Ipv6Addr>().expect("an address").is_loopback());
        assert!(rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    // As an entry of the list, it is refused or it matches itself.
    if !host.ends_with(":*") && mcp_sse::fuzz::is_host_entry(host) {
        assert!(mcp_sse::fuzz::host_passes(host, host));
    }
});
