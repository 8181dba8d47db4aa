//! Which paths each server has.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The paths that all servers share, as they are set.
pub(super) struct Layout {
    pub(super) sse: String,
    pub(super) messages: String,
    pub(super) mcp: String,
    /// What stands before the paths of named servers.
    pub(super) base: String,
    /// The paths of the health checks.
    pub(super) health: Vec<String>,
}

/// The paths of a server, not percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) sse: String,
    pub(super) messages: String,
    pub(super) mcp: String,
}

impl Layout {
    /// The paths of the server with this name; with none, those at the root.
    pub(super) fn paths(&self, name: &str) -> Paths {
        let Self { sse, messages, mcp, base, .. } = self;
        let before = if name.is_empty() { String::new() } else { format!("{base}/{name}") };
        let mcp = format!("{before}{mcp}");
        Paths {
            sse: format!("{before}{sse}"),
            messages: format!("{before}{messages}"),
            mcp: mcp.trim_end_matches('/').to_owned(),
        }
    }
}

/// Percent-encodes a path, whether or not parts of it are encoded already, so that paths can be compared. Names contain
/// no "%".
pub(super) fn encoded(path: &str) -> String {
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'%');
    utf8_percent_encode(path, ENCODED).to_string()
}
