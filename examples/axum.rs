//! An axum server with both endpoints, and a shutdown that lets requests finish.
//!
//! `cargo run -p examples --bin axum`, then connect a client to <http://127.0.0.1:8000/sse>.

use std::{error::Error, time::Duration};

use axum::{Router, routing::get};
use mcp_sse::SseServerTransport;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sse = SseServerTransport::new("/messages/")?;

    let router = Router::new()
        .route("/", get("connect an MCP client to /sse"))
        .merge(sse.router("/sse", greeter::greet));

    axum::serve(greeter::listen().await?, router)
        // The streams end first; else the server would wait for them for ever.
        .with_graceful_shutdown(async move {
            let _ = tokio::signal::ctrl_c().await;
            sse.shutdown(Duration::from_secs(10)).await;
        })
        .await?;
    Ok(())
}
