//! The MCP server that the examples serve: one tool, which greets whoever calls it.

use http::request::Parts;
use mcp_sse::{Principal, Session};
use rmcp::{RoleServer, ServiceExt as _, service::RequestContext, tool, tool_router};

/// An MCP server with the tool `greet`.
#[derive(Clone, Copy, Debug)]
pub struct Greeter;

#[tool_router(server_handler)]
impl Greeter {
    /// Greets the principal of the request, or the world.
    #[allow(clippy::needless_pass_by_value, reason = "the router gives it by value")]
    #[tool(description = "Greets whoever calls it")]
    fn greet(&self, context: RequestContext<RoleServer>) -> String {
        let parts = context.extensions.get::<Parts>();
        let principal = parts.and_then(|parts| parts.extensions.get::<Principal>());
        let name = principal.map(Principal::as_str);
        format!("Hello, {}!", name.unwrap_or("world"))
    }
}

/// Runs a greeter in a session, to its end.
pub async fn greet(session: Session) {
    if let Ok(server) = Greeter.serve(session).await {
        let _ = server.waiting().await;
    }
}

/// The address to listen on: the first argument, else port 8000.
///
/// # Errors
///
/// If the port is taken, or the argument is not an address.
pub async fn listen() -> std::io::Result<tokio::net::TcpListener> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}
