//! `mcp-sse check`.

use std::path::PathBuf;

use super::log::Log;

/// Check a configuration file, and show what was read: with variables resolved, and without secrets
///
/// A mistake is one line on stderr, with the file, the line and the key, and exit code 2.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Check {
    /// The file, as `serve` reads it
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    pub(crate) config: Option<PathBuf>,

    /// Print the JSON Schema of such files instead, for editors
    #[arg(long, conflicts_with = "config")]
    pub(crate) schema: bool,

    #[command(flatten)]
    pub(crate) log: Log,
}
