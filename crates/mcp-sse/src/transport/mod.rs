//! `SseServerTransport`: the two requests (GET opens a stream, POST brings a message), the sessions from
//! outside, and the way down.

mod error;
mod get;
pub(crate) mod post;
mod shutdown;

pub use self::{error::ConfigError, shutdown::Shutdown};

use std::sync::Arc;

use http::{Request, Response, request::Parts};

use crate::{
    Builder, Message, Principal, SendError, Session, SessionHandle, SessionId,
    admission::{self, Guarded, Names, Rejection},
    body::Body,
    endpoint::{EndpointPath, Mount},
    limits::Limits,
    service::{ConnectSse, HandlePostMessage},
    session::{
        CloseReason,
        shared::{Shared, StartApp},
    },
    sessions::{Owner, Registry, SessionPlace},
};

/// Serves MCP clients over HTTP+SSE: `GET` opens a stream, `POST` takes the client's messages.
///
/// Cheap to clone; clones are the same transport. When the last one and the last service made from it
/// are dropped, its sessions end.
///
/// See the [crate's documentation](crate) for an example.
///
/// ```
/// use mcp_sse::SseServerTransport;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sse = SseServerTransport::new("/messages/")?;
/// let same = sse.clone();
///
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// let (_stream, _session) = sse.connect(&get);
/// assert_eq!(same.session_count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SseServerTransport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Arc<EndpointPath>,
    mount: Mount,
    names: Names,
    cors: bool,
    limits: Arc<Limits>,
    sessions: Arc<Sessions>,
}

/// The sessions of a transport and of those [beside](SseServerTransport::beside) it; dropped with the last.
#[derive(Debug)]
struct Sessions {
    registry: Arc<Registry>,
}

impl SseServerTransport {
    /// A transport with default settings, whose clients post to `endpoint`, a relative path such as
    /// `/messages/`. A missing leading slash is added.
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// let error = SseServerTransport::new("https://example.com/messages/").unwrap_err();
    /// assert!(error.to_string().contains("expected a relative path"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Endpoint`] if it is a full URL, a network-path reference (`//host/…`), or has a
    /// query, a fragment, dot segments or control characters.
    pub fn new(endpoint: &str) -> Result<Self, ConfigError> {
        Self::builder(endpoint).build()
    }

    /// A transport with settings of your own.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// // What is wrong shows when it is built.
    /// let builder = SseServerTransport::builder("/messages/").max_sessions(0);
    /// assert!(builder.build().is_err());
    /// ```
    pub fn builder(endpoint: &str) -> Builder {
        Builder::new(endpoint)
    }

    pub(crate) fn from_parts(
        endpoint: EndpointPath,
        mount: Mount,
        names: Names,
        cors: bool,
        limits: Limits,
    ) -> Self {
        let sessions = Arc::new(Sessions { registry: Registry::new() });
        let (endpoint, limits) = (Arc::new(endpoint), Arc::new(limits));
        Self { inner: Arc::new(Inner { endpoint, mount, names, cors, limits, sessions }) }
    }

