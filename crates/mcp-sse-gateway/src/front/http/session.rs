//! The two halves of a session over Streamable HTTP.
//!
//! Invariant: messages from the client are always received from rmcp, if only to refuse them. rmcp's session does one
//! thing at a time: if it blocked on handing one over, it would not accept the server's messages either, and a server
//! that waits for that would not read the client's. That is a deadlock.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::request::Parts;
use mcp_sse::{BoundHeaders, Incoming, Message, MessageKind, RequestId};
use rmcp::{
    model::{ClientJsonRpcMessage, GetExtensions as _, ServerJsonRpcMessage},
    transport::{Transport as _, streamable_http_server::session::local::SessionTransport},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{bodies::Posted, figures::Figures, room::Room, typed::typed};
use crate::front::{Gone, Receive, Reply};

/// Messages that a server may send before it has answered `initialize`.
const EARLY_MESSAGES: usize = 64;
/// Messages that wait for the server, in addition to the requests in flight. Their bytes are bounded by [`Room`].
const WAITING_MESSAGES: usize = 256;
/// Messages that are being handed to rmcp. The server's are handed over one by one; the rest are refusals.
const SENDS: usize = 64;
/// The error code that SDKs use for a closed connection.
const CONNECTION_CLOSED: i32 = -32000;

/// Bounds of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) requests_in_flight: usize,
    /// How long a client may leave messages unread.
    pub(crate) stall_timeout: Duration,
}

/// Yields the client's messages.
pub(crate) struct HttpReceiver {
    queue: mpsc::Receiver<Waiting>,
    shared: Arc<Shared>,
}

/// Sends the server's messages to the client.
pub(crate) struct HttpReply {
    outgoing: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
}

/// A message for the client, and a channel that reports when rmcp has taken it.
struct Outgoing {
    message: ServerJsonRpcMessage,
    sent: oneshot::Sender<()>,
}

/// A way to put messages into a session without rmcp.
#[derive(Clone)]
pub(super) struct Inlet {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Waiting>,
}

/// A message that waits for the server, and the room that it takes.
struct Waiting {
    incoming: Incoming,
    _room: Option<OwnedSemaphorePermit>,
}

impl Inlet {
    /// Queues a response from the client.
    pub(super) fn put(&self, posted: &Posted, mut parts: Parts) {
        let Some(message) = posted.message().cloned() else { return };
        self.shared.bound.add_to(&mut parts.headers);
        if self.shared.accept(message, parts, posted.take_room(), &self.queue).is_err() {
            self.shared.flooded();
        }
    }

    /// The room for messages that wait for the server.
    pub(super) fn room(&self) -> Room {
        self.shared.room.clone()
    }

    /// The headers that identify the client.
    pub(super) fn bound(&self) -> &BoundHeaders {
        &self.shared.bound
    }

    /// Ends the session, as if the client were gone, when the guard is dropped without being disarmed.
    pub(super) fn end_on_drop(&self) -> DropGuard {
        self.shared.closed.clone().drop_guard()
    }
}

/// The message counts of a session.
pub(super) struct Traffic(Arc<Shared>);

impl Traffic {
    /// Ends the session. Its client is still told that what it waits for has no answer.
    pub(super) fn end(&self) {
        self.0.ending.cancel();
    }

    /// The same, and what the client has sent before does not count any more.
    pub(super) fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
        self.end();
    }

    /// Messages from the client, and to it.
    pub(super) fn so_far(&self) -> (u64, u64) {
        (self.0.messages_in.load(Ordering::Relaxed), self.0.messages_out.load(Ordering::Relaxed))
    }
}

struct Shared {
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bounds: Bounds,
    state: Mutex<State>,
    /// The room for messages that wait for the server.
    room: Room,
    closed: CancellationToken,
    /// It is to end, but the client is still there.
    ending: CancellationToken,
    /// What the client's requests were let in by does not count any more.
    revoked: AtomicBool,
    figures: Arc<Figures>,
    bound: BoundHeaders,
}

#[derive(Default)]
struct State {
    /// Requests from the client that are not answered yet.
    pending: HashSet<RequestId>,
    /// Whether `initialize` is answered. rmcp takes the first message for that answer, so earlier ones are held back.
    initialized: bool,
    early: Vec<Message>,
}

