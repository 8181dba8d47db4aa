//! The servers that are measured. Each has the tool `echo` at `/sse`.

mod floor;
mod ours;
mod rmcp_0_10;

use std::{convert::Infallible, net::SocketAddr};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::args::Server;

/// Runs a server until it is killed. Prints where it listens once it does.
pub(crate) fn run(server: Server, port: u16, single_thread: bool) -> std::io::Result<()> {
    // As the program does it: one worker of the multi-thread runtime serves what is ready over and over
    // while others wait. The floor and the peer stay what their users would write.
    let ours = matches!(server, Server::Bare | Server::Rmcp);
    let one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if single_thread || (ours && one_core) {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()?.block_on(async move {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
        let port = listener.local_addr()?.port();
        println!("listening on http://127.0.0.1:{port}/sse");
        match server {
            Server::Floor => floor::run(listener).await,
            Server::Bare => ours::run(listener, ours::Bare).await,
            Server::Rmcp => ours::run(listener, ours::WithRmcp).await,
            Server::Rmcp010 => {
                drop(listener);
                rmcp_0_10::run(port).await
            }
        }
    })
}

/// One connection after the other, each in a task, on plain hyper.
async fn serve<F, R, B>(listener: TcpListener, handle: F) -> std::io::Result<()>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes, Error = Infallible> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = hyper::service::service_fn(handle.clone());
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
