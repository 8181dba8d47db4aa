//! A session over Streamable HTTP: rmcp's service and its sessions, at the level of messages. Where rmcp would
//! run a handler, the messages go to a server of the user's instead.

use std::{
    borrow::Cow,
    collections::HashSet,
    convert::Infallible,
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_core::Stream;
use http::request::Parts;
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use rmcp::{
    RoleServer, ServerHandler,
    model::{ClientJsonRpcMessage, GetExtensions as _, ProtocolVersion, ServerJsonRpcMessage},
    transport::{
        Transport,
        streamable_http_server::session::{
            ServerSseMessage, SessionId, SessionManager,
            local::{LocalSessionManager, LocalSessionManagerError},
        },
    },
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Gone, Receive, Reply};
use crate::transport::{Outgoing, Receiver, Sender, split};

/// Messages that a server may send before it has answered `initialize`.
const EARLY_MESSAGES: usize = 64;
/// The code that SDKs use for a connection that closed.
const CONNECTION_CLOSED: i32 = -32000;

/// What runs a session.
type Run = Arc<dyn Fn(HttpReceiver, HttpReply) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Bounds of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) requests_in_flight: usize,
    /// How long a client may leave unread what waits for it.
    pub(crate) stall_timeout: Duration,
}

/// rmcp's sessions, each run by us.
pub(crate) struct Sessions {
    inner: LocalSessionManager,
    run: Run,
    bounds: Bounds,
    figures: Arc<Figures>,
}

/// All sessions of this program over Streamable HTTP.
#[derive(Debug)]
pub(crate) struct Figures {
    open: watch::Sender<usize>,
    requests: watch::Sender<usize>,
    end: CancellationToken,
}

impl Default for Figures {
    fn default() -> Self {
        Self { open: watch::Sender::new(0), requests: watch::Sender::new(0), end: CancellationToken::new() }
    }
}

impl Figures {
    pub(crate) fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Resolves when no request of a client is in flight.
    pub(crate) async fn no_requests(&self) {
        let _ = self.requests.subscribe().wait_for(|requests| *requests == 0).await;
    }

    /// Ends all sessions, after what was sent in them.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }

    /// Resolves when no session is open.
    pub(crate) async fn no_sessions(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Sessions {
    pub(crate) fn new<F, R>(idle_timeout: Duration, bounds: Bounds, figures: Arc<Figures>, run: F) -> Self
    where
        F: Fn(HttpReceiver, HttpReply) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = (!idle_timeout.is_zero()).then_some(idle_timeout);
        // A server that has just been started may take its time.
        inner.session_config.init_timeout = None;
        Self { inner, run: Arc::new(move |receiver, reply| Box::pin(run(receiver, reply))), bounds, figures }
    }
}

/// One session in the count, until it is dropped.
struct Counted(Arc<Figures>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// What rmcp's service gets in place of the session's messages: nothing, until the session is over.
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
        let (id, transport) = self.inner.create_session().await?;
        self.figures.open.send_modify(|open| *open += 1);
        let counted = Counted(Arc::clone(&self.figures));
        let over = CancellationToken::new();
        let (sender, receiver, _) = split::<RoleServer, _>(transport);
        let (receiver, reply) = pair(sender, receiver, self.bounds, Arc::clone(&self.figures));
        let run = (self.run)(receiver, reply);
        let at_end = over.clone().drop_guard();
        // Enough of it to find it again, and too little to use it.
        let short: String = id.chars().take(8).collect();
        let span = tracing::info_span!("session", id = format!("{short}…"));
        let session = async move {
            tracing::info!("session opened over Streamable HTTP");
            run.await;
            tracing::info!("session over Streamable HTTP closed");
            drop((at_end, counted));
        };
        tokio::spawn(tracing::Instrument::instrument(session, span));
        Ok((id, Silent(over)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_stream(id, message).await
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.resume(id, last_event_id).await
    }
}

/// What answers requests without a session: those of revision 2026-07-28. It knows the revisions with
/// sessions only, so clients go on with `initialize`.
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

/// The client's messages.
pub(crate) struct HttpReceiver {
    receiver: Receiver<RoleServer>,
    shared: Arc<Shared>,
}

/// Takes the server's messages.
pub(crate) struct HttpReply {
    shared: Arc<Shared>,
}

struct Shared {
    sender: Sender<RoleServer>,
    bounds: Bounds,
    state: Mutex<State>,
    closed: CancellationToken,
    figures: Arc<Figures>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let left = self.state().pending.len();
        self.figures.requests.send_modify(|requests| *requests -= left);
    }
}

#[derive(Default)]
struct State {
    /// Requests of the client that are not answered.
    pending: HashSet<RequestId>,
    /// rmcp takes the first message for the answer to `initialize`; what comes before is kept until then.
    initialized: bool,
    early: Vec<Message>,
}

fn pair(
    sender: Sender<RoleServer>,
    receiver: Receiver<RoleServer>,
    bounds: Bounds,
    figures: Arc<Figures>,
) -> (HttpReceiver, HttpReply) {
    let (state, closed) = (Mutex::default(), CancellationToken::new());
    let shared = Arc::new(Shared { sender, bounds, state, closed, figures });
    (HttpReceiver { receiver, shared: Arc::clone(&shared) }, HttpReply { shared })
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, id: &RequestId) {
        if self.state().pending.remove(id) {
            self.figures.requests.send_modify(|requests| *requests -= 1);
        }
    }

