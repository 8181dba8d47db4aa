//! What stands on the command line.

use clap::{Parser, Subcommand, ValueEnum};

/// Measures mcp-sse beside a floor and its peers.
#[derive(Debug, Parser)]
#[command(name = "mcp-sse-bench", args_override_self = true)]
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
        /// Seconds for which ours keeps the session of a client that went away
        #[arg(long, default_value_t = 30.0)]
        resume_window: f64,
    },
    /// Run all scenarios against all servers in turn, and report medians and ratios
    Run(Run),
    /// What rmcp costs by itself, without a transport and in this process: calls a second, progress
    /// notifications a second, and KiB of an idle session; a number a line
    RmcpAlone {
        /// Measured seconds of the calls
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Notifications of the progress scenario
        #[arg(long, default_value_t = 10_000)]
        steps: u32,
        /// Sessions of the idle scenario
        #[arg(long, default_value_t = 5_000)]
        idle: usize,
    },
    /// POSTs by several threads at once, each to a session of its own, in this process and without sockets: a
    /// second, first of notifications, then of requests with their answers; a number a line
    Posts {
        /// Threads; as many as there are cores if it is not given
        #[arg(long)]
        threads: Option<usize>,
        /// Measured seconds of each, after a tenth of them to warm up
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Round trips of `echo` over the pipes of the server that gateways are measured in front of
    Pipes {
        /// Measured seconds, after a tenth of them to warm up
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// POSTs to two replicas of the program over an engine: at the one that holds the session, and at the other
    Replicas(Replicas),
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
        /// The server sends answers to all its clients, as some do; those to others are passed over
        #[arg(long)]
        sends_to_all: bool,
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
    /// Sessions that are opened and closed one after the other, and that a wave opens at once
    #[arg(long, default_value_t = 10_000)]
    pub(crate) storm: usize,
    /// Notifications of the progress scenario
    #[arg(long, default_value_t = 10_000)]
    pub(crate) steps: u32,
    /// Seconds for which many idle sessions are held, once; 0 leaves it out
    #[arg(long, default_value_t = 0.0)]
    pub(crate) hold: f64,
    /// Sessions held over HTTP/1.1, a connection each
    #[arg(long, default_value_t = 18_800)]
    pub(crate) hold_http1: usize,
    /// Sessions held over HTTP/2, 100 a connection
    #[arg(long, default_value_t = 100_000)]
    pub(crate) hold_http2: usize,
    /// Scenarios to run, of gateway, round-trips, keys, metrics, eras, idle, open-and-close, slow-reader, flood and progress; all if
    /// none is named
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// File to write the report to, as Markdown, with a plot beside it
    #[arg(long)]
    pub(crate) report: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) peers: Peers,
}

impl Run {
    /// Whether a scenario is to be run.
    pub(crate) fn has(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == scenario)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Replicas {
    /// A nats-server
    #[arg(long)]
    pub(crate) nats: Option<std::path::PathBuf>,
    /// A redis-server
    #[arg(long)]
    pub(crate) redis: Option<std::path::PathBuf>,
    /// Measured seconds of POSTs at once
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Rounds, of which medians are reported
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
}

/// Where the peers that are no Rust are; without it they are left out.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Peers {
    /// A Python that has the SDK
    #[arg(long)]
    pub(crate) python: Option<std::path::PathBuf>,
    /// A folder in which Node finds the TypeScript SDK, with the server's script
    #[arg(long)]
    pub(crate) node: Option<std::path::PathBuf>,
    /// A folder with the other gateways: packages of Node, and a Python environment in `venv`
    #[arg(long)]
    pub(crate) gateways: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Bare hyper doing the same HTTP work, without checks and without JSON; multi-thread runtime
    Floor,
    /// The same on tokio's current-thread runtime
    FloorCurrentThread,
    /// The transport with an echo app of its own
    Bare,
    /// The same behind keys
    BareWithKeys,
    /// The same behind tokens
    BareWithTokens,
    /// The transport with rmcp
    Rmcp,
    /// rmcp 0.10's own SSE server
    #[value(name = "rmcp-0.10")]
    Rmcp010,
    /// The TypeScript SDK's SSE server
    TypeScript,
    /// The Python SDK's SSE server
    Python,
}
