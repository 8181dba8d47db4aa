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
    Inner, SseServerTransport,
    answer::{self, Refused},
};
use crate::{
    admission::{self, CorsHeaders, Gate, Names},
    auth::Authenticate,
    body::{Body, BoxError},
    future::ResponseFuture,
    session::driver::Common,
};

/// A layer that puts the transport's checks of `Host` and `Origin`, and its authenticator, in front of another service;
/// created by [`SseServerTransport::guard`]. Or only an authenticator: see [`GuardLayer::authenticate`].
#[derive(Clone, Debug)]
pub struct GuardLayer {
    gate: Gate,
    cors: bool,
    /// Who is told of refusals.
    common: Option<Arc<Common>>,
}

/// A service behind a transport's checks of `Host` and `Origin`, and behind its authenticator; created by
/// [`GuardLayer`].
///
/// A request that does not pass gets 421, 403 or the authenticator's answer, and does not reach the inner service. With
/// [`Builder::cors`](crate::Builder::cors), preflights are answered with 204, and responses to pages of other
/// origins get CORS headers.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    service: S,
    checks: GuardLayer,
}

impl SseServerTransport {
    /// A tower layer that checks `Host` and `Origin` as the transport does, for another service on the same
    /// port, such as Streamable HTTP. It answers preflights and adds CORS headers if [`cors`] is on. If there is an
    /// [authenticator](crate::Builder::authenticate), requests that pass have their
    /// [`Principal`](crate::Principal) and [`Grant`](crate::Grant) in their extensions; that a session belongs to its
    /// principal, and ends with the grant, is for the service.
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
        let Inner { gate, cors, common, .. } = &*self.inner;
        GuardLayer { gate: gate.clone(), cors: *cors, common: Some(Arc::clone(common)) }
    }
}

impl GuardLayer {
    /// A layer that only asks an authenticator, for services that no transport stands beside, or for several
    /// transports behind one layer. What passes has its [`Principal`](crate::Principal) and [`Grant`](crate::Grant) in
    /// its extensions; a transport behind it takes both from there.
    ///
    /// It checks neither `Host` nor `Origin`; a transport behind it does. A layer that answers preflights, such as
    /// tower-http's `CorsLayer`, belongs in front of it, as preflights have no credentials.
    ///
    /// ```
    /// use mcp_sse::{Authenticate, Authentication, Denial, GuardLayer, SseServerTransport};
    /// use tower::{Layer, ServiceExt}; // for `oneshot`
    ///
    /// struct Nobody;
    ///
    /// impl Authenticate for Nobody {
    ///     fn authenticate(&self, _head: &http::request::Parts) -> Authentication {
    ///         Err(Denial::unauthorized(http::HeaderValue::from_static("Bearer"))).into()
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let messages = GuardLayer::authenticate(Nobody).layer(sse.handle_post_message());
    ///
    /// let post = http::Request::post("http://localhost/messages/").body(String::new())?;
    /// assert_eq!(messages.oneshot(post).await?.status(), 401);
    /// # Ok(())
    /// # }
    /// ```
    pub fn authenticate(authenticator: impl Authenticate) -> Self {
        Self {
            gate: Gate::new(Names::unprotected()).with(Arc::new(authenticator)),
            cors: false,
            common: None,
        }
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
    S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Infallible>,
    S::Future: Send + 'static,
    A: Send + 'static,
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
        let GuardLayer { gate, cors, common } = &self.checks;
        let (parts, body) = request.into_parts();
        if let Some(headers) = cors.then(|| admission::preflight(&gate.names, &parts)).flatten() {
            return ResponseFuture::new(ready(answer::preflight(headers)));
        }
        let names = Arc::clone(&gate.names);
        let cors = cors.then(|| CorsHeaders::of(&names, &parts)).flatten();
        let entry = gate.enter(parts);
        let common = common.clone();
        // The one that is ready, as tower asks for it; its clone is for the next request.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        ResponseFuture::new(async move {
            let entered =
                entry.wait().await.and_then(|entered| entered.check_names(&names).map(|()| entered.parts));
            let mut response = match entered {
                Ok(parts) => {
                    let response = service.call(Request::from_parts(parts, body)).await.map_err(Into::into);
                    response.unwrap_or_else(|never: Infallible| match never {}).map(Body::new)
                }
                Err(rejection) => answer::refusal(common.as_deref(), Refused::Other, rejection),
            };
            if let Some(cors) = cors {
                cors.add_to(response.headers_mut());
            }
            response
        })
    }
}
