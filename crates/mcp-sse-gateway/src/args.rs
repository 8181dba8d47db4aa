//! What stands on the command line, and what it resolves to.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use mcp_sse::{Builder, SseServerTransport, TransportSecuritySettings};

/// Serves MCP over HTTP+SSE: a small built-in server, to try a client on.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcp-sse", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub(crate) struct Listen {
    /// Address to listen on; one that is not loopback needs --allowed-host
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,

    /// Path of the stream (GET)
    #[arg(long, value_name = "PATH", default_value = "/sse")]
    pub(crate) sse_path: String,

    /// Path that clients post messages to
    #[arg(long, value_name = "PATH", default_value = "/messages/")]
    pub(crate) message_path: String,

    /// Path prefix that a proxy takes off before the request comes here
    #[arg(long, value_name = "PATH")]
    mount_prefix: Option<String>,

    /// Read that prefix from X-Forwarded-Prefix; only behind a proxy that sets the header
    #[arg(long)]
    trust_forwarded_prefix: bool,

    /// Host name that clients reach the server under, beside loopback names; `NAME:*` for any port. Repeatable
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<String>,

    /// Origin of web pages that may use the server, beside loopback origins, as in `https://app.example.com`. Repeatable
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,

    /// Open connections at the most; more wait
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = at_least_one)]
    pub(crate) max_connections: usize,

    /// How long requests in flight may take to finish at a shutdown
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) shutdown_timeout: Duration,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Sessions at the most
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    max_sessions: usize,

    /// Bytes of a client's message at the most
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024, value_parser = at_least_one)]
    max_body_bytes: usize,

    /// Unanswered requests of a session at the most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    max_requests_in_flight: usize,

    /// Silence after which a stream gets a comment line; 0s turns it off
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    keep_alive: Duration,

    /// How long a session waits for its client to reconnect; 0s turns it off
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    resume_window: Duration,

    /// How long a client may leave unread what waits for it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    stall_timeout: Duration,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log (to stderr)")]
pub(crate) struct Log {
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// What is logged: a level, or a filter such as `info,mcp_sse=debug`
    #[arg(long, value_name = "FILTER", default_value = "info,rmcp=error")]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

impl Args {
    /// The arguments, or a message of one line.
    pub(crate) fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| match error.kind() {
            clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                Exit::Shown(error.to_string())
            }
            _ => {
                let text = error.to_string();
                let lines: Vec<_> = text
                    .lines()
                    .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .collect();
                Exit::Usage(format!("{}; see --help", lines.join("; ")))
            }
        })
    }

    /// The transport that the arguments describe.
    pub(crate) fn transport(&self) -> Result<SseServerTransport, String> {
        let Listen { host, allowed_host, allowed_origin, mount_prefix, .. } = &self.listen;
        if !host.is_loopback() && allowed_host.is_empty() {
            return Err(format!(
                "--host {host} is not a loopback address: name the hosts that clients use, with --allowed-host NAME (web pages could reach the server under any name otherwise)"
            ));
        }
        let mut security = TransportSecuritySettings::default();
        security.allowed_hosts.extend(allowed_host.iter().cloned());
        security.allowed_origins.extend(allowed_origin.iter().cloned());
        let mut builder: Builder = SseServerTransport::builder(&self.listen.message_path)
            .security(security)
            .trust_forwarded_prefix(self.listen.trust_forwarded_prefix)
            .max_sessions(self.limits.max_sessions)
            .max_sessions_per_principal(self.limits.max_sessions)
            .max_body_bytes(self.limits.max_body_bytes)
            .requests_in_flight(self.limits.max_requests_in_flight, 1024 * 1024)
            .keep_alive(self.limits.keep_alive)
            .resume_window(self.limits.resume_window)
            .stall_timeout(self.limits.stall_timeout);
        if let Some(prefix) = mount_prefix {
            builder = builder.mount_prefix(prefix);
        }
        builder.build().map_err(|error| error.to_string())
    }

    pub(crate) fn stall_timeout(&self) -> Duration {
        self.limits.stall_timeout
    }
}

impl Listen {
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

/// Why the program does not go on.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Help or version, for stdout.
    Shown(String),
    /// The arguments, or what they ask for, cannot be done.
    Usage(String),
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a time such as 500ms, 15s or 2m".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}
