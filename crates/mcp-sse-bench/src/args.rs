//! What stands on the command line.

use clap::{Parser, Subcommand, ValueEnum};

/// Measures mcp-sse beside a floor and its peers.
#[derive(Debug, Parser)]
#[command(name = "mcp-sse-bench")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start one server, with the tool `echo` at /sse, for any load generator
    Serve {
        server: Server,
        /// Port to listen on; 0 takes a free one
        #[arg(long, default_value_t = 8000)]
        port: u16,
        /// Run on one thread instead of one a core
        #[arg(long)]
        single_thread: bool,
    },
    /// Run all scenarios against all servers in turn, and report medians and ratios
    Run(Run),
    /// Round trips of `echo` against one server
    RoundTrips {
        /// Where the server listens, as in 127.0.0.1:8000
        address: std::net::SocketAddr,
        /// Sessions
        #[arg(long, default_value_t = 50)]
        sessions: usize,
        /// Calls in flight in each session, each on a connection of its own
        #[arg(long, default_value_t = 1)]
        in_flight: usize,
        /// Bytes of the message that is echoed
        #[arg(long, default_value_t = 16)]
        bytes: usize,
        /// Measured seconds, after a tenth of them to warm up
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// Rounds; each server's turn comes once a round
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Measured seconds of each round trip scenario
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Sessions of the largest round trip scenario
    #[arg(long, default_value_t = 1_000)]
    pub(crate) many: usize,
    /// Sessions of the idle scenarios
    #[arg(long, default_value_t = 5_000)]
    pub(crate) idle: usize,
    /// Sessions that are opened and closed
    #[arg(long, default_value_t = 10_000)]
    pub(crate) storm: usize,
    /// File to write the report to, as Markdown
    #[arg(long)]
    pub(crate) report: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Bare hyper doing the same HTTP work, without checks and without JSON
    Floor,
    /// The transport with an echo app of its own
    Bare,
    /// The transport with rmcp
    Rmcp,
    /// rmcp 0.10's own SSE server
    #[value(name = "rmcp-0.10")]
    Rmcp010,
}
