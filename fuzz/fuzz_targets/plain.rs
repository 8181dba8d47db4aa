//! What the server reads itself: a request is the same whatever follows it, and a head that is known from
//! the request before is read as if it were not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_sse::fuzz::{Plain, plain, plain_after};

fuzz_target!(|requests: &[u8]| {
    // Two of them, with a zero between.
    let at = requests.iter().position(|byte| *byte == 0).unwrap_or(requests.len());
    let (first, second) = (&requests[..at], requests.get(at + 1..).unwrap_or_default());
    if let Plain::Request { length, .. } = plain(first) {
        assert_eq!(plain(&first[..length]), plain(first));
        for end in [0, length / 2, length - 1] {
            assert_eq!(plain(&first[..end]), Plain::Partial);
        }
        // The known head of a request reads the request itself; a GET leaves none.
        assert!(plain_after(first, first).is_none_or(|known| known == plain(first)));
    }
    if let Some(known) = plain_after(first, second) {
        assert_eq!(known, plain(second));
    }
});
