//! The endpoints and the fallback as one service that layers wrap, and its two body types.

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::routes::{Endpoint, Routes};
use crate::{
    body::{Body, BoxError},
    clock,
    future::ResponseFuture,
    session::driver::Driver,
};

/// How long the client may pause in the body of a request. The transport's endpoints have a deadline for the
/// whole body instead: [`Builder::body_timeout`](crate::Builder::body_timeout).
const SILENCE: Duration = Duration::from_secs(60);

/// The default fallback of a [`Server`](super::Server): answers every request with 404.
///
/// ```
/// use mcp_sse::{NotFound, Server};
///
/// let server: Server<NotFound> = Server::new();
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NotFound;

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        ResponseFuture::new(ready(response))
    }
}

/// The endpoints and the fallback of a [`Server`](super::Server) as one tower service, which the layers of
/// [`Server::layer`](super::Server::layer) wrap.
///
/// ```
/// use http::{HeaderValue, header::X_CONTENT_TYPE_OPTIONS};
/// use mcp_sse::{Endpoints, Server};
/// use tower::Layer;
/// use tower_http::set_header::{SetResponseHeader, SetResponseHeaderLayer};
///
/// /// A layer of your own names `Endpoints` where it says what it wraps.
/// fn no_sniff() -> impl Layer<Endpoints, Service = SetResponseHeader<Endpoints, HeaderValue>> {
///     SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
/// }
///
/// let server = Server::new().layer(no_sniff());
/// # drop(server);
/// ```
#[derive(Clone, Debug)]
pub struct Endpoints<F = NotFound> {
    routes: Routes,
    fallback: F,
}

impl<F> Endpoints<F> {
    pub(super) fn new(routes: Routes, fallback: F) -> Self {
        Self { routes, fallback }
    }
}

/// The session whose stream a response is; in the extensions of the response.
#[derive(Clone)]
pub(super) struct StreamOf(pub(super) Arc<Driver>);

impl<F, A, B> Service<Request<A>> for Endpoints<F>
where
    F: Service<Request<A>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    F::Future: Send,
    A: http_body::Body + Send + 'static,
    A::Data: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The endpoints are always ready, and the fallback is polled when a request is for it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let endpoint = self.routes.find(request.uri().path());
        let mut fallback = self.fallback.clone();
        let mut request = request;
        if let Some(Endpoint::Post(_)) = &endpoint
            && let Some(body) = (request.body_mut() as &mut dyn Any).downcast_mut::<RequestBody>()
        {
            // The transport has its own deadline for the body.
            body.silence = None;
        }
        ResponseFuture::new(async move {
            match endpoint {
                Some(Endpoint::Connect(service)) => {
                    let (parts, _) = request.into_parts();
                    let mut response = service.connect(parts).await;
                    if let Some(session) = response.body().session() {
                        response.extensions_mut().insert(StreamOf(session));
                    }
                    response
                }
                Some(Endpoint::Post(service)) => service.transport().post(request).await,
                None => {
                    let ready = std::future::poll_fn(|cx| fallback.poll_ready(cx)).await;
                    let response = match ready {
                        Ok(()) => fallback.call(request).await,
                        Err(never) => Err(never),
                    };
                    response.unwrap_or_else(|never| match never {}).map(Body::new)
                }
            }
        })
    }
}

/// The body of a request in the layers and the fallback of a [`Server`](super::Server).
///
/// While it is being read, it ends with an error if nothing arrives for 60 s. (The transport's endpoints have
/// [`Builder::body_timeout`](crate::Builder::body_timeout) instead.)
///
/// ```
/// use std::convert::Infallible;
///
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
/// use mcp_sse::{Body, RequestBody, Server};
///
/// async fn echo(request: Request<RequestBody>) -> Result<Response<Body>, Infallible> {
///     let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
///     Ok(Response::new(body.into()))
/// }
///
/// let server = Server::new().fallback(tower::service_fn(echo));
/// # drop(server);
/// ```
pub struct RequestBody {
    /// There until it is dropped.
    body: Option<Incoming>,
    silence: Option<Silence>,
    has_ended: bool,
    left: Left,
}

/// What a service leaves of a body that it drops before the end.
#[derive(Clone, Default)]
pub(super) struct Left(Arc<Mutex<Option<Incoming>>>);

/// How much of it is read and dropped, so that the connection can go on: no more than is there anyway.
const LEFT: usize = 64 * 1024;
/// How often it is asked for more.
const LEFT_TRIES: usize = 8;

impl Left {
    fn slot(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left, or no more than what has arrived already, which is dropped.
    /// A client that `waits` sends it only if it is asked to, which a look at the body would do.
    pub(super) async fn ends(&self, waits: bool) -> bool {
        let Some(mut body) = self.slot().take() else { return true };
        if waits {
            return false;
        }
        let mut dropped = 0;
        if http_body::Body::size_hint(&body).upper().is_none_or(|most| most > LEFT as u64) {
            return false;
        }
        for _ in 0..LEFT_TRIES {
            let polled =
                std::future::poll_fn(|cx| Poll::Ready(http_body::Body::poll_frame(Pin::new(&mut body), cx)));
            match polled.await {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(frame))) => {
                    dropped += frame.data_ref().map_or(0, Bytes::len);
                    if http_body::Body::is_end_stream(&body) {
                        return true;
                    }
                    if dropped > LEFT {
                        return false;
                    }
                }
                Poll::Ready(Some(Err(_))) => return false,
                // Hyper puts what has arrived into it when it gets its turn.
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        false
    }
}

/// The timer that runs while nothing arrives.
#[derive(Default)]
struct Silence(Option<Pin<Box<Sleep>>>);

impl RequestBody {
    /// The body, and what will be left of it.
    pub(super) fn new(body: Incoming) -> (Self, Left) {
        let left = Left::default();
        let has_ended = http_body::Body::is_end_stream(&body);
        let silence = Some(Silence::default());
        (Self { body: Some(body), silence, has_ended, left: left.clone() }, left)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.has_ended {
            *self.left.slot() = self.body.take();
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBody").field(&self.body).finish()
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            self.has_ended = frame.is_none() || body.is_end_stream();
            if let Some(silence) = &mut self.silence {
                silence.0 = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(Silence(timer)) = &mut self.silence else { return Poll::Pending };
        let timer =
            timer.get_or_insert_with(|| Box::pin(sleep_until(clock::after(clock::now(), SILENCE).into())));
        timer.as_mut().poll(cx).map(|()| {
            let text = "nothing of the request's body came for 60 s";
            Some(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}
