//! `SseServerTransport`: the two requests (GET opens a stream, POST brings a message), access to the sessions
//! from outside, and the shutdown.
//!
//! | room | what lives there |
//! |---|---|
//! | here | the transport, access to its sessions from outside, finding a request's session |
//! | `get`, `post` | what the two requests do |
//! | `answer` | rejections as responses |
//! | `body_reader` | reading a request's body, bounded in size and time |
//! | `room` | closing sessions to make room for others |
//! | `elsewhere`, `host`, `forward` | requests for sessions of other replicas, those that other replicas forward, and what answers both |
//! | `keeping`, `revive` | writing down what sessions need to be revived at another replica, and reviving them |
//! | `permit` | places for sessions of other kinds |
//! | `guard` | the checks for other services on the same port |
//! | `shutdown` | ending all sessions |

pub(crate) mod answer;
mod body_reader;
mod elsewhere;
mod forward;
pub(crate) mod get;
mod guard;
mod host;
mod keeping;
mod permit;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only our server goes the quick way"))]
pub(crate) mod post;
mod revive;
mod room;
mod shutdown;

pub use self::{
    guard::{Guard, GuardLayer},
    permit::SessionPermit,
    shutdown::ShutdownReport,
};

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};

use self::elsewhere::Elsewhere;

use crate::{
    admission::{self, Admitted, CorsHeaders, Gate, Rejection},
    auth::Authenticate,
    backplane::{Backplane, Host, NotForwarded},
    body::Body,
    endpoint::{EndpointPath, Mount},
    error::ConfigError,
    forwarded::Forwarded,
    id::SessionId,
    limits::Limits,
    message::Message,
    principal::Principal,
    records::Records,
    replica::ReplicaId,
    session::{
        CloseReason, SendError, SessionHandle,
        driver::{Common, Driver, Keeping},
        facts::{Observer, Observers},
        registry::Registry,
    },
};

/// Serves MCP clients over HTTP+SSE: `GET` opens a stream, `POST` accepts the client's messages.
///
/// Cheap to clone; all clones are the same transport. Its sessions end when the last clone and the last
/// service that was created from it are dropped.
///
/// See the [crate's documentation](crate) for an example.
///
/// ```
/// use mcp_sse::SseServerTransport;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let sse = SseServerTransport::new("/messages/")?;
/// let same = sse.clone();
///
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// let (_stream, _session) = sse.connect(&get).await;
/// assert_eq!(same.sessions().len(), 1);
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
    gate: Gate,
    cors: bool,
    common: Arc<Common>,
    ends: Arc<EndsSessions>,
    elsewhere: Option<Elsewhere>,
    /// What other replicas reach, and keeps them reaching it.
    hosts: Option<Hosts>,
}

#[derive(Clone, Debug)]
struct Hosts {
    sessions: Arc<host::Sessions>,
    /// It is held here only.
    _all: Arc<host::All>,
}

/// Ends all sessions when the last of the transports that share it is dropped: a transport, and those created
/// from it by [`with_endpoint`](SseServerTransport::with_endpoint).
#[derive(Debug)]
struct EndsSessions(Arc<Registry<Driver>>);

/// What connects a transport with other replicas.
#[derive(Clone, Default)]
pub(crate) struct Others {
    pub(crate) backplane: Option<Arc<dyn Backplane>>,
    pub(crate) records: Option<Arc<dyn Records>>,
}

/// Where a request's session is.
enum Located {
    Here(Arc<Driver>),
    /// At another replica.
    Elsewhere(ReplicaId),
    /// There is none with this id, or it belongs to another client.
    Nowhere,
}

/// How many sessions a transport has.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// let (_stream, _session) = sse.connect(&get).await; // and no POST
/// let counts = sse.session_counts();
/// assert_eq!((counts.open, counts.silent), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounts {
    /// Open sessions, including the silent ones.
    pub open: usize,
    /// Silent sessions: open ones whose clients have not posted a message yet.
    pub silent: usize,
}

impl SseServerTransport {
    pub(crate) fn from_parts(
        endpoint: EndpointPath,
        mount: Mount,
        gate: Gate,
        cors: bool,
        limits: Limits,
        observer: Option<Arc<dyn Observer>>,
        Others { backplane, records }: Others,
    ) -> Self {
        let registry = Registry::new();
        let common = Arc::new(Common {
            limits: Arc::new(limits),
            registry: Arc::clone(&registry),
            observers: Observers::new(observer),
            replica: backplane.as_ref().map(|backplane| backplane.id().clone()),
            keeping: records.map(Keeping::new),
        });
        let ends = Arc::new(EndsSessions(registry));
        let endpoint = Arc::new(endpoint);
        let hosts = backplane.as_ref().map(|backplane| Hosts::bound(backplane, &common));
        let elsewhere = backplane.map(Elsewhere::new);
        Self::from_inner(Inner { endpoint, mount, gate, cors, common, ends, elsewhere, hosts })
    }

