//! The transport's checks for other services on the same port, as a tower layer.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    SseServerTransport,
    answer::{self, Refused},
};
use crate::{
    admission::{self, CorsHeaders, Names},
    body::{Body, BoxError},
    future::ResponseFuture,
};

/// A layer that puts the transport's checks of `Host` and `Origin` in front of another service; created by
/// [`SseServerTransport::guard`].
#[derive(Clone, Debug)]
pub struct GuardLayer {
    names: Arc<Names>,
    cors: bool,
}

/// A service behind a transport's checks of `Host` and `Origin`; created by [`GuardLayer`].
///
/// A request that does not pass gets 421 or 403 and does not reach the inner service. With
/// [`Builder::cors`](crate::Builder::cors), preflights are answered with 204, and responses to pages of other
/// origins get CORS headers.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    service: S,
    checks: GuardLayer,
}

impl SseServerTransport {
    /// A tower layer that checks `Host` and `Origin` as the transport does, for another service on the same
    /// port, such as Streamable HTTP. It answers preflights and adds CORS headers if [`cors`] is on.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt}; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// let service = tower::service_fn(|_request: http::Request<String>| async {
    ///     Ok::<_, std::convert::Infallible>(http::Response::new("for our users only".to_owned()))
    /// });
    /// let guarded = sse.guard().layer(service);
    ///
    /// let get = http::Request::get("http://evil.example/mcp").body(String::new())?;
    /// assert_eq!(guarded.oneshot(get).await?.status(), 421);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`cors`]: crate::Builder::cors
    pub fn guard(&self) -> GuardLayer {
        GuardLayer { names: Arc::clone(&self.inner.names), cors: self.inner.cors }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, service: S) -> Guard<S> {
        Guard { service, checks: self.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Guard<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let GuardLayer { names, cors } = &self.checks;
        let (parts, body) = request.into_parts();
        if let Some(headers) = cors.then(|| admission::preflight(names, &parts)).flatten() {
            return ResponseFuture::new(ready(answer::preflight(headers)));
        }
        if let Err(rejection) = names.check(&parts.uri, &parts.headers) {
            return ResponseFuture::new(ready(answer::refusal(Refused::Other, rejection)));
        }
        let cors = cors.then(|| CorsHeaders::of(names, &parts)).flatten();
        let response = self.service.call(Request::from_parts(parts, body));
        ResponseFuture::new(async move {
            let response = response.await.map_err(Into::into);
            let mut response = response.unwrap_or_else(|never: Infallible| match never {}).map(Body::new);
            if let Some(cors) = cors {
                cors.add_to(response.headers_mut());
            }
            response
        })
    }
}
