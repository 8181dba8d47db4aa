//! Bearer authentication in front of the transport. The layer puts a [`Principal`] on each request; a
//! session belongs to the principal that opened it, and to anyone else it does not exist.
//!
//! `cargo run -p examples --bin bearer_auth`, then connect clients with the header
//! `Authorization: Bearer alices-secret` or `Authorization: Bearer bobs-secret`.

use std::error::Error;

use axum::{
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use mcp_sse::{Principal, SseServerTransport};

/// Who a token belongs to. A real server asks its identity provider.
fn user_of(token: &str) -> Option<&'static str> {
    match token {
        "alices-secret" => Some("alice"),
        "bobs-secret" => Some("bob"),
        _ => None,
    }
}

async fn authenticate(mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(user) = header.and_then(|value| value.strip_prefix("Bearer ")).and_then(user_of) else {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    };
    request.extensions_mut().insert(Principal::new(user));
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sse = SseServerTransport::new("/messages/")?;

    let router = sse.router("/sse", greeter::greet).layer(from_fn(authenticate));

    axum::serve(greeter::listen().await?, router).await?;
    Ok(())
}