    /// A transport at another endpoint that shares this one's settings, bounds and sessions: several MCP
    /// servers in one process, whose sessions count together and shut down together. A session belongs to
    /// the endpoint that it was opened for; at another it does not exist.
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let git = SseServerTransport::builder("/git/messages/").max_sessions(100).build()?;
    /// let time = git.beside("/time/messages/")?;
    ///
    /// let get = http::Request::get("http://localhost/time/sse").body(())?;
    /// let (_stream, _session) = time.connect(&get);
    /// assert_eq!(git.session_count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Endpoint`], as with [`new`](Self::new).
    pub fn beside(&self, endpoint: &str) -> Result<Self, ConfigError> {
        let Inner { mount, names, cors, limits, sessions, .. } = &*self.inner;
        let inner = Inner {
            endpoint: Arc::new(EndpointPath::parse(endpoint)?),
            mount: mount.clone(),
            names: names.clone(),
            cors: *cors,
            limits: Arc::clone(limits),
            sessions: Arc::clone(sessions),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The service for `GET`: opens a stream and, at the client's first message, runs `app` with the
    /// session, in a task of its own. A client that connects and says nothing costs no app.
    ///
    /// The app should end when its input ends. One that goes on is dropped after
    /// [`Builder::app_grace`].
    ///
    /// Mount it at a path with `route_service`, not `nest_service`: where the router is nested, the
    /// prefix is what the router took off the path (feature `axum`).
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
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
        let start: StartApp = Arc::new(move |session| crate::session::spawn_app(session, Arc::clone(&app)));
        ConnectSse::new(self.clone(), start)
    }

    /// The service for `POST`: takes the clients' messages. Mount it at the endpoint.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// # use mcp_sse::SseServerTransport;
    /// use tower::ServiceExt; // for `oneshot`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    /// As axum does, if `sse_path` does not begin with a slash, is no valid route, or is the endpoint
    /// itself.
    #[cfg(feature = "axum")]
    pub fn router<S, A, F>(&self, sse_path: &str, app: A) -> axum::Router<S>
    where
        S: Clone + Send + Sync + 'static,
        A: Fn(Session) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        axum::Router::new()
            .route_service(sse_path, self.connect_sse(app))
            .route_service(self.inner.endpoint.as_str(), self.handle_post_message())
    }

    #[cfg(feature = "server")]
    pub(crate) fn endpoint(&self) -> &str {
        self.inner.endpoint.as_str()
    }

    #[cfg(feature = "server")]
    pub(crate) fn body_timeout(&self) -> std::time::Duration {
        self.inner.limits.body_timeout
    }

