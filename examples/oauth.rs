//! OAuth: clients need a token of an authorization server, and are told where to get one.
//!
//! `ISSUER=http://127.0.0.1:9000 cargo run -p examples --bin oauth`, with an authorization server there.

use std::error::Error;

use axum::routing::any_service;
use mcp_sse::SseServerTransport;
use mcp_sse_oauth::{AuthorizationServer, ProtectedResource};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = greeter::listen().await?;
    // What people give to their clients; tokens are for it.
    let url = format!("http://{}/sse", listener.local_addr()?);
    let issuer = std::env::var("ISSUER").unwrap_or_else(|_| "http://127.0.0.1:9000".to_owned());

    // The keys are where the issuer's metadata says. `reqwest` and its TLS are in your dependencies, as you like them.
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "TLS is set up twice")?;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let login = AuthorizationServer::builder(issuer).discover(client).build()?;
    login.start();
    let resource = ProtectedResource::new(&login, url)?.require_scopes(["mcp"])?;

    let metadata = resource.metadata();
    let sse = SseServerTransport::builder("/messages/").authenticate(resource).build()?;
    let mut router = sse.router("/sse", greeter::greet);
    for path in metadata.paths() {
        router = router.route(&path, any_service(metadata.clone()));
    }

    axum::serve(listener, router).await?;
    Ok(())
}
