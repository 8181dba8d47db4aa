//! A remote server that speaks Streamable HTTP: rmcp's client transport, used at the level of messages.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use rmcp::{
    model::ServerJsonRpcMessage,
    transport::common::client_side_sse::ExponentialBackoff,
    transport::streamable_http_client::{
        StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    original,
    posting::{Headers, Listening, Posting, TRIES, Trouble},
    server::Remote,
    transport::{Outgoing, split},
};
use crate::backend::Failure;

/// What a client gets for a session that the server does not know.
type Expired = StreamableHttpError<reqwest::Error>;

/// How long sends in progress may take when the server does not know the session any more.
const LAST_SENDS: Duration = Duration::from_secs(2);
/// How long a server may take to open the stream on which it asks, before it gets more. Some say nothing there until they ask.
const OPENS: Duration = Duration::from_millis(500);
/// Messages that may wait for `notifications/initialized`.
const HELD_MESSAGES: usize = 16;

/// Connects when the first message is sent.
pub(super) fn open(remote: &Remote, headers: HeaderMap) -> (HttpSink, HttpSource) {
    let headers = Headers::new(headers);
    let trouble = Arc::new(Mutex::new(None));
    let lost = Arc::<Lost>::default();
    let stateless = Arc::<AtomicBool>::default();
    let listening = Listening::new(lost.found.clone());
    let client = Posting {
        client: remote.client.clone(),
        headers: headers.clone(),
        trouble: Arc::clone(&trouble),
        message_bytes: remote.message_bytes,
        listening: listening.clone(),
        stateless: Arc::clone(&stateless),
    };
    let mut config = StreamableHttpClientTransportConfig::with_uri(remote.url.as_str());
    config.allow_stateless = true;
    // A session that is gone is made anew elsewhere, with all that belongs to it.
    config.reinit_on_expired_session = false;
    config.max_concurrent_requests = remote.requests_in_flight;
    config.retry_config = Arc::new(resumes());
    // Beyond the requests, leaves room for cancellations and answers.
    let transport = StreamableHttpClientTransport::with_client(client, config);
    let (sender, receiver, transport) = split(transport, remote.requests_in_flight.saturating_add(64));
    let (answers, own) = mpsc::channel(16);
    let sends = TaskTracker::new();
    let sink = HttpSink {
        remote: remote.clone(),
        headers,
        sender,
        answers,
        trouble: Arc::clone(&trouble),
        sends: sends.clone(),
        lost: Arc::clone(&lost),
        handshake: Handshake::None,
        listening,
        stateless: Arc::clone(&stateless),
    };
    (sink, HttpSource { name: remote.name(), receiver, own, trouble, sends, lost, stateless, transport })
}

/// A broken stream is resumed, but not for ever: callers wait for the answers.
fn resumes() -> ExponentialBackoff {
    let mut retries = ExponentialBackoff::default();
    retries.max_times = Some(TRIES as usize);
    retries.base_duration = Duration::from_millis(250);
    retries.max_delay = Some(Duration::from_secs(2));
    retries
}

pub(crate) struct HttpSink {
    remote: Remote,
    headers: Headers,
    sender: mpsc::Sender<Outgoing>,
    /// Error answers to requests that the server did not accept.
    answers: mpsc::Sender<Message>,
    trouble: Trouble,
    /// The sends in progress.
    sends: TaskTracker,
    lost: Arc<Lost>,
    handshake: Handshake,
    listening: Listening,
    stateless: Arc<AtomicBool>,
}

/// Whether the server does not know the session any more, and what it has refused for that reason.
#[derive(Default)]
struct Lost {
    found: CancellationToken,
    untaken: Mutex<Vec<Message>>,
}

/// rmcp takes the message after `initialize` for `notifications/initialized`.
enum Handshake {
    /// No `initialize` yet.
    None,
    /// The messages that wait for `notifications/initialized`, with their headers.
    Awaited(VecDeque<(Message, HeaderMap)>),
    /// The stream is being opened on which the server asks what belongs to no answer; what is sent before may be asked about in
    /// vain.
    Opens,
    /// All messages are sent at once.
    Over,
}

