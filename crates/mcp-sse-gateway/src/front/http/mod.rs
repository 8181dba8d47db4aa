//! A session over Streamable HTTP, with rmcp's service and session manager. Where rmcp would run a handler, the
//! messages go to the user's server instead.

mod bodies;
mod figures;
mod room;
mod session;
mod typed;
mod usage;

use std::{borrow::Cow, convert::Infallible, future::ready, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderName, Method, Request, StatusCode, request::Parts};
use http_body_util::Empty;
use mcp_sse::{BoundHeaders, CloseReason, GrantEnd, Principal, SseServerTransport};
use rmcp::{
    RoleServer, ServerHandler,
    model::{ClientJsonRpcMessage, ProtocolVersion, ServerJsonRpcMessage},
    transport::{
        StreamableHttpServerConfig, StreamableHttpService, Transport,
        streamable_http_server::session::{
            ServerSseMessage, SessionId, SessionManager,
            local::{LocalSessionManager, LocalSessionManagerError, SessionError},
        },
    },
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    bodies::Bodies,
    figures::Figures,
    session::{Bounds, HttpReceiver, HttpReply},
};
use self::{bodies::Posted, usage::Usages};
pub(in crate::front) use self::{
    bodies::{Held, Refusal, Share},
    figures::Counted,
    room::Room,
};
use crate::{
    answer::{Answer, answer},
    clock,
    metrics::{Metrics, STREAMABLE_HTTP},
};

tokio::task_local! {
    /// The request that rmcp is answering in this task, for what rmcp does not pass on with a message.
    static REQUEST: InHand;
}

struct InHand {
    parts: Parts,
    posted: Arc<Posted>,
    /// The headers that identify the client of a new session.
    identity: Vec<HeaderName>,
}

/// One server, over Streamable HTTP.
pub(crate) struct Mcp {
    service: StreamableHttpService<WithSessionsOnly, Sessions>,
    usages: Usages,
    bodies: Arc<Bodies>,
}

impl Mcp {
    pub(crate) fn new(sessions: Sessions, bodies: Arc<Bodies>, config: StreamableHttpServerConfig) -> Self {
        let usages = sessions.usages.clone();
        // The bodies that rmcp gets are bounded already.
        let config = config.with_max_request_body_bytes(usize::MAX);
        let service = StreamableHttpService::new(|| Ok(WithSessionsOnly), Arc::new(sessions), config);
        Self { service, usages, bodies }
    }

    /// Whether this principal has a session with this id.
    pub(crate) fn has(&self, id: &str, principal: Option<&Principal>) -> bool {
        self.usages.is_of(id, principal)
    }

    /// Answers a request. Its session is looked up before its body is read. `identity` names the headers that identify
    /// the client, in case the request opens a session.
    pub(crate) async fn handle<B>(&self, request: Request<B>, identity: Vec<HeaderName>) -> Answer
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let (mut parts, body) = request.into_parts();
        let session = match parts.headers.get("mcp-session-id") {
            None => None,
            Some(id) => match id.to_str().ok().and_then(|id| self.usages.find_for(id, &parts.extensions)) {
                Some(session) => Some(session),
                None => return plain(StatusCode::NOT_FOUND, "Not Found: Session not found"),
            },
        };
        if let Some(session) = &session
            && let Err(other) = session.bound().check(&parts.headers)
        {
            tracing::debug!(header = %other.header, "a request with another identity was refused");
            return plain(StatusCode::FORBIDDEN, &other.to_string());
        }
        if parts.method != Method::POST {
            return self.service.handle(Request::from_parts(parts, Empty::<Bytes>::new())).await;
        }
        let posted = Arc::new(Posted::default());
        let in_hand = InHand { parts: parts.clone(), posted: Arc::clone(&posted), identity };
        parts.extensions.insert(Arc::clone(&posted));
        let session = session.map(|session| (session.share(), session.room()));
        let (body, refused) = self.bodies.lazy(body, session, posted);
        let request = Request::from_parts(parts, body);
        let answer = REQUEST.scope(in_hand, self.service.handle(request)).await;
        match refused.get() {
            Some(refusal) => refusal.clone().into_answer(),
            None => answer,
        }
    }
}

/// Why a session has ended that its operator has closed.
pub(crate) const CLOSED_BY_OPERATOR: &str = "closed_by_operator";

fn plain(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text.to_owned())
}

/// Runs a session, of which the beginning of the id is given, and returns why it ended.
type Run = Arc<
    dyn Fn(String, HttpReceiver, HttpReply) -> Pin<Box<dyn Future<Output = &'static str> + Send>>
        + Send
        + Sync,
>;

/// rmcp's session manager, with each session run by us.
pub(crate) struct Sessions {
    inner: LocalSessionManager,
    run: Run,
    bounds: Bounds,
    figures: Arc<Figures>,
    /// The transport under whose caps these sessions count.
    transport: SseServerTransport,
    usages: Usages,
    /// How long a session may be idle; zero: no limit.
    idle_timeout: Duration,
    metrics: Option<Arc<Metrics>>,
}

impl Sessions {
    pub(crate) fn new<F, R>(
        idle_timeout: Duration,
        bounds: Bounds,
        figures: Arc<Figures>,
        transport: SseServerTransport,
        metrics: Option<Arc<Metrics>>,
        run: F,
    ) -> Self
    where
        F: Fn(String, HttpReceiver, HttpReply) -> R + Send + Sync + 'static,
        R: Future<Output = &'static str> + Send + 'static,
    {
        let mut inner = LocalSessionManager::default();
        // `Usages` decides when a session is idle.
        inner.session_config.keep_alive = None;
        // A server may take longer to start; the start timeout is enforced elsewhere.
        inner.session_config.init_timeout = None;
        Self {
            inner,
            run: Arc::new(move |id, receiver, reply| Box::pin(run(id, receiver, reply))),
            bounds,
            figures,
            transport,
            usages: Usages::default(),
            idle_timeout,
            metrics,
        }
    }
}

