//! `mcp-sse connect`.

use std::{path::PathBuf, time::Duration};

use http::HeaderMap;

use super::{
    log::Log,
    values::{at_least_one, duration},
};
use crate::{
    backend::remote::{Kind, Tls},
    bridge::Era,
    config,
};

/// Be a stdio MCP server for a client, in front of a remote server
///
/// The remote server speaks HTTP+SSE or Streamable HTTP. If the connection breaks, `connect` reconnects and opens a
/// new session; stderr says what went wrong.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
In a client's configuration:
  {\"mcpServers\": {\"remote\": {\"command\": \"mcp-sse\", \"args\": [\"connect\", \"https://example.com/sse\"]}}}")]
pub(crate) struct Connect {
    /// URL of the remote server
    #[arg(value_name = "URL")]
    url: String,

    /// Transport that the server speaks
    #[arg(long, value_enum, default_value_t = Kind::Auto)]
    pub(crate) transport: Kind,

    /// Which protocol the server speaks: the one with a handshake, up to revision 2025-11-25, or the stateless one, from
    /// revision 2026-07-28 on. Messages are translated where that is needed
    #[arg(long, value_enum, default_value_t = Era::Auto)]
    pub(crate) era: Era,

    /// Header to send with every request; `${NAME}` is the value of an environment variable. Repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,

    /// PEM file of certificates to trust in addition to the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Accept any certificate: for tests, never over a network
    #[arg(long)]
    insecure: bool,

    /// Maximum size of a message, in bytes, in either direction
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, value_parser = at_least_one)]
    pub(crate) max_message_bytes: usize,

    /// How long the server may take to open a session and to answer `initialize`
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) start_timeout: Duration,

    #[command(flatten)]
    pub(crate) log: Log,
}

impl Connect {
    pub(crate) fn url(&self) -> Result<url::Url, String> {
        config::remote_url(&config::expand::from_environment(&self.url)?)
    }

    pub(crate) fn headers(&self) -> Result<HeaderMap, String> {
        headers(&self.header)
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls { ca_file: self.ca_file.clone(), insecure: self.insecure }
    }
}

/// Parses the headers given on the command line.
pub(super) fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        // The text after the colon may be secret, so errors do not quote it.
        let (name, value) = line
            .split_once(':')
            .ok_or("--header: expected 'NAME: VALUE', as in 'Authorization: Bearer ${TOKEN}'")?;
        let value = config::expand::from_environment(value.trim())
            .map_err(|why| format!("--header {name}: {why}"))?;
        let (name, value) = config::header(name.trim(), &value).map_err(|why| format!("--header: {why}"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}
