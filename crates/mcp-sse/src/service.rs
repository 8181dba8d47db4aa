//! The two tower services and their constructors: thin wrappers around `transport`.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response, request::Parts};
use tower_service::Service;

use crate::{
    body::Body,
    future::ResponseFuture,
    session::{Session, driver::StartApp, spawn_app},
    transport::{SseServerTransport, get::Opening},
};

impl SseServerTransport {
    /// The service for `GET`: opens a stream and, at the client's first message, runs `app` with the session
    /// in a new task. For a client that connects and posts no message, no app is started.
    ///
    /// The app should return when its input ends. If it does not, it is dropped after
    /// [`Builder::app_grace`](crate::Builder::app_grace).
    ///
    /// In axum, mount it with `route_service`, not `nest_service`: the mount prefix is found by what a nested
    /// router stripped from the path (feature `axum`).
    ///
    /// Needs a tokio runtime with time enabled.
    ///
    /// ```
    /// use mcp_sse::{Session, SseServerTransport};
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// async fn app(mut session: Session) {
    ///     while let Some(_incoming) = session.recv().await {}
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let service = sse.connect_sse(app);
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let stream = service.oneshot(get).await?;
    /// assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_sse<A, F>(&self, app: A) -> ConnectSse
    where
        A: Fn(Session) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let app = Arc::new(app);
        let start: StartApp = Arc::new(move |driver| spawn_app(driver, Arc::clone(&app)));
        ConnectSse::new(self.clone(), start)
    }

    /// The service for `POST`: accepts messages from clients. Mount it at the endpoint.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// # use mcp_sse::SseServerTransport;
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let mut stream = sse.connect_sse(|_| std::future::pending()).oneshot(get).await?.into_body();
    /// # let event = stream.frame().await.unwrap()?.into_data().unwrap();
    /// # let event = String::from_utf8(event.to_vec())?;
    /// // The first event of the stream says where to post.
    /// let uri = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    /// assert!(uri.starts_with("/messages/?session_id="));
    ///
    /// let post = http::Request::post(uri)
    ///     .header("host", "localhost:8000")
    ///     .header("content-type", "application/json")
    ///     .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned())?;
    /// let answer = sse.handle_post_message().oneshot(post).await?;
    /// assert_eq!(answer.status(), 202);
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle_post_message(&self) -> HandlePostMessage {
        HandlePostMessage::new(self.clone())
    }

    /// Both endpoints as one axum router: the stream at `sse_path`, messages at the endpoint.
    ///
    /// ```
    /// # use mcp_sse::{Session, SseServerTransport};
    /// # use tower::ServiceExt;
    /// # async fn app(_: Session) {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sse = SseServerTransport::new("/messages/")?;
    /// let router: axum::Router = sse.router("/sse", app);
    /// # let get = || http::Request::get("http://localhost/sse").body(axum::body::Body::empty());
    /// # assert_eq!(router.clone().oneshot(get()?).await?.status(), 200);
    ///
    /// let nested = axum::Router::new().nest("/api", router); // the clients post to /api/messages/
    /// # let get = http::Request::get("http://localhost/api/sse").body(axum::body::Body::empty())?;
    /// # let mut stream = nested.oneshot(get).await?.into_body();
    /// # let event = http_body_util::BodyExt::frame(&mut stream).await.unwrap()?.into_data().unwrap();
    /// # assert!(std::str::from_utf8(&event)?.contains("data: /api/messages/?session_id="));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As axum does, if `sse_path` does not begin with a slash, is not a valid route, or is the same path as
    /// the endpoint.
    #[cfg(feature = "axum")]
    pub fn router<S, A, F>(&self, sse_path: &str, app: A) -> axum::Router<S>
    where
        S: Clone + Send + Sync + 'static,
        A: Fn(Session) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        axum::Router::new()
            .route_service(sse_path, self.connect_sse(app))
            .route_service(self.endpoint(), self.handle_post_message())
    }
}

/// The service for `GET`; created by [`SseServerTransport::connect_sse`].
///
/// It never fails: a refused request gets a response. It is generic over the request's body, which it does
/// not read.
///
/// ```
/// use mcp_sse::{ConnectSse, SseServerTransport};
/// use tower::ServiceExt; // for `oneshot`
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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

/// The service for `POST`; created by [`SseServerTransport::handle_post_message`].
///
/// It never fails: a refused request gets a response. It is generic over the request's body.
///
/// ```
/// use mcp_sse::{HandlePostMessage, SseServerTransport};
/// use tower::ServiceExt; // for `oneshot`
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = SseServerTransport::new("/messages/")?;
/// let service: HandlePostMessage = sse.handle_post_message();
///
/// // It accepts only JSON.
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

    /// Opens no new sessions: a client may only resume its session ([`Last-Event-ID`]), or gets 404. For a
    /// server that is being retired, until its last session ends.
    ///
    /// ```
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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

    /// Binds sessions to the values of headers that identify their clients, such as `X-User` from a proxy
    /// that authenticates.
    ///
    /// The first request of a session that has one of the headers sets its value: the `GET`, or a `POST` if
    /// the client cannot send headers with its `GET`. A later request with another value gets 403. To one
    /// without the header it is added, so that [`Incoming::parts`] has it for each message.
    ///
    /// Do not use it for values that change during a session, such as tokens that expire.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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

    /// Whether a request is for a stream of another replica, which takes time to answer.
    #[cfg(feature = "server")]
    pub(crate) fn leads_elsewhere(&self, parts: &Parts) -> bool {
        self.transport.leads_elsewhere(parts)
    }

    /// Answers a request for a stream.
    pub(crate) async fn connect(&self, parts: Parts) -> Response<Body> {
        let Self { transport, start_app, resume_only, bound } = self;
        let opening = Opening { resume_only: *resume_only, start_app: Some(start_app), bound };
        transport.open_stream(parts, opening).await.0
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
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let this = self.clone();
        ResponseFuture::new(async move { this.connect(parts).await })
    }
}

impl<B> Service<Request<B>> for HandlePostMessage
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let transport = self.transport.clone();
        ResponseFuture::new(async move { transport.post(request).await })
    }
}