pub(super) fn open(
    transport: SessionTransport,
    bounds: Bounds,
    figures: Arc<Figures>,
    bound: BoundHeaders,
) -> (HttpReceiver, HttpReply, Inlet) {
    let shared = Arc::new(Shared {
        messages_in: AtomicU64::new(0),
        messages_out: AtomicU64::new(0),
        bounds,
        state: Mutex::default(),
        room: Room::default(),
        closed: CancellationToken::new(),
        ending: CancellationToken::new(),
        revoked: AtomicBool::new(false),
        figures,
        bound,
    });
    let (outgoing, for_client) = mpsc::channel(1);
    let (for_server, queue) = mpsc::channel(bounds.requests_in_flight + WAITING_MESSAGES);
    let inlet = Inlet { shared: Arc::clone(&shared), queue: for_server.clone() };
    let carry = carry(transport, for_client, for_server, Arc::clone(&shared));
    tokio::spawn(tracing::Instrument::instrument(carry, tracing::Span::current()));
    (HttpReceiver { queue, shared: Arc::clone(&shared) }, HttpReply { outgoing, shared }, inlet)
}

/// Drives rmcp's side of the session until either side ends.
async fn carry(
    mut transport: SessionTransport,
    mut outgoing: mpsc::Receiver<Outgoing>,
    queue: mpsc::Sender<Waiting>,
    shared: Arc<Shared>,
) {
    // Cancels rmcp's session on return, whatever it is doing.
    let _end = transport.cancel_token().drop_guard();
    let _closed = shared.closed.clone().drop_guard();
    let mut sends = JoinSet::new();
    loop {
        tokio::select! {
            next = outgoing.recv(), if sends.len() < SENDS => {
                let Some(Outgoing { message, sent }) = next else { return };
                let send = transport.send(message);
                sends.spawn(async move {
                    // A failure means that the message's stream is gone, which does not end the session.
                    let _ = send.await;
                    let _ = sent.send(());
                });
            }
            Some(_) = sends.join_next(), if !sends.is_empty() => {}
            received = transport.receive() => {
                let Some(message) = received else { return };
                match shared.take(message, &queue) {
                    Ok(None) => {}
                    Ok(Some(refusal)) if sends.len() < 2 * SENDS => {
                        let send = transport.send(refusal);
                        sends.spawn(async move { drop(send.await) });
                    }
                    Ok(Some(_)) | Err(Flood) => return shared.flooded(),
                }
            }
        }
    }
}

/// Counts a request as answered when it is dropped.
struct Answered(Arc<Figures>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.answered(1);
    }
}

/// More messages than can be queued or refused.
struct Flood;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flooded(&self) {
        tracing::warn!("the client sends faster than its server reads; its session ends");
        self.closed.cancel();
    }

    /// Queues a message from rmcp, as it was posted, or returns the refusal for the client.
    fn take(
        &self,
        mut message: ClientJsonRpcMessage,
        queue: &mpsc::Sender<Waiting>,
    ) -> Result<Option<ServerJsonRpcMessage>, Flood> {
        let (parts, posted) = self.parts_of(&mut message);
        let Some(message) = posted.as_ref().and_then(|posted| posted.message()).cloned() else {
            tracing::warn!("a message from the client came without its bytes; it was dropped");
            return Ok(None);
        };
        let room = posted.and_then(|posted| posted.take_room());
        self.accept(message, parts, room, queue)
    }

    /// Queues a message for the server, or returns the refusal for the client.
    fn accept(
        &self,
        message: Message,
        parts: Parts,
        room: Option<OwnedSemaphorePermit>,
        queue: &mpsc::Sender<Waiting>,
    ) -> Result<Option<ServerJsonRpcMessage>, Flood> {
        if let MessageKind::Request { id, .. } = message.kind() {
            let mut state = self.state();
            let full = state.pending.len() >= self.bounds.requests_in_flight;
            if full || state.pending.contains(id) {
                let text = if full { "too many requests in flight" } else { "this id is still in flight" };
                let refusal = Message::error(id, CONNECTION_CLOSED, &format!("{text}; try again later"));
                return Ok(typed(&refusal).ok());
            }
            state.pending.insert(id.clone());
            self.figures.request();
        }
        if let Some(id) = message.cancelled_id() {
            // A server does not answer a cancelled request.
            drop(self.answered(&id));
        }
        self.messages_in.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { incoming: Incoming::new(message, parts), _room: room };
        queue.try_send(waiting).map_err(|_| Flood)?;
        Ok(None)
    }

    fn parts_of(&self, message: &mut ClientJsonRpcMessage) -> (Parts, Option<Arc<Posted>>) {
        let mut parts = match message {
            ClientJsonRpcMessage::Request(request) => request.request.extensions_mut().remove::<Parts>(),
            ClientJsonRpcMessage::Notification(note) => note.notification.extensions_mut().remove::<Parts>(),
            ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => None,
        };
        let posted = parts.as_mut().and_then(|parts| parts.extensions.remove::<Arc<Posted>>());
        let mut parts = parts.unwrap_or_else(|| http::Request::new(()).into_parts().0);
        self.bound.add_to(&mut parts.headers);
        (parts, posted)
    }

    /// Resolves when the client is gone, or when this session or all of them are to end.
    async fn over(&self) {
        tokio::select! {
            () = self.closed.cancelled() => {}
            () = self.ending.cancelled() => {}
            () = self.figures.end.cancelled() => {}
        }
    }

    /// Frees the request's place among those in flight; the figures count it as answered when the returned value is
    /// dropped.
    fn answered(&self, id: &RequestId) -> Option<Answered> {
        self.state().pending.remove(id).then(|| Answered(Arc::clone(&self.figures)))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let left = self.state().pending.len();
        self.figures.answered(left);
    }
}