    async fn send(&self, message: &Message) -> Result<(), Gone> {
        let typed = match serde_json::from_slice::<ServerJsonRpcMessage>(message.as_bytes()) {
            Ok(typed) => typed,
            Err(error) => {
                tracing::warn!(%error, "a message of the server has no form that Streamable HTTP knows");
                // Whoever waits for it is told; nobody waits for a notification.
                let MessageKind::Response { id: Some(id), .. } = message.kind() else { return Ok(()) };
                let text = format!("the server's answer has no form that Streamable HTTP knows: {error}");
                let told = Message::error(id, -32603, &text);
                serde_json::from_slice(told.as_bytes()).map_err(|_| Gone)?
            }
        };
        let (sent, result) = oneshot::channel();
        let send = async {
            self.sender.send(Outgoing { message: typed, sent }).await.map_err(|_| Gone)?;
            // That one message could not be delivered (its stream is gone) is no end of the session.
            result.await.map(drop).map_err(|_| Gone)
        };
        timeout(self.bounds.stall_timeout, send).await.unwrap_or_else(|_| {
            tracing::info!("the client did not read; its session ends");
            self.closed.cancel();
            Err(Gone)
        })
    }
}

impl Receive for HttpReceiver {
    async fn recv(&mut self) -> Option<Incoming> {
        loop {
            let Some(mut message) = self.receiver.recv().await else {
                self.shared.closed.cancel();
                return None;
            };
            let parts = parts_of(&mut message);
            let parsed = serde_json::to_vec(&message).ok().and_then(|json| Message::parse(json).ok());
            let Some(message) = parsed else {
                tracing::warn!("a message of the client cannot be written as JSON-RPC");
                continue;
            };
            if let MessageKind::Request { id, .. } = message.kind() {
                let full = {
                    let mut state = self.shared.state();
                    let full = state.pending.len() >= self.shared.bounds.requests_in_flight;
                    let full = full || !state.pending.insert(id.clone());
                    if !full {
                        self.shared.figures.requests.send_modify(|requests| *requests += 1);
                    }
                    full
                };
                if full {
                    let text = "too many requests in flight, or one with the same id; try again later";
                    let _ = self.shared.send(&Message::error(id, CONNECTION_CLOSED, text)).await;
                    continue;
                }
            }
            return Some(Incoming::new(message, parts));
        }
    }
}

fn parts_of(message: &mut ClientJsonRpcMessage) -> Parts {
    let parts = match message {
        ClientJsonRpcMessage::Request(request) => request.request.extensions_mut().remove::<Parts>(),
        ClientJsonRpcMessage::Notification(note) => note.notification.extensions_mut().remove::<Parts>(),
        ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => None,
    };
    parts.unwrap_or_else(|| http::Request::new(()).into_parts().0)
}

impl Reply for HttpReply {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        let ready = {
            let mut state = self.shared.state();
            state.initialized |= matches!(message.kind(), MessageKind::Response { .. });
            if state.initialized {
                let mut ready = vec![message];
                ready.append(&mut state.early);
                ready
            } else if state.early.len() < EARLY_MESSAGES {
                state.early.push(message);
                Vec::new()
            } else {
                tracing::warn!("the server talks before it has answered initialize; a message was dropped");
                Vec::new()
            }
        };
        for message in ready {
            self.shared.send(&message).await?;
            if let MessageKind::Response { id: Some(id), .. } = message.kind() {
                self.shared.answered(id);
            }
        }
        Ok(())
    }

    async fn fail(&self, text: &str) {
        let pending: Vec<_> = self.shared.state().pending.iter().cloned().collect();
        for id in pending {
            let error = Message::error(&id, CONNECTION_CLOSED, text);
            if self.shared.send(&error).await.is_err() {
                break;
            }
            self.shared.answered(&id);
        }
        self.shared.closed.cancel();
    }

    async fn closed(&self) {
        tokio::select! {
            () = self.shared.closed.cancelled() => {}
            () = self.shared.sender.closed() => {}
            () = self.shared.figures.end.cancelled() => {}
        }
    }
}
