//! Real sockets: a plain hyper server, and a client of one connection.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_sse::Body;
use tokio::net::{TcpListener, TcpStream};

use super::{Events, Server, call};

/// Serves both endpoints with plain hyper, on a free port.
pub(crate) async fn serve(server: &Server) -> SocketAddr {
    accept(server, |io, router| async move {
        let service = service_fn(move |request| route(router.clone(), request));
        // A client that goes away is no failure.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    })
    .await
}

/// The same over HTTP/2, without TLS.
pub(crate) async fn serve_http2(server: &Server) -> SocketAddr {
    accept(server, |io, router| async move {
        let service = service_fn(move |request| route(router.clone(), request));
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.serve_connection(io, service).await;
    })
    .await
}

type Services = (mcp_sse::ConnectSse, mcp_sse::HandlePostMessage);

async fn accept<F>(
    server: &Server,
    connection: impl Fn(TokioIo<TcpStream>, Services) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let services = (server.connect.clone(), server.post.clone());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            socket.set_nodelay(true).expect("no delay");
            tokio::spawn(connection(TokioIo::new(socket), services.clone()));
        }
    });
    address
}

async fn route(
    (connect, post): Services,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    Ok(match request.uri().path() {
        "/sse" => call(&connect, request).await,
        "/messages/" => call(&post, request).await,
        _ => {
            let mut response = Response::new(Body::default());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        }
    })
}

/// One connection of a client.
pub(crate) struct Http(conn::http1::SendRequest<Full<Bytes>>);

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        let (sender, connection) = conn::http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.0.ready().await.expect("an open connection");
        self.0.send_request(request).await.expect("a response")
    }

    /// Opens a stream on a connection of its own.
    pub(crate) async fn open(address: SocketAddr) -> Events<Incoming> {
        let mut http = Self::connect(address).await;
        Events::begin(http.send(super::full(super::get(), "")).await).await
    }
}