/// The transport for rmcp's own service: yields no messages, and ends with the session.
pub(crate) struct Silent(CancellationToken);

impl Transport<RoleServer> for Silent {
    type Error = Infallible;

    fn send(
        &mut self,
        _: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        ready(Ok(()))
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.0.cancelled().await;
        None
    }

    async fn close(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = Silent;

    async fn create_session(&self) -> Result<(SessionId, Silent), Self::Error> {
        // Normally refused before this, with a better answer.
        let client = REQUEST.try_with(|request| request.parts.extensions.clone()).unwrap_or_default();
        let place = self.transport.reserve_session(&client).ok_or(SessionError::SessionServiceTerminated)?;
        let (id, transport) = self.inner.create_session().await?;
        let counted = Counted::new(Arc::clone(&self.figures));
        let over = CancellationToken::new();
        let bound = REQUEST.try_with(|request| {
            let bound = BoundHeaders::new(request.identity.iter().cloned());
            // The first check binds the headers, and refuses nothing.
            let _ = bound.check(&request.parts.headers);
            bound
        });
        let bound = bound.unwrap_or_else(|_| BoundHeaders::new([]));
        let (receiver, reply, inlet) =
            session::open(transport, self.bounds, Arc::clone(&self.figures), bound);
        let traffic = reply.traffic();
        // Enough to find the session in the log, too little to use it.
        let short: String = id.chars().take(8).collect();
        let mut run = (self.run)(short.clone(), receiver, reply);
        let (evicted, idle_timeout) = (place.evicted(), self.idle_timeout);
        let usage = self.usages.list(Arc::clone(&id), &client, inlet, place);
        let at_end = over.clone().drop_guard();
        let span = tracing::info_span!("session", id = %format_args!("{short}…"));
        let metrics = self.metrics.clone();
        let session = async move {
            tracing::info!("session opened over Streamable HTTP");
            if let Some(metrics) = &metrics {
                metrics.opened(STREAMABLE_HTTP);
            }
            let start = clock::now();
            let reason = tokio::select! {
                reason = &mut run => reason,
                () = usage.idle_for(idle_timeout) => {
                    traffic.end();
                    run.await;
                    "idle"
                }
                () = evicted => {
                    traffic.end();
                    run.await;
                    CloseReason::Evicted.as_str()
                }
                end = usage.unauthorized() => {
                    traffic.revoke();
                    run.await;
                    match end {
                        GrantEnd::Expired => CloseReason::Expired.as_str(),
                        _ => CloseReason::Unauthorized.as_str(),
                    }
                }
            };
            let reason = match reason {
                _ if counted.is_ended() => CloseReason::Shutdown.as_str(),
                _ if usage.is_deleted() => "ended_by_client",
                reason => reason,
            };
            let (messages_in, messages_out) = traffic.so_far();
            let seconds = start.elapsed().as_secs_f64();
            // Dropped before the line is logged: whoever reads it finds the session gone.
            drop((at_end, counted, usage));
            if let Some(metrics) = &metrics {
                metrics.closed(STREAMABLE_HTTP, reason, start.elapsed());
            }
            tracing::info!(reason, seconds, messages_in, messages_out, "session over Streamable HTTP closed");
        };
        tokio::spawn(tracing::Instrument::instrument(session, span));
        Ok((id, Silent(over)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let _in_use = self.usages.use_it(id);
        // If the client disconnects before it has the answer, nobody knows the session id: the session is ended.
        let abandoned = self.usages.find(id).map(|session| session.end_on_drop());
        let answer = self.inner.initialize_session(id, message).await?;
        abandoned.map(tokio_util::sync::DropGuard::disarm);
        Ok(answer)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.usages.deleted(id);
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let in_use = self.usages.use_it(id);
        Ok(in_use.with(self.inner.create_stream(id, message).await?))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        let _in_use = self.usages.use_it(id);
        if matches!(message, ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_)) {
            // rmcp would only pass it on, without the request's head.
            let session = self.usages.find(id).ok_or(SessionError::SessionServiceTerminated)?;
            let posted = REQUEST.try_with(|request| (Arc::clone(&request.posted), request.parts.clone()));
            if let Ok((posted, parts)) = posted {
                session.put(&posted, parts);
            }
            return Ok(());
        }
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let in_use = self.usages.use_it(id);
        Ok(in_use.with(self.inner.create_standalone_stream(id).await?))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let in_use = self.usages.use_it(id);
        Ok(in_use.with(self.inner.resume(id, last_event_id).await?))
    }
}

/// Answers requests without a session, as in revision 2026-07-28: supports only the revisions with sessions, so that
/// clients fall back to `initialize`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WithSessionsOnly;

impl ServerHandler for WithSessionsOnly {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        static VERSIONS: std::sync::LazyLock<Vec<ProtocolVersion>> = std::sync::LazyLock::new(|| {
            let known = ProtocolVersion::KNOWN_VERSIONS.iter();
            known.filter(|version| **version < ProtocolVersion::V_2026_07_28).cloned().collect()
        });
        Cow::Borrowed(&VERSIONS)
    }
}
