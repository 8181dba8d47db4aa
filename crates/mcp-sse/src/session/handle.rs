//! A session as users hold it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    driver::{Driver, Origin, PendingSend},
    error::{CloseReason, SendError},
    incoming::Incoming,
    kept::STATE_BYTES,
};
use crate::{id::SessionId, message::Message, principal::Principal};

/// One client's conversation, for the app that answers it.
///
/// With the feature `rmcp-3` it is rmcp's `Transport<RoleServer>`: pass it to `serve`. In any case it is a
/// `Stream` of [`Incoming`] and a `Sink` of [`Message`], and [`split`](Session::split)s into two halves.
///
/// Dropping it ends the session: unanswered requests get an error, then the stream ends.
///
/// ```
/// # use http_body_util::BodyExt;
/// use mcp_sse::{Message, MessageKind, Session};
///
/// /// Answers every request with an empty result.
/// async fn app(mut session: Session) {
///     while let Some(incoming) = session.recv().await {
///         if let MessageKind::Request { id, .. } = incoming.message.kind() {
///             let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
///             let answer = Message::parse(json).expect("it is JSON-RPC");
///             if session.handle().send(answer).await.is_err() {
///                 break; // the session is closed
///             }
///         }
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
/// # let post = http::Request::post(uri).header("content-type", "application/json");
/// # tokio::spawn(app(session));
/// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
/// # let mut stream = stream.into_body();
/// # let mut events = Vec::new();
/// # while !events.ends_with(b"\"result\":{}}\n\n") {
/// #     events.extend_from_slice(&stream.frame().await.unwrap()?.into_data().unwrap());
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Session {
    pub(super) receiver: SessionReceiver,
    pub(super) handle: SessionHandle,
    /// The message that the `Sink` has sent and that waits for room.
    pub(super) sending: Option<PendingSend>,
}

/// The receiving half of a [`Session`]. Dropping it ends the session.
///
/// ```
/// use futures_util::StreamExt; // it is a `Stream` too
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
/// # let post = http::Request::post(uri).header("content-type", "application/json");
/// let (mut receiver, handle) = session.split();
/// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
/// // The client posted a `ping`.
/// assert_eq!(receiver.next().await.unwrap().message.method(), Some("ping"));
///
/// drop(receiver);
/// assert!(handle.info().closed.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SessionReceiver {
    pub(super) session: Arc<Driver>,
}

/// A handle to send to a session's client, inspect the session and close it. Cheap to clone; does not keep
/// the session open.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// let handle = sse.session(session.handle().id()).unwrap();
/// assert!(handle.info().connected);
///
/// drop(session); // the handle does not keep it open
/// assert!(handle.info().closed.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SessionHandle {
    pub(super) session: Arc<Driver>,
}

/// What a session was revived with (see [`SessionHandle::revived`]).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Revived<'a> {
    /// What its app has [kept](SessionHandle::keep) last.
    pub state: &'a str,
    /// The head of the request that has revived it.
    pub parts: &'a http::request::Parts,
}

/// Why nothing is kept of a session (see [`SessionHandle::keep`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotKept {
    /// The transport has nowhere to keep it, or headers identify the client.
    #[error(
        "sessions are not kept: the transport was built without `revive`, or headers identify its clients, which are not kept"
    )]
    NoRecords,
    /// The text is too long.
    #[error("{bytes} bytes cannot be kept of a session; expected at most {limit}")]
    TooLarge {
        /// The size of the text, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// A snapshot of a session's state and counters.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
/// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
/// # let post = http::Request::post(uri).header("content-type", "application/json");
/// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
/// // The client posted one request, which the app has not taken yet.
/// let info = session.handle().info();
/// assert_eq!((info.messages_in, info.inbound_queued, info.requests_in_flight), (1, 1, 1));
/// assert!(info.connected);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session's id.
    pub id: SessionId,
    /// How long ago the session was opened.
    pub age: Duration,
    /// Whether its stream is open. If not, the session waits for its client to resume.
    pub connected: bool,
    /// Requests from the client that are not answered yet.
    pub requests_in_flight: usize,
    /// Messages from the client that the app has not received yet, including bodies that are being read.
    pub inbound_queued: usize,
    /// Messages from the app that have not left on the stream yet, including those in the backlog.
    pub outbound_queued: usize,
    /// Messages accepted from the client so far.
    pub messages_in: u64,
    /// Their size as JSON, in bytes.
    pub bytes_in: u64,
    /// Messages accepted from the app so far.
    pub messages_out: u64,
    /// Their size as JSON, in bytes.
    pub bytes_out: u64,
    /// How often the client resumed.
    pub resumed: u64,
    /// Why the session closed, if it did.
    pub closed: Option<CloseReason>,
}

