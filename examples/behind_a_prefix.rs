//! Mounted under a prefix: clients are told to post to `/tools/messages/`, because axum says what it took
//! off the path. Behind a proxy that takes off a prefix too, the proxy says which in `X-Forwarded-Prefix`.
//!
//! `cargo run -p examples --bin behind_a_prefix`, then connect a client to
//! <http://127.0.0.1:8000/tools/sse>.

use std::error::Error;

use axum::Router;
use mcp_sse::SseServerTransport;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sse = SseServerTransport::builder("/messages/")
        // Only because this server stands behind a proxy that sets the header.
        .trust_forwarded_prefix(true)
        .build()?;

    let router = Router::new().nest("/tools", sse.router("/sse", greeter::greet));

    axum::serve(greeter::listen().await?, router).await?;
    Ok(())
}
