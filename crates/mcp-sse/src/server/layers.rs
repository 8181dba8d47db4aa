//! The endpoints and the fallback as one service, for layers to stand in front of, and its two bodies.

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    future::ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::routes::{Endpoint, Routes};
use crate::{body::Body, clock, future::ResponseFuture, session::driver::Driver};

/// How long nothing of a request's body may come. The transport's own endpoints have a deadline for the whole
/// body in place of it: [`Builder::body_timeout`](crate::Builder::body_timeout).
const SILENCE: Duration = Duration::from_secs(60);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The fallback of a [`Server`](super::Server) that has no other: everything is 404.
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
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        ResponseFuture::new(ready(response))
    }
}

/// All that a [`Server`](super::Server) serves, its endpoints and its fallback, as one service: what
/// [`Server::layer`](super::Server::layer) puts layers in front of.
///
/// ```
/// use mcp_sse::{Endpoints, Server};
/// use tower::{Layer, layer::layer_fn};
///
/// // A layer is anything that makes a service of this one.
/// fn nothing() -> impl Layer<Endpoints, Service = Endpoints> {
///     layer_fn(|endpoints: Endpoints| endpoints)
/// }
///
/// let server = Server::new().layer(nothing());
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

/// The session of a response that is its stream; in the extensions of the response.
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
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture<ResponseBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The endpoints always are, and the fallback is asked when a request is for it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let endpoint = self.routes.find(request.uri().path());
        let mut fallback = self.fallback.clone();
        let mut request = request;
        if let Some(Endpoint::Post(_)) = &endpoint
            && let Some(body) = (request.body_mut() as &mut dyn Any).downcast_mut::<RequestBody>()
        {
            // The transport has a deadline of its own for it.
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
                    response.map(ResponseBody::from)
                }
                Some(Endpoint::Post(service)) => {
                    service.transport().post(request).await.map(ResponseBody::from)
                }
                None => {
                    let ready = std::future::poll_fn(|cx| fallback.poll_ready(cx)).await;
                    let response = match ready {
                        Ok(()) => fallback.call(request).await,
                        Err(never) => Err(never),
                    };
                    response.unwrap_or_else(|never| match never {}).map(ResponseBody::new)
                }
            }
        })
    }
}

/// The body of a request that comes through [`Server`](super::Server)'s layers and to its fallback.
///
/// It ends with an error when the client sends nothing of it for 60 s while it is waited for. (Not so at the
/// transport's endpoints: [`Builder::body_timeout`](crate::Builder::body_timeout) is theirs.)
///
/// ```
/// use std::convert::Infallible;
///
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
/// use mcp_sse::{RequestBody, ResponseBody, Server};
///
/// async fn echo(request: Request<RequestBody>) -> Result<Response<ResponseBody>, Infallible> {
///     let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
///     Ok(Response::new(body.into()))
/// }
///
/// let server = Server::new().fallback(tower::service_fn(echo));
/// # drop(server);
/// ```
pub struct RequestBody {
    body: Incoming,
    silence: Option<Silence>,
}

/// Waits for the client.
#[derive(Default)]
struct Silence(Option<Pin<Box<Sleep>>>);

impl RequestBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, silence: Some(Silence::default()) }
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
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response on its way out through [`Server`](super::Server)'s layers: of any type, boxed.
///
/// A layer that answers itself makes one of a text, of bytes or of [another body](Self::new); the default is
/// empty.
///
/// ```
/// use http::Response;
/// use mcp_sse::ResponseBody;
///
/// let refusal: Response<ResponseBody> = Response::new("Unauthorized".into());
/// assert_eq!(http_body::Body::size_hint(refusal.body()).exact(), Some(12));
/// ```
#[derive(Default)]
pub struct ResponseBody(Kind);

enum Kind {
    Transport(Body),
    Other(UnsyncBoxBody<Bytes, BoxError>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Transport(Body::empty())
    }
}

impl ResponseBody {
    /// Of a body of any type.
    ///
    /// ```
    /// let body = mcp_sse::ResponseBody::new(http_body_util::Full::<bytes::Bytes>::from("text"));
    /// # drop(body);
    /// ```
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Other(body.map_err(Into::into).boxed_unsync()))
    }
}

impl From<Body> for ResponseBody {
    fn from(body: Body) -> Self {
        Self(Kind::Transport(body))
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes))
    }
}

impl From<String> for ResponseBody {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for ResponseBody {
    fn from(text: &'static str) -> Self {
        Body::text(text).into()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Transport(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Kind::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Transport(body) => body.is_end_stream(),
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Transport(body) => body.size_hint(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}