impl Session {
    pub(crate) fn new(session: Arc<Driver>) -> Self {
        let handle = SessionHandle { session: Arc::clone(&session) };
        Self { receiver: SessionReceiver { session }, handle, sending: None }
    }

    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.handle.session
    }

    /// The handle to send to the client, inspect the session and close it. Clone it to keep it elsewhere.
    ///
    /// ```
    /// use mcp_sse::{CloseReason, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// session.handle().send(Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)?).await?;
    ///
    /// let handle = session.handle().clone();
    /// tokio::spawn(async move { handle.close() });
    /// assert_eq!(session.handle().closed().await, CloseReason::ClosedByServer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle(&self) -> &SessionHandle {
        &self.handle
    }

    /// Receives the next message from the client; `None` when the session is closed and the queue is empty.
    ///
    /// Cancel safe: a message is taken from the queue only when the future completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(mut session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
    /// // The client posted a `ping`.
    /// assert_eq!(session.recv().await.unwrap().message.method(), Some("ping"));
    ///
    /// session.handle().close();
    /// assert!(session.recv().await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Incoming> {
        self.receiver.recv().await
    }

    /// Splits the session into its receiving half and a handle to send with.
    ///
    /// ```
    /// use mcp_sse::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let (mut receiver, handle) = session.split();
    /// let reading = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    ///
    /// handle.send(Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)?).await?;
    /// handle.close();
    /// reading.await?;
    /// # assert_eq!(handle.info().messages_out, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn split(self) -> (SessionReceiver, SessionHandle) {
        (self.receiver, self.handle)
    }
}

impl SessionReceiver {
    /// Receives the next message from the client; `None` when the session is closed and the queue is empty.
    ///
    /// Cancel safe: a message is taken from the queue only when the future completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
    /// let (mut receiver, handle) = session.split();
    /// handle.close();
    /// // The client posted a `ping` before that; it can still be received.
    /// assert!(receiver.recv().await.is_some());
    /// assert!(receiver.recv().await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|cx| self.session.poll_recv(cx)).await
    }
}

impl Drop for SessionReceiver {
    fn drop(&mut self) {
        self.session.close(CloseReason::AppEnded);
    }
}

impl SessionHandle {
    pub(crate) fn new(session: Arc<Driver>) -> Self {
        Self { session }
    }

