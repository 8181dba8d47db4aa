//! The two services on plain hyper, without a framework.
//!
//! `cargo run -p examples --bin plain_hyper`, then connect a client to <http://127.0.0.1:8000/sse>.

use std::error::Error;

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mcp_sse::{Body, SseServerTransport};
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sse = SseServerTransport::new("/messages/")?;
    let connect = sse.connect_sse(greeter::greet);
    let post = sse.handle_post_message();

    let listener = greeter::listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // Without it, an answer can wait 40 ms for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        let (connect, post) = (connect.clone(), post.clone());
        let route = service_fn(move |request: Request<Incoming>| {
            let (connect, post) = (connect.clone(), post.clone());
            async move {
                match request.uri().path() {
                    "/sse" => connect.oneshot(request).await,
                    "/messages/" => post.oneshot(request).await,
                    _ => {
                        let mut response = Response::new(Body::default());
                        *response.status_mut() = StatusCode::NOT_FOUND;
                        Ok(response)
                    }
                }
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), route));
    }
}
