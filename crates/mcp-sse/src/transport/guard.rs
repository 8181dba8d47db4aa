//! The transport's checks for other services on the same port, as a tower layer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    SseServerTransport,
    answer::{self, Refused},
};
use crate::{
    admission::{self, CorsHeaders, Names},
    body::Body,
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
{
    type Response = Response<GuardBody<B>>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let GuardLayer { names, cors } = &self.checks;
        let (parts, body) = request.into_parts();
        if let Some(headers) = cors.then(|| admission::preflight(names, &parts)).flatten() {
            return GuardFuture::refused(answer::preflight(headers));
        }
        if let Err(rejection) = names.check(&parts.uri, &parts.headers) {
            return GuardFuture::refused(answer::refusal(Refused::Other, rejection));
        }
        let cors = cors.then(|| CorsHeaders::of(names, &parts)).flatten();
        GuardFuture {
            state: State::Passed { future: self.service.call(Request::from_parts(parts, body)), cors },
        }
    }
}

pin_project! {
    /// The future of a [`Guard`].
    #[derive(Debug)]
    pub struct GuardFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjected]
    #[derive(Debug)]
    enum State<F> {
        Refused { response: Option<Response<Body>> },
        Passed {
            #[pin]
            future: F,
            cors: Option<CorsHeaders>,
        },
    }
}

impl<F> GuardFuture<F> {
    fn refused(response: Response<Body>) -> Self {
        Self { state: State::Refused { response: Some(response) } }
    }
}

impl<F, B, E> Future for GuardFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjected::Refused { response } => {
                // Only empty if the future is polled after it completed, where this one must not panic
                // either.
                let response = response.take().unwrap_or_else(|| Response::new(Body::empty()));
                Poll::Ready(Ok(response.map(GuardBody::refusal)))
            }
            StateProjected::Passed { future, cors } => {
                let mut response = ready!(future.poll(cx))?;
                if let Some(cors) = cors.take() {
                    cors.add_to(response.headers_mut());
                }
                Poll::Ready(Ok(response.map(GuardBody::passed)))
            }
        }
    }
}

pin_project! {
    /// The body of a response of a [`Guard`]: that of the inner service, or a refusal.
    #[derive(Debug)]
    pub struct GuardBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjected]
    #[derive(Debug)]
    enum Kind<B> {
        Refusal {
            #[pin]
            body: Body,
        },
        Passed {
            #[pin]
            body: B,
        },
    }
}

impl<B> GuardBody<B> {
    fn refusal(body: Body) -> Self {
        Self { kind: Kind::Refusal { body } }
    }

    fn passed(body: B) -> Self {
        Self { kind: Kind::Passed { body } }
    }
}

impl<B> http_body::Body for GuardBody<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjected::Refusal { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            KindProjected::Passed { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Refusal { body } => body.is_end_stream(),
            Kind::Passed { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Refusal { body } => body.size_hint(),
            Kind::Passed { body } => body.size_hint(),
        }
    }
}