impl Receive for HttpReceiver {
    async fn recv(&mut self) -> Option<Incoming> {
        if self.shared.revoked.load(Ordering::Acquire) {
            return None;
        }
        tokio::select! {
            biased;
            waiting = self.queue.recv() => Some(waiting?.incoming),
            () = self.shared.over() => None,
        }
    }
}

impl HttpReply {
    pub(super) fn traffic(&self) -> Traffic {
        Traffic(Arc::clone(&self.shared))
    }

    async fn hand_over(&self, message: &Message) -> Result<(), Gone> {
        let typed = match typed(message) {
            Ok(typed) => typed,
            Err(error) => {
                tracing::warn!(%error, "a message from the server cannot be sent over Streamable HTTP");
                // The client gets an error if it waits for an answer; it does not wait for notifications.
                let MessageKind::Response { id: Some(id), .. } = message.kind() else { return Ok(()) };
                let text = format!("the server's answer cannot be sent over Streamable HTTP: {error}");
                let told = Message::error(id, -32603, &text);
                serde_json::from_slice(told.as_bytes()).map_err(|_| Gone)?
            }
        };
        let (sent, taken) = oneshot::channel();
        let send = async {
            self.outgoing.send(Outgoing { message: typed, sent }).await.map_err(|_| Gone)?;
            taken.await.map_err(|_| Gone)
        };
        timeout(self.shared.bounds.stall_timeout, send).await.unwrap_or_else(|_| {
            tracing::info!("the client did not read; its session ends");
            self.shared.closed.cancel();
            Err(Gone)
        })
    }
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
                tracing::warn!(
                    "the server sent too many messages before it answered initialize; one was dropped"
                );
                Vec::new()
            }
        };
        for message in ready {
            // Before the client gets the answer, since its next request may come at once.
            let answered = match message.kind() {
                MessageKind::Response { id: Some(id), .. } => self.shared.answered(id),
                _ => None,
            };
            self.hand_over(&message).await?;
            self.shared.messages_out.fetch_add(1, Ordering::Relaxed);
            drop(answered);
        }
        Ok(())
    }

    async fn fail(&self, text: &str) {
        if self.shared.closed.is_cancelled() {
            return;
        }
        let pending: Vec<_> = self.shared.state().pending.iter().cloned().collect();
        for id in pending {
            let _answered = self.shared.answered(&id);
            if self.hand_over(&Message::error(&id, CONNECTION_CLOSED, text)).await.is_err() {
                break;
            }
        }
        self.shared.closed.cancel();
    }

    async fn closed(&self) {
        self.shared.over().await;
    }

    async fn idle(&self) {}
}