    /// The session's id.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let handle = session.handle().clone();
    /// assert_eq!(handle.id().expose_hex().len(), 32);
    /// assert!(sse.session(handle.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn id(&self) -> SessionId {
        self.session.id
    }

    /// The principal that the session belongs to, if the request that opened it had one.
    ///
    /// ```
    /// use mcp_sse::Principal;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse");
    /// let get = get.extension(Principal::new("alice")).body(())?;
    /// let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let handle = session.handle().clone();
    /// assert_eq!(handle.principal(), Some(&Principal::new("alice")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn principal(&self) -> Option<&Principal> {
        self.session.principal.as_ref()
    }

    /// Sends a message to the client.
    ///
    /// The message is sent even if the future is never polled, and messages keep the order of the calls. The
    /// future completes when the message is in the session's queue
    /// ([`Builder::outbound_queue`](crate::Builder::outbound_queue)). While the queue is full, that is when
    /// the client has read enough, or the session is closed as stalled. So an app that awaits each message is
    /// no faster than its client.
    ///
    /// Dropping the future does not unsend the message.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// use mcp_sse::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let handle = session.handle().clone();
    /// let one = handle.send(Message::parse(r#"{"jsonrpc":"2.0","method":"one"}"#)?);
    /// let two = handle.send(Message::parse(r#"{"jsonrpc":"2.0","method":"two"}"#)?);
    /// two.await?;
    /// one.await?;
    /// # let events = stream.into_body().frame().await.unwrap()?.into_data().unwrap();
    /// # let events = std::str::from_utf8(&events)?;
    /// assert!(events.find("one") < events.find("two")); // in the order of the calls
    /// # assert!(events.contains("one"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`]: the session is closed, the message is over the limit, or the backlog of messages that were
    /// sent without waiting is full.
    pub fn send(&self, message: Message) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        self.session.send(message)
    }

    /// Sends a message if there is room in the session's queue now. If there is none, this has no effect; a
    /// request that the message would have answered stays in flight.
    ///
    /// ```
    /// use mcp_sse::{Message, SendError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::builder("/messages/").outbound_queue(1, 1000).build()?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let handle = session.handle(); // with room for one message
    /// let note = Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)?;
    /// handle.try_send(note.clone())?;
    /// assert_eq!(handle.try_send(note), Err(SendError::Full { messages: 1 }));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`]: the queue is full, the session is closed, or the message is over the limit.
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        self.session.try_send(message)
    }

    /// Closes the session: requests in flight get an error, then the stream ends.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// session.handle().close();
    /// assert_eq!(sse.sessions().len(), 0);
    ///
    /// // The stream ends after its first event.
    /// let events = stream.into_body().collect().await?.to_bytes();
    /// assert!(events.starts_with(b"event: endpoint\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.session.close(CloseReason::ClosedByServer);
    }

    /// Closes the session because the app failed ([`CloseReason::AppEnded`]): requests in flight get an error
    /// with this message (code -32000), then the stream ends. Messages that the app has not received yet are
    /// dropped.
    ///
    /// ```
    /// # use http_body_util::BodyExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// # let uri = format!("http://localhost/messages/?session_id={}", session.handle().id().expose_hex());
    /// # let post = http::Request::post(uri).header("content-type", "application/json");
    /// # let json = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    /// # assert_eq!(sse.post(post.body(json.to_owned())?).await.status(), 202);
    /// // The client waits for the answer to a `ping`.
    /// session.handle().close_with_error("the database is gone");
    ///
    /// let events = stream.into_body().collect().await?.to_bytes();
    /// assert!(std::str::from_utf8(&events)?.contains("the database is gone"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_with_error(&self, message: &str) {
        self.session.close_with_error(message);
    }

    /// Resolves when the session is closed, with the reason. Cancel safe.
    ///
    /// ```
    /// use mcp_sse::CloseReason;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let handle = session.handle().clone();
    /// drop(session);
    /// assert_eq!(handle.closed().await, CloseReason::AppEnded);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn closed(&self) -> CloseReason {
        self.session.closed().await
    }

    /// Has the session revived at another replica when this one is gone, and its client comes back there with
    /// `Last-Event-ID`: the app there gets this text with the session (see [`revived`](Self::revived)). It is what the app
    /// needs to go on, such as what the client said in `initialize`: at most 32 KiB. Each call replaces what was kept before.
    /// Sessions for which this was never called end with their replica.
    ///
    /// Requests that have no answer when the replica goes get an error from the one that revives the session, and so do those
    /// whose answer the client does not have yet. What was accepted or answered in the last tenth of a second, or longer
    /// where there is much to write, may not be known there; then the request has no answer.
    ///
    /// # Errors
    ///
    /// [`NotKept`]: there is no [`Builder::revive`](crate::Builder::revive), or
    /// [headers identify the client](crate::ConnectSse::bind_headers), or the text is too long; then the session is not
    /// kept any more, not even as it was.
    pub fn keep(&self, state: impl Into<Arc<str>>) -> Result<(), NotKept> {
        let state = state.into();
        if state.len() > STATE_BYTES {
            self.session.unkeep();
            return Err(NotKept::TooLarge { bytes: state.len(), limit: STATE_BYTES });
        }
        if self.session.keep(state) { Ok(()) } else { Err(NotKept::NoRecords) }
    }

    /// What the session was revived with, if it was at another replica before. Its client goes on as if nothing were: it does
    /// not say `initialize` again. Such an app is started at once, before there is a message.
    pub fn revived(&self) -> Option<Revived<'_>> {
        let Origin { state, parts } = &**self.session.origin.get()?;
        Some(Revived { state, parts })
    }

    /// A snapshot of the session's state and counters.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// # let get = http::Request::get("http://localhost/sse").body(())?;
    /// # let (_stream, Some(session)) = sse.connect(&get).await else { panic!("refused") };
    /// let handle = session.handle().clone();
    /// assert_eq!(handle.info().closed, None);
    /// handle.close();
    /// assert_eq!(handle.info().closed, Some(mcp_sse::CloseReason::ClosedByServer));
    /// # Ok(())
    /// # }
    /// ```
    pub fn info(&self) -> SessionInfo {
        let opened: Instant = self.session.opened;
        self.session.with(|core, now| {
            let (inbound_queued, outbound_queued) = core.queued();
            SessionInfo {
                id: self.session.id,
                age: now.saturating_duration_since(opened),
                connected: core.is_attached(),
                requests_in_flight: core.requests_in_flight(),
                inbound_queued,
                outbound_queued,
                messages_in: core.figures.messages_in,
                bytes_in: core.figures.bytes_in,
                messages_out: core.figures.messages_out,
                bytes_out: core.figures.bytes_out,
                resumed: core.figures.resumed,
                closed: core.close_reason(),
            }
        })
    }
}
