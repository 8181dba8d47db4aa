//! The two services. They are thin: what they do is in `transport`.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response, request::Parts};
use tower_service::Service;

use crate::{BoundHeaders, SseServerTransport, body::Body, session::shared::StartApp};

/// The service for `GET`; made by [`SseServerTransport::connect_sse`].
///
/// It never fails: a refused request is a response. Generic over the request's body, which it does not
/// read.
///
/// ```
/// use mcp_sse::{ConnectSse, SseServerTransport};
/// use tower::ServiceExt; // for `oneshot`
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = SseServerTransport::new("/messages/")?;
/// let service: ConnectSse = sse.connect_sse(|_session| async {});
///
/// // A page that rebinds its name to this address is refused.
/// let get = http::Request::get("http://evil.example/sse").body(())?;
/// assert_eq!(service.oneshot(get).await?.status(), 421);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ConnectSse {
    transport: SseServerTransport,
    start_app: StartApp,
    resume_only: bool,
    bound: Arc<[HeaderName]>,
}

/// The service for `POST`; made by [`SseServerTransport::handle_post_message`].
///
/// It never fails: a refused request is a response. Generic over the request's body.
///
/// ```
/// use mcp_sse::{HandlePostMessage, SseServerTransport};
/// use tower::ServiceExt; // for `oneshot`
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = SseServerTransport::new("/messages/")?;
/// let service: HandlePostMessage = sse.handle_post_message();
///
/// // It takes messages as JSON, and nothing else.
/// let post = http::Request::post("http://localhost/messages/").body("hello".to_owned())?;
/// assert_eq!(service.oneshot(post).await?.status(), 400);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HandlePostMessage {
    transport: SseServerTransport,
}

impl ConnectSse {
    pub(crate) fn new(transport: SseServerTransport, start_app: StartApp) -> Self {
        Self { transport, start_app, resume_only: false, bound: Arc::default() }
    }

    /// Opens no new sessions: a client goes on in the one it has ([`Last-Event-ID`]), or gets 404. For a
    /// server whose time is over, until its last session ends.
    ///
    /// ```
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// let service = sse.connect_sse(|_session| async {}).resume_only();
    /// let get = http::Request::get("http://localhost/sse").body(())?;
    /// assert_eq!(service.oneshot(get).await?.status(), 404);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Last-Event-ID`]: https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header
    #[must_use]
    pub fn resume_only(mut self) -> Self {
        self.resume_only = true;
        self
    }

    /// Headers that say who the client of a session is, such as `X-User` from a proxy that has asked. The
    /// first request of a session that bears one decides its value: the `GET`, or a `POST` if the client
    /// cannot send headers there. A later request with another value gets 403, and nothing of it is taken.
    /// One without the header gets it: [`Incoming::parts`] has it for each message.
    ///
    /// Not for what a client renews while its session goes on, such as a token that expires.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// let service = sse.connect_sse(|_session| async {}).bind_headers([HeaderName::from_static("x-user")]);
    /// let get = http::Request::get("http://localhost/sse").header("x-user", "alice").body(())?;
    /// let _stream = service.oneshot(get).await?;
    ///
    /// let post = |user: &str| {
    ///     http::Request::post(format!("http://localhost/messages/?session_id={}", sse.sessions()[0].id().expose_hex()))
    ///         .header("content-type", "application/json")
    ///         .header("x-user", user)
    ///         .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned())
    /// };
    /// assert_eq!(sse.post(post("mallory")?).await.status(), 403);
    /// assert_eq!(sse.post(post("alice")?).await.status(), 202);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Incoming::parts`]: crate::Incoming::parts
    #[must_use]
    pub fn bind_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.bound = names.into_iter().collect();
        self
    }

    pub(crate) fn connect(&self, parts: &Parts) -> Response<Body> {
        self.transport.connect_with(parts, self.resume_only, Some(self.start_app.clone()), |session| {
            if !self.bound.is_empty() {
                let bound = BoundHeaders::new(self.bound.iter().cloned());
                // Nothing is bound yet, so nothing is refused.
                let _ = bound.check(&parts.headers);
                let _ = session.bound.set(bound);
            }
        })
    }
}

impl HandlePostMessage {
    pub(crate) fn new(transport: SseServerTransport) -> Self {
        Self { transport }
    }

    #[cfg(feature = "server")]
    pub(crate) fn transport(&self) -> &SseServerTransport {
        &self.transport
    }
}

impl fmt::Debug for ConnectSse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectSse").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for ConnectSse {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        ready(Ok(self.connect(&parts)))
    }
}

impl<B> Service<Request<B>> for HandlePostMessage
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let transport = self.transport.clone();
        Box::pin(async move { Ok(transport.post(request).await) })
    }
}