    fn from_inner(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        if let Some(hosts) = &inner.hosts {
            let hosted = Arc::clone(&inner) as Arc<dyn host::Hosted>;
            hosts.sessions.add(Arc::downgrade(&hosted));
        }
        Self { inner }
    }

    /// A transport with another endpoint that shares the settings, limits and sessions of this one.
    ///
    /// It is for several MCP servers in one process: their sessions count together and are shut down
    /// together. A session belongs to the endpoint that it was opened for; at another one it does not exist.
    ///
    /// ```
    /// use mcp_sse::SseServerTransport;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let git = SseServerTransport::builder("/git/messages/").max_sessions(100).build()?;
    /// let time = git.with_endpoint("/time/messages/")?;
    ///
    /// let get = http::Request::get("http://localhost/time/sse").body(())?;
    /// let (_stream, _session) = time.connect(&get).await;
    /// assert_eq!(git.session_counts().open, 1); // of at most 100 for both
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Endpoint`], as with [`new`](Self::new).
    pub fn with_endpoint(&self, endpoint: &str) -> Result<Self, ConfigError> {
        Ok(self.variant(EndpointPath::parse(endpoint)?, self.inner.gate.clone()))
    }

    /// The same endpoint with an authenticator of its own, in place of that of
    /// [`Builder::authenticate`](crate::Builder::authenticate); for one of several servers in a process. Sessions
    /// count together, as with [`with_endpoint`](Self::with_endpoint), and those of this transport do not exist for
    /// the other.
    ///
    /// ```
    /// use mcp_sse::{Authenticate, Authentication, Grant, Principal, SseServerTransport};
    /// # struct Everybody;
    /// # impl Authenticate for Everybody {
    /// #     fn authenticate(&self, _: &http::request::Parts) -> Authentication {
    /// #         Ok(Grant::new(Principal::new("anybody"))).into()
    /// #     }
    /// # }
    /// let git = SseServerTransport::new("/git/messages/")?;
    /// let time = git.with_endpoint("/time/messages/")?.with_authentication(Everybody);
    /// # drop(time);
    /// # Ok::<(), mcp_sse::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_authentication(&self, authenticate: impl Authenticate) -> Self {
        self.variant(
            EndpointPath::clone(&self.inner.endpoint),
            self.inner.gate.clone().with(Arc::new(authenticate)),
        )
    }

    /// A transport that shares the settings, limits and sessions of this one.
    fn variant(&self, endpoint: EndpointPath, gate: Gate) -> Self {
        let Inner { mount, cors, common, ends, elsewhere, hosts, .. } = &*self.inner;
        Self::from_inner(Inner {
            endpoint: Arc::new(endpoint),
            mount: mount.clone(),
            gate,
            cors: *cors,
            common: Arc::clone(common),
            ends: Arc::clone(ends),
            elsewhere: elsewhere.clone(),
            hosts: hosts.clone(),
        })
    }

    #[cfg(any(feature = "axum", feature = "server"))]
    pub(crate) fn endpoint(&self) -> &str {
        self.inner.endpoint.as_str()
    }

    /// Whether the response to this request may need CORS headers.
    #[cfg(feature = "server")]
    pub(crate) fn wants_cors(&self, parts: &Parts) -> bool {
        self.inner.cors && parts.headers.contains_key(http::header::ORIGIN)
    }

    /// The response, if the request is a preflight that CORS allows.
    fn preflight(&self, parts: &Parts) -> Option<Response<Body>> {
        let Inner { gate, cors, .. } = &*self.inner;
        cors.then(|| admission::preflight(&gate.names, parts)).flatten().map(answer::preflight)
    }

    /// The headers that the response needs if the request is from a page of an allowed origin.
    fn cors_headers(&self, parts: &Parts) -> Option<CorsHeaders> {
        let Inner { gate, cors, .. } = &*self.inner;
        cors.then(|| CorsHeaders::of(&gate.names, parts)).flatten()
    }

    /// All open sessions, in no particular order.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// for session in sse.sessions() {
    ///     println!("{} is {:?} old", session.id(), session.info().age);
    /// }
    /// assert_eq!(sse.sessions()[0].id(), session.handle().id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.inner.common.registry.all().into_iter().map(SessionHandle::new).collect()
    }

    /// The open sessions of this endpoint only, without those of transports that share its sessions (see
    /// [`with_endpoint`](Self::with_endpoint)).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// let other = sse.with_endpoint("/other/messages/")?;
    /// let (_stream, _session) = sse.connect(&get).await;
    /// assert_eq!((sse.sessions().len(), other.sessions().len()), (1, 1));
    /// assert_eq!((sse.endpoint_sessions().len(), other.endpoint_sessions().len()), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn endpoint_sessions(&self) -> Vec<SessionHandle> {
        let all = self.inner.common.registry.all().into_iter();
        let own = all.filter(|session| Arc::ptr_eq(&session.endpoint, &self.inner.endpoint));
        own.map(SessionHandle::new).collect()
    }

    /// How many sessions are open, and how many of them are silent. Cheaper than counting
    /// [`sessions`](Self::sessions).
    pub fn session_counts(&self) -> SessionCounts {
        let (open, silent) = self.inner.common.registry.counts();
        SessionCounts { open, silent }
    }

    /// The open session with this id; `None` if there is none, or it has closed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let id = session.handle().id();
    /// assert!(sse.session(id).is_some());
    /// drop(session);
    /// assert!(sse.session(id).is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn session(&self, id: SessionId) -> Option<SessionHandle> {
        self.inner.common.registry.get(id).map(SessionHandle::new)
    }

    /// Sends a message to all sessions that are open now, as [`SessionHandle::send`] does: the message is
    /// sent even if the future is never polled. No session waits for another.
    ///
    /// The future completes when the message is in every session's queue, and returns the sessions for which
    /// that failed. It waits for those whose queue is full, at most until they are closed as stalled.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// use mcp_sse::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (stream, _session) = sse.connect(&get).await;
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

    /// Sends a message to all sessions of all replicas: here as [`send_to_all`](Self::send_to_all) does, and has each other
    /// replica that is known now do the same, once. Without a [backplane](crate::Builder::backplane), only here.
    ///
    /// Nothing is sent before the future is polled. It completes when the message is in every queue here, and every
    /// other replica has answered; it returns the sessions and the replicas for which that failed.
    pub async fn send_to_all_replicas(
        &self,
        message: &Message,
    ) -> (Vec<(SessionHandle, SendError)>, Vec<(ReplicaId, NotForwarded)>) {
        let here = self.send_to_all(message);
        let mut failed = Vec::new();
        let Some(Elsewhere { backplane, .. }) = &self.inner.elsewhere else { return (here.await, failed) };
        let calls: Vec<_> = backplane
            .replicas()
            .into_iter()
            .map(|replica| {
                let mut request = Request::new(Bytes::copy_from_slice(message.as_bytes()));
                *request.method_mut() = http::Method::POST;
                request.extensions_mut().insert(Forwarded::new());
                let backplane = Arc::clone(backplane);
                // All at once: one that is away makes no other one wait.
                tokio::spawn(async move {
                    let answer = backplane.forward(&replica, elsewhere::ALL, request).await;
                    (replica, answer)
                })
            })
            .collect();
        let failed_here = here.await;
        for call in calls {
            match call.await {
                // One that is gone has no sessions.
                Ok((_, Err(NotForwarded::Gone))) | Err(_) => {}
                Ok((replica, Err(why))) => failed.push((replica, why)),
                Ok((replica, Ok(answer))) if answer.status() != StatusCode::ACCEPTED => {
                    failed.push((replica, NotForwarded::Unknown));
                }
                Ok((_, Ok(_))) => {}
            }
        }
        (failed_here, failed)
    }

    /// Finds the session that a request is for, if it belongs to the request's principal. An error if the
    /// bound headers identify another client. Called before anything of a body is read. `at` is the replica that the
    /// client was told.
    fn locate(&self, admitted: &Admitted, id: SessionId, at: Option<&str>) -> Result<Located, Rejection> {
        let Inner { common, endpoint, elsewhere, .. } = &*self.inner;
        let parts = admitted.parts();
        let session = common.registry.get(id).filter(|session| {
            Arc::ptr_eq(&session.endpoint, endpoint)
                && session.principal.as_ref() == parts.extensions.get::<Principal>()
        });
        let Some(session) = session else {
            // What was forwarded is not forwarded again.
            let elsewhere = elsewhere.as_ref().filter(|_| parts.extensions.get::<Forwarded>().is_none());
            let at = elsewhere.and_then(|elsewhere| elsewhere.named(at));
            return Ok(at.map_or(Located::Nowhere, Located::Elsewhere));
        };
        if let Some(bound) = session.bound.get() {
            bound.check(&parts.headers).map_err(|_| Rejection::OtherIdentity)?;
        }
        Ok(Located::Here(session))
    }
}

impl Hosts {
    /// Offers the sessions to other replicas.
    fn bound(backplane: &Arc<dyn Backplane>, common: &Arc<Common>) -> Self {
        let sessions = Arc::new(host::Sessions::new(Arc::clone(common)));
        let all = Arc::new(host::All::new(&sessions));
        let as_host = Arc::clone(&sessions) as Arc<dyn Host>;
        backplane.bind(elsewhere::SESSIONS, Arc::downgrade(&as_host));
        let as_host = Arc::clone(&all) as Arc<dyn Host>;
        backplane.bind(elsewhere::ALL, Arc::downgrade(&as_host));
        Self { sessions, _all: all }
    }
}

impl Drop for EndsSessions {
    fn drop(&mut self) {
        self.0.refuse_new();
        for session in self.0.all() {
            session.close(CloseReason::Shutdown);
        }
    }
}
