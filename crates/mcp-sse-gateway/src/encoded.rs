//! Paths in one form each: to be compared, and to be shown in a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// Percent-encodes a path so that it can be compared, whether or not parts of it are encoded already. Names contain no
/// "%".
pub(crate) fn encoded(path: &str) -> String {
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'%');
    utf8_percent_encode(path, ENCODED).to_string()
}

/// A path as clients write it in a URL.
pub(crate) fn in_url(path: &str) -> String {
    match Url::parse("http://localhost") {
        Ok(mut url) => {
            url.set_path(path);
            url.path().to_owned()
        }
        // It is a URL.
        Err(_) => encoded(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_clients_write_it() {
        assert_eq!(in_url("/@x/my server(1)/sse"), "/@x/my%20server(1)/sse");
        assert_eq!(in_url("/\u{e9}/sse"), "/%C3%A9/sse");
        assert_eq!(encoded("/@x/%40/sse"), "/%40x/%40/sse");
    }
}
