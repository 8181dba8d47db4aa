//! Bearer authentication. Each key has a name; a session belongs to the name that opened it, and to anyone else it does
//! not exist.
//!
//! `cargo run -p examples --bin bearer_auth`, then connect clients with the header
//! `Authorization: Bearer alices-secret-5c8zLq0v` or `Authorization: Bearer bobs-secret-j2Rr7dMhU`.
//!
//! For an identity provider of your own, implement `Authenticate` instead.

use std::error::Error;

use mcp_sse::{BearerTokens, SseServerTransport};

/// A real server reads a file that only it may read, and calls `replace` when the file changes.
const KEYS: &str = "alice alices-secret-5c8zLq0v
bob bobs-secret-j2Rr7dMhU";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keys: BearerTokens = KEYS.parse()?;
    let sse = SseServerTransport::builder("/messages/").authenticate(keys).build()?;

    let router = sse.router("/sse", greeter::greet);

    axum::serve(greeter::listen().await?, router).await?;
    Ok(())
}
