//! Paths in one form, so that they can be compared.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Percent-encodes a path, whether or not parts of it are encoded already. Names contain no "%".
pub(crate) fn encoded(path: &str) -> String {
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'%');
    utf8_percent_encode(path, ENCODED).to_string()
}
