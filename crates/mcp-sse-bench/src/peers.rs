//! The servers that ours is measured beside, in a program of their own: they keep the system's allocator,
//! as a program made with them does.

mod servers {
    pub(crate) mod floor;
    pub(crate) mod rmcp_0_10;
}

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;

/// Starts one of the servers that mcp-sse is measured beside.
#[derive(Debug, Parser)]
#[command(name = "mcp-sse-bench-peers")]
struct Args {
    server: Peer,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
    /// Bare hyper, tokio's multi-thread runtime
    Floor,
    /// The same on tokio's current-thread runtime
    FloorCurrentThread,
    /// rmcp 0.10's own SSE server
    #[value(name = "rmcp-0.10")]
    Rmcp010,
}

fn main() -> std::io::Result<()> {
    let Args { server, port } = Args::parse();
    let mut builder = match server {
        Peer::FloorCurrentThread => tokio::runtime::Builder::new_current_thread(),
        Peer::Floor | Peer::Rmcp010 => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()?.block_on(async move {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
        let port = listener.local_addr()?.port();
        println!("listening on http://127.0.0.1:{port}/sse");
        match server {
            Peer::Floor | Peer::FloorCurrentThread => servers::floor::run(listener).await,
            Peer::Rmcp010 => {
                drop(listener);
                servers::rmcp_0_10::run(port).await
            }
        }
    })
}
