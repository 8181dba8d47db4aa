//! Connections that hyper serves: HTTP/2, and requests that are not plain or not the transport's.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tower_service::Service;

use super::{Endpoint, Inner, lingering::Lingering, listener::Socket};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Serves a connection of which `pending` was read already.
pub(super) async fn run<F, B>(socket: Socket, pending: Vec<u8>, inner: Arc<Inner<F>>)
where
    F: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let peer = inner.peers.peer(&socket);
    let hurry = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Lingering::new(socket, pending, Arc::clone(&hurry)));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY);
    let drained = inner.drained.notified();
    let draining = inner.draining.load(Ordering::Acquire);
    let service = service_fn(|mut request: Request<Incoming>| {
        let mut extensions = std::mem::take(request.extensions_mut());
        peer.name(request.headers(), &mut extensions);
        *request.extensions_mut() = extensions;
        answer(request, Arc::clone(&inner))
    });
    let mut connection = pin!(http.serve_connection(io, service));
    if !draining {
        tokio::select! {
            ended = connection.as_mut() => return log(ended),
            () = drained => {}
        }
    }
    hurry.store(true, Ordering::Release);
    connection.as_mut().graceful_shutdown();
    log(connection.await);
}

fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn answer<F, B>(
    request: Request<Incoming>,
    inner: Arc<Inner<F>>,
) -> Result<Response<Either<crate::Body, B>>, Infallible>
where
    F: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    let response = match inner.routes.find(request.uri().path()) {
        Some(Endpoint::Connect(service)) => {
            let (parts, _) = request.into_parts();
            service.connect(&parts).map(Either::Left)
        }
        Some(Endpoint::Post(service)) => service.transport().post(request).await.map(Either::Left),
        None => {
            let mut fallback = inner.fallback.clone();
            std::future::poll_fn(|cx| fallback.poll_ready(cx)).await?;
            fallback.call(request).await?.map(Either::Right)
        }
    };
    Ok(response)
}
