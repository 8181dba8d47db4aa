//! Which paths each server has.

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