impl HttpSink {
    pub(super) async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        if !self.remote.headers_from_client.is_empty() {
            self.headers.set(self.remote.headers_for(incoming.parts()));
        }
        let headers = self.remote.headers_of_message(incoming.parts());
        let message = incoming.message;
        match &mut self.handshake {
            Handshake::None if message.method() == Some("initialize") => {
                self.handshake = Handshake::Awaited(VecDeque::new());
            }
            Handshake::Awaited(held) if message.method() == Some("notifications/initialized") => {
                let held = std::mem::take(held);
                self.handshake = Handshake::Opens;
                self.post(message, headers).await?;
                if !held.is_empty() {
                    self.listens().await;
                }
                for (message, headers) in held {
                    self.post(message, headers).await?;
                }
                return Ok(());
            }
            Handshake::Awaited(held) => {
                match message.kind() {
                    // A ping is allowed this early, and the client may wait for the answer before it goes on.
                    MessageKind::Request { id, method } if &**method == "ping" => {
                        if let Ok(pong) = Message::result(id, &serde_json::Map::new()) {
                            let _ = self.answers.send(pong).await;
                        }
                    }
                    MessageKind::Request { id, .. } if held.len() >= HELD_MESSAGES => {
                        let error =
                            Message::error(id, -32000, "too many requests before notifications/initialized");
                        let _ = self.answers.send(error).await;
                    }
                    _ if held.len() >= HELD_MESSAGES => {
                        tracing::warn!("too many messages before notifications/initialized; one was dropped");
                    }
                    _ => held.push_back((message, headers)),
                }
                return Ok(());
            }
            Handshake::Opens => self.listens().await,
            Handshake::None | Handshake::Over => {}
        }
        self.post(message, headers).await
    }

    /// Waits until the server can ask, for a moment.
    async fn listens(&mut self) {
        if !self.stateless.load(Ordering::Acquire) {
            let _ = timeout(OPENS, self.listening.tried()).await;
        }
        self.handshake = Handshake::Over;
    }

    /// The transport ends the session on the server only after `notifications/initialized`; if the client left without
    /// sending it, it is sent here.
    pub(super) async fn end(mut self) {
        if matches!(self.handshake, Handshake::Awaited(_))
            && let Ok(initialized) =
                Message::parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        {
            let headers = self.headers.get();
            let _ = self.post(initialized, headers).await;
        }
    }

    async fn post(&mut self, message: Message, headers: HeaderMap) -> Result<(), Failure> {
        let id = match message.kind() {
            MessageKind::Request { id, .. } => Some(id.clone()),
            _ => None,
        };
        let typed = match original::enclose(&message, headers) {
            Ok(typed) => typed,
            Err(error) => {
                if let Some(id) = id {
                    let text = format!("this request cannot be sent over Streamable HTTP: {error}");
                    let _ = self.answers.send(Message::error(&id, -32600, &text)).await;
                }
                return Ok(());
            }
        };
        let (sent, result) = oneshot::channel();
        let name = self.remote.name();
        let closed = || Failure::new(format!("the session with {name} is over"));
        self.sender.send(Outgoing { message: typed, sent }).await.map_err(|_| closed())?;
        let (answers, trouble, lost) =
            (self.answers.clone(), Arc::clone(&self.trouble), Arc::clone(&self.lost));
        // Takes as long as the server takes to answer, and must not delay other messages. Ends with the transport.
        self.sends.spawn(async move {
            let Ok(Err(error)) = result.await else { return };
            if error.contains(&Expired::SessionExpired.to_string()) {
                lost.untaken.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                lost.found.cancel();
                return;
            }
            // rmcp drops the causes of this one; they were noted when it occurred.
            let noted = trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let error = noted.filter(|_| error.starts_with("Client error")).unwrap_or(error);
            tracing::warn!("{name} did not accept a message: {error}");
            if let Some(id) = id {
                let text = format!("{name} did not accept the request: {error}");
                let _ = answers.send(Message::error(&id, -32000, &text)).await;
            }
        });
        Ok(())
    }
}

pub(crate) struct HttpSource {
    name: String,
    receiver: mpsc::Receiver<ServerJsonRpcMessage>,
    own: mpsc::Receiver<Message>,
    trouble: Trouble,
    sends: TaskTracker,
    lost: Arc<Lost>,
    stateless: Arc<AtomicBool>,
    transport: JoinHandle<()>,
}

impl HttpSource {
    /// Whether the server has answered `initialize` without a session.
    pub(super) fn is_stateless(&self) -> bool {
        self.stateless.load(Ordering::Acquire)
    }

    /// The messages that the server has refused since it did not know the session any more.
    pub(super) async fn untaken(&mut self) -> Vec<Message> {
        if self.lost.found.is_cancelled() {
            // The others will be refused too.
            self.sends.close();
            let _ = timeout(LAST_SENDS, self.sends.wait()).await;
        }
        std::mem::take(&mut *self.lost.untaken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the transport has deleted the session, for which it has its own timeout.
    pub(super) async fn end(mut self) {
        self.receiver.close();
        let _ = self.transport.await;
    }

    pub(super) async fn recv(&mut self) -> Result<Message, Failure> {
        loop {
            let message: Option<ServerJsonRpcMessage> = tokio::select! {
                biased;
                Some(answer) = self.own.recv() => return Ok(answer),
                () = self.lost.found.cancelled() => {
                    return Err(Failure::new(format!("{} does not know the session any more", self.name)));
                }
                message = self.receiver.recv() => message,
            };
            let Some(message) = message else {
                // The sends in progress have failed too, and their errors say why.
                self.sends.close();
                tokio::select! {
                    biased;
                    Some(answer) = self.own.recv() => return Ok(answer),
                    () = self.sends.wait() => {}
                }
                if let Ok(answer) = self.own.try_recv() {
                    return Ok(answer);
                }
                let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
                let why = trouble.map(|why| format!(": {why}")).unwrap_or_default();
                return Err(Failure::new(format!("the session with {} ended{why}", self.name)));
            };
            if let Some(broken) = broken(&message) {
                let text = format!("the connection to {} broke before the answer", self.name);
                tracing::warn!("{text}");
                return Ok(Message::error(&broken, -32000, &text));
            }
            match original::unwrap(&message) {
                Some(message) => return Ok(message),
                None => tracing::warn!("a message from {} could not be written as JSON-RPC", self.name),
            }
        }
    }
}

/// The request that rmcp gives up on, because the stream with its response is gone.
fn broken(message: &ServerJsonRpcMessage) -> Option<RequestId> {
    let ServerJsonRpcMessage::Error(error) = message else { return None };
    error.error.data.as_ref()?.get("io.modelcontextprotocol/transportClosed")?;
    error.id.as_ref().map(request_id)
}

fn request_id(id: &rmcp::model::NumberOrString) -> RequestId {
    match id {
        rmcp::model::NumberOrString::Number(id) => RequestId::from(*id),
        rmcp::model::NumberOrString::String(id) => RequestId::from(&**id),
    }
}