    /// What [`connect_sse`](Self::connect_sse) is made of, for those without a closure: answers a request
    /// for a stream and, if it opened a session, gives the session to run. (A request that resumes gives
    /// none: its session runs already.)
    ///
    /// Dropping the session ends it. Needs a tokio runtime with time enabled.
    ///
    /// ```
    /// # use mcp_sse::SseServerTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::new("/messages/")?;
    ///
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let (response, session) = sse.connect(&get);
    /// assert_eq!(response.status(), 200);
    /// assert!(session.is_some());
    ///
    /// let post = http::Request::post("http://localhost/sse").body(())?;
    /// let (response, session) = sse.connect(&post);
    /// assert_eq!(response.status(), 405);
    /// assert!(session.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect<B>(&self, request: &Request<B>) -> (Response<Body>, Option<Session>) {
        let mut session = None;
        let (parts, ()) = head(request).into_parts();
        let response = self.connect_with(&parts, false, None, |opened| session = Some(Session::new(opened)));
        (response, session)
    }

    /// What [`handle_post_message`](Self::handle_post_message) is made of: answers a request that brings
    /// a message.
    ///
    /// Cancel safe: a request given up before its answer has either been queued or had no effect.
    ///
    /// ```
    /// # use mcp_sse::SessionId;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(mut session)) = sse.connect(&get) else { panic!("refused") };
    /// let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// let post = |id: SessionId| {
    ///     http::Request::post(format!("http://localhost/messages/?session_id={}", id.expose_hex()))
    ///         .header("content-type", "application/json")
    ///         .body(json.to_owned())
    /// };
    /// assert_eq!(sse.post(post(session.id())?).await.status(), 202);
    /// assert_eq!(session.recv().await.unwrap().message.as_str(), json);
    ///
    /// let unknown = SessionId::parse("00000000000000000000000000000000").unwrap();
    /// assert_eq!(sse.post(post(unknown)?).await.status(), 404);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn post<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body,
    {
        let (parts, body) = request.into_parts();
        if let Some(preflight) = self.preflight(&parts) {
            return preflight;
        }
        // Only a page's request pays for the copy.
        let page = self.wants_cors(&parts).then(|| parts.clone());
        let mut response = post::answer(self.try_post(parts, body).await);
        if let Some(parts) = page {
            admission::cors::finish(&self.inner.names, &parts, &mut response);
        }
        response
    }

    /// Checks `Host` and `Origin` of a request for another service on the same port, Streamable HTTP say, as
    /// for the transport's own, and answers preflights if [`cors`](Builder::cors) is on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// let (parts, ()) = http::Request::get("http://evil.example/mcp").body(())?.into_parts();
    /// let refusal = sse.guard(&parts).unwrap_err();
    /// assert_eq!(refusal.status(), 421);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The response to send instead: 421, 403, or the answer to a preflight (204).
    #[allow(clippy::result_large_err, reason = "the response is what the caller returns")]
    pub fn guard(&self, parts: &Parts) -> Result<Guarded, Response<Body>> {
        if let Some(preflight) = self.preflight(parts) {
            return Err(preflight);
        }
        admission::admit_other(parts, &self.inner.names).map_err(Rejection::into_response)?;
        Ok(Guarded::new(self.inner.cors, parts))
    }

    /// Whether the answer has headers that other answers do not have.
    pub(crate) fn wants_cors(&self, parts: &Parts) -> bool {
        self.inner.cors && parts.headers.contains_key(http::header::ORIGIN)
    }

    /// Takes a place among [`max_sessions`](Builder::max_sessions) for a session of another kind, over
    /// Streamable HTTP say, until it is dropped. `None`: all are taken, or the transport is shut down. Others
    /// make room for it as for a new session of ours; see [`SessionPlace`] for how it makes room itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = mcp_sse::SseServerTransport::builder("/messages/").max_sessions(1).build()?;
    /// let place = sse.take_place().expect("nobody is there");
    /// assert!(sse.take_place().is_none() && !sse.has_room());
    /// drop(place);
    /// assert!(sse.has_room());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_place(&self) -> Option<SessionPlace> {
        self.take_place_for(&http::Extensions::new())
    }

    /// The same for the client whose request has these extensions: its [`ClientIp`](crate::ClientIp) and its
    /// [`Principal`] say whose session it is, for the bounds per address and per principal.
    ///
    /// ```
    /// # use mcp_sse::{ClientIp, SseServerTransport};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::builder("/messages/").max_sessions_per_address(1).build()?;
    /// let mut request = http::Request::new(());
    /// request.extensions_mut().insert(ClientIp("192.0.2.7".parse()?));
    ///
    /// let place = sse.take_place_for(request.extensions());
    /// assert!(place.is_some() && sse.take_place_for(request.extensions()).is_none());
    /// assert!(sse.has_room() && !sse.has_room_for(request.extensions()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_place_for(&self, client: &http::Extensions) -> Option<SessionPlace> {
        let Inner { limits, sessions, .. } = &*self.inner;
        sessions.registry.take_place(&Owner::of(client), limits).ok()
    }

    /// Whether a new session would be taken now: the transport is not shut down, and at no cap, or another
    /// session would make room.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// assert!(sse.has_room());
    /// sse.shutdown(std::time::Duration::ZERO).await;
    /// assert!(!sse.has_room());
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_room(&self) -> bool {
        self.has_room_for(&http::Extensions::new())
    }

    /// The same for the client whose request has these extensions, with the bounds that are its own; see
    /// [`take_place_for`](Self::take_place_for).
    ///
    /// ```
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// assert!(sse.has_room_for(&http::Extensions::new()));
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    pub fn has_room_for(&self, client: &http::Extensions) -> bool {
        let Inner { limits, sessions, .. } = &*self.inner;
        sessions.registry.has_room(&Owner::of(client), limits)
    }

    /// The open sessions.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get) else { panic!("refused") };
    /// for session in sse.sessions() {
    ///     println!("{} is {:?} old", session.id(), session.info().age);
    /// }
    /// assert_eq!(sse.sessions()[0].id(), session.id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.inner.sessions.registry.all().into_iter().map(SessionHandle::new).collect()
    }

    /// Handles of the open sessions of this endpoint, without those of transports that stand
    /// [beside](Self::beside) it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let other = sse.beside("/other/messages/")?;
    /// let (_stream, _session) = sse.connect(&get);
    /// assert_eq!((sse.sessions().len(), other.sessions().len()), (1, 1));
    /// assert_eq!((sse.own_sessions().len(), other.own_sessions().len()), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn own_sessions(&self) -> Vec<SessionHandle> {
        let all = self.inner.sessions.registry.all().into_iter();
        let own = all.filter(|session| Arc::ptr_eq(&session.endpoint, &self.inner.endpoint));
        own.map(SessionHandle::new).collect()
    }

    /// How many sessions are open.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get) else { panic!("refused") };
    /// assert_eq!(sse.session_count(), 1);
    /// drop(session);
    /// assert_eq!(sse.session_count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn session_count(&self) -> usize {
        self.inner.sessions.registry.len()
    }

    /// How many sessions are open in which nothing was said: no POST has brought a message yet.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let (_stream, _session) = sse.connect(&get);
    /// assert_eq!((sse.session_count(), sse.silent_session_count()), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn silent_session_count(&self) -> usize {
        self.inner.sessions.registry.silent()
    }

    /// The open session with this id; `None` if there is none, or it is closed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get) else { panic!("refused") };
    /// let id = session.id();
    /// assert!(sse.session(id).is_some());
    /// drop(session);
    /// assert!(sse.session(id).is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn session(&self, id: SessionId) -> Option<SessionHandle> {
        self.inner.sessions.registry.get(id).map(SessionHandle::new)
    }

    /// Sends a message to all sessions that are open now, as [`SessionHandle::send`] does: it is handed over
    /// when this returns, also if nobody polls the future. No session waits for another.
    ///
    /// The future ends when the message is in every session's queue, and says for which sessions that failed.
    /// Those whose queue is full are waited for, at most until they are closed as stalled.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// use mcp_sse::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (stream, _session) = sse.connect(&get);
    /// let json = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    /// for (session, error) in sse.send_to_all(&Message::parse(json)?).await {
    ///     eprintln!("{}: {error}", session.id());
    /// }
    /// # let events = stream.into_body().frame().await.unwrap()?.into_data().unwrap();
    /// # let events = std::str::from_utf8(&events)?;
    /// assert!(events.contains(json));
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_to_all(
        &self,
        message: &Message,
    ) -> impl Future<Output = Vec<(SessionHandle, SendError)>> + Send + use<> {
        let sends: Vec<_> = self
            .sessions()
            .into_iter()
            .map(|session| {
                let send = session.send(message.clone());
                (session, send)
            })
            .collect();
        async move {
            let mut failed = Vec::new();
            for (session, send) in sends {
                if let Err(error) = send.await {
                    failed.push((session, error));
                }
            }
            failed
        }
    }

    /// The session, if it is this request's principal's, and its client's by the headers that say so.
    fn find(&self, id: SessionId, parts: &Parts) -> Result<Arc<Shared>, Rejection> {
        let session = self
            .inner
            .sessions
            .registry
            .get(id)
            .filter(|session| {
                Arc::ptr_eq(&session.endpoint, &self.inner.endpoint)
                    && session.principal.as_ref() == parts.extensions.get::<Principal>()
            })
            .ok_or(Rejection::SessionNotFound)?;
        if let Some(bound) = session.bound.get() {
            bound.check(&parts.headers).map_err(|_| Rejection::OtherIdentity)?;
        }
        Ok(session)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.registry.refuse_new();
        for session in self.registry.all() {
            session.close(CloseReason::Shutdown);
        }
    }
}

/// The head of a request, without its body.
fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    head.method_mut().clone_from(request.method());
    head.uri_mut().clone_from(request.uri());
    *head.version_mut() = request.version();
    head.headers_mut().clone_from(request.headers());
    head.extensions_mut().clone_from(request.extensions());
    head
}
