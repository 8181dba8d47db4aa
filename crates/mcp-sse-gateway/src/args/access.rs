//! Who may use the servers.

use std::path::PathBuf;

/// The environment variable that stands for `--bearer-token-file`.
const FILE: &str = "MCP_SSE_TOKENS_FILE";

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access")]
#[allow(clippy::doc_markdown, reason = "the help has no backticks around variables")]
pub(crate) struct Access {
    /// File with the keys of clients, a line `NAME TOKEN` for each. Clients send theirs as `Authorization: Bearer
    /// TOKEN` or `X-API-Key: TOKEN`; without one they get 401. A session is open only to the name that opened it. The
    /// file is read again on SIGHUP and when it changes. Also MCP_SSE_TOKENS_FILE in the environment
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
}

impl Access {
    /// The file of keys for the servers that have none of their own, and what named it.
    pub(crate) fn file(&self) -> Option<(PathBuf, &'static str)> {
        let given = self.bearer_token_file.clone().map(|file| (file, "--bearer-token-file"));
        given.or_else(|| {
            let file = std::env::var_os(FILE).filter(|file| !file.is_empty())?;
            Some((file.into(), FILE))
        })
    }
}
