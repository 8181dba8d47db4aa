//! One MCP server for old and new clients on one port: Streamable HTTP at `/mcp`, HTTP+SSE at `/sse`, as
//! the specification advises servers that keep old clients.
//!
//! `cargo run -p examples --bin beside_streamable_http`

use std::{error::Error, sync::Arc};

use axum::Router;
use mcp_sse::SseServerTransport;
use rmcp::transport::streamable_http_server::{StreamableHttpService, session::local::LocalSessionManager};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sse = SseServerTransport::new("/messages/")?;
    let streamable = StreamableHttpService::new(
        || Ok(greeter::Greeter),
        Arc::new(LocalSessionManager::default()),
        Default::default(),
    );

    let router = Router::new().nest_service("/mcp", streamable).merge(sse.router("/sse", greeter::greet));

    axum::serve(greeter::listen().await?, router).await?;
    Ok(())
}
