//! Our HTTP client for rmcp's client transport: posts the client's messages as their original bytes, with our
//! headers, and reads the server's messages within our bounds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use mcp_sse::{Message, MessageKind};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest},
    transport::streamable_http_client::{
        StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
    },
};
use sse_stream::{Error as SseError, Sse};
use tokio_util::sync::CancellationToken;

use super::{
    events::{Event, Events},
    original,
    transport::chain,
};
use crate::message::oversized::{INTERNAL_ERROR, Instead, Oversized};

/// How much is read of the answer to a message that was not accepted, or that needs no answer.
pub(super) const SHORT_ANSWER: usize = 64 * 1024;
/// How many characters of it are quoted in an error.
const SHOWN: usize = 1024;
/// The longest wait before a reconnect that a server may ask for.
const LONGEST_RETRY_MS: u64 = 60_000;

/// How often it is tried in a row to open a stream again; as often as rmcp does.
pub(super) const TRIES: u32 = 4;

/// The last error, since the transport just ends without saying why.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

/// The headers from the settings, and those copied from the client's last request.
#[derive(Clone, Debug)]
pub(super) struct Headers(Arc<Mutex<HeaderMap>>);

impl Headers {
    pub(super) fn new(headers: HeaderMap) -> Self {
        Self(Arc::new(Mutex::new(headers)))
    }

    pub(super) fn set(&self, headers: HeaderMap) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = headers;
    }

    pub(super) fn get(&self) -> HeaderMap {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The HTTP client of one session.
#[derive(Clone)]
pub(super) struct Posting {
    pub(super) client: reqwest::Client,
    pub(super) headers: Headers,
    pub(super) trouble: Trouble,
    pub(super) message_bytes: usize,
    pub(super) listening: Listening,
    /// Whether the answer to `initialize` came without a session.
    pub(super) stateless: Arc<AtomicBool>,
}

/// How the stream fares on which the server says what nobody has asked for.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    /// Whether there has been one, so that it can be lost: not all servers have one.
    was_open: Arc<AtomicBool>,
    /// How often in a row it could not be opened again.
    failed: Arc<AtomicU32>,
    /// Cancelled when it is lost, and with it the session.
    lost: CancellationToken,
    /// Cancelled when it was opened for the first time, or could not be.
    tried: CancellationToken,
}

impl Listening {
    pub(super) fn new(lost: CancellationToken) -> Self {
        Self { was_open: Arc::default(), failed: Arc::default(), lost, tried: CancellationToken::new() }
    }

    /// Resolves when it was opened for the first time, or could not be.
    pub(super) async fn tried(&self) {
        self.tried.cancelled().await;
    }

    /// It could not be opened, for good if the server does not know the session.
    fn fails(&self, for_good: bool) {
        self.tried.cancel();
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.was_open.load(Ordering::Relaxed) && (for_good || failed >= TRIES) {
            self.lost.cancel();
        }
    }

    fn opens(&self) {
        self.was_open.store(true, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        self.tried.cancel();
    }
}

type Custom = HashMap<HeaderName, HeaderValue>;
type Failed = StreamableHttpError<reqwest::Error>;
type Answered = StreamableHttpPostResponse;
type Stream = BoxStream<'static, Result<Sse, SseError>>;

fn unexpected(text: String) -> Failed {
    StreamableHttpError::UnexpectedServerResponse(text.into())
}

/// rmcp's headers and ours; ours replace rmcp's.
fn all(custom: Custom, ours: &HeaderMap) -> HeaderMap {
    let mut all: HeaderMap = custom.into_iter().collect();
    for name in ours.keys() {
        all.remove(name);
    }
    all.extend(ours.clone());
    all
}

pub(super) fn content_type(response: &reqwest::Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let value = value.unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The start of a text on one line, for an error and so for the log.
pub(super) fn shown(text: &str) -> String {
    let shown = text.trim().chars().take(SHOWN);
    shown.map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// Reads the body up to `limit`; whether that is all of it.
pub(super) async fn read(mut response: reqwest::Response, limit: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

impl Posting {
    /// The error without its URL, which may contain secrets. Notes its causes, which rmcp drops.
    fn cleaned(&self, error: Failed) -> Failed {
        match error {
            StreamableHttpError::Client(error) => {
                let error = error.without_url();
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain(&error));
                StreamableHttpError::Client(error)
            }
            other => other,
        }
    }

    /// The same for a message that was not accepted. Notes any error: if the transport ends because of it, nothing else
    /// says why.
    fn refused(&self, error: Failed) -> Failed {
        let error = self.cleaned(error);
        if !matches!(error, StreamableHttpError::Client(_)) {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        error
    }

    async fn post(
        &self,
        uri: &str,
        message: &ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        custom: Custom,
    ) -> Result<Answered, Failed> {
        let id = match message {
            ClientJsonRpcMessage::Request(request) => serde_json::to_string(&request.id).ok(),
            _ => None,
        };
        let ours = original::beside(message).map(|original| original.headers.clone());
        let ours = ours.unwrap_or_else(|| self.headers.get());
        let mut request = self
            .client
            .post(uri)
            .headers(all(custom, &ours))
            .header(ACCEPT, "text/event-stream, application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(original::bytes(message)?);
        let has_session = session.is_some();
        if let Some(session) = session {
            request = request.header("mcp-session-id", &*session);
        }
        let response = request.send().await?;
        let status = response.status();
        let kind = content_type(&response);
        if status == StatusCode::NOT_FOUND && has_session {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            let (body, _) = read(response, SHORT_ANSWER).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&body);
            let is_auth = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if kind == "application/json"
                && !is_auth
                && let Some(error) = error_for(&text, id.as_deref())
            {
                return Ok(StreamableHttpPostResponse::Json(error, None));
            }
            return Err(unexpected(format!("HTTP {status}: {}", shown(&text))));
        }
        let session = response.headers().get("mcp-session-id").and_then(|value| value.to_str().ok());
        let session = session.map(str::to_owned);
        let Some(id) = id else {
            // No answer is expected. Read to its end, so that the connection can be reused.
            if kind != "text/event-stream" {
                let _ = read(response, SHORT_ANSWER).await;
                return Ok(StreamableHttpPostResponse::Accepted);
            }
            return Ok(StreamableHttpPostResponse::Sse(self.events(response, Asked::Nothing), session));
        };
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let initialize = matches!(
            message,
            ClientJsonRpcMessage::Request(request) if matches!(request.request, ClientRequest::InitializeRequest(_))
        );
        if initialize {
            self.stateless.store(session.is_none(), Ordering::Release);
        }
        match &*kind {
            "text/event-stream" => {
                let asked = Asked::Request { id, initialize };
                Ok(StreamableHttpPostResponse::Sse(self.events(response, asked), session))
            }
            "application/json" => {
                let (body, whole) = read(response, self.message_bytes).await?;
                if !whole {
                    return Err(unexpected(too_long(self.message_bytes)));
                }
                let text = String::from_utf8_lossy(&body);
                let wrapped = original::wrap(&text, initialize);
                match wrapped.and_then(|wrapped| serde_json::from_str(&wrapped).ok()) {
                    Some(message) => Ok(StreamableHttpPostResponse::Json(message, session)),
                    None => Err(unexpected(format!("its answer is not JSON-RPC: {}", shown(&text)))),
                }
            }
            _ => Err(StreamableHttpError::UnexpectedContentType(Some(kind).filter(|kind| !kind.is_empty()))),
        }
    }

    async fn get(
        &self,
        uri: &str,
        session: Option<Arc<str>>,
        last_id: Option<String>,
        custom: Custom,
    ) -> Result<Stream, Failed> {
        let mut request = self
            .client
            .get(uri)
            .headers(all(custom, &self.headers.get()))
            .header(ACCEPT, "text/event-stream");
        let has_session = session.is_some();
        if let Some(session) = session {
            request = request.header("mcp-session-id", &*session);
        }
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.inspect_err(|_| self.listening.fails(false))?;
        let status = response.status();
        if !status.is_success() {
            self.listening.fails(has_session && status == StatusCode::NOT_FOUND);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        if !status.is_success() {
            return Err(unexpected(format!("HTTP {status}")));
        }
        let kind = content_type(&response);
        if kind != "text/event-stream" {
            return Err(StreamableHttpError::UnexpectedContentType(Some(kind)));
        }
        self.listening.opens();
        Ok(self.events(response, Asked::Nothing))
    }

    /// The events of a stream as rmcp's type, each message wrapped in an envelope.
    fn events(&self, response: reqwest::Response, asked: Asked) -> Stream {
        let reading = ReadingEvents {
            body: response.bytes_stream().boxed(),
            events: Events::new(self.message_bytes),
            ready: VecDeque::new(),
            asked,
            limit: self.message_bytes,
        };
        futures_util::stream::unfold(reading, |mut reading| async move {
            let next = reading.next().await?;
            Some((next, reading))
        })
        .boxed()
    }
}

pub(super) fn too_long(limit: usize) -> String {
    format!("its answer has more than {limit} bytes; raise --max-message-bytes if it should")
}

/// The error in this body, wrapped for rmcp, if it answers the request with this id.
fn error_for(text: &str, id: Option<&str>) -> Option<rmcp::model::ServerJsonRpcMessage> {
    let message = Message::parse(text.to_owned()).ok()?;
    let MessageKind::Response { id: Some(of), is_error: true } = message.kind() else { return None };
    let same = id.is_some_and(|id| of.to_string() == id);
    let wrapped = original::wrap(text, false).filter(|_| same)?;
    serde_json::from_str(&wrapped).ok()
}

/// What a stream was opened for.
enum Asked {
    Nothing,
    Request { id: String, initialize: bool },
}

/// A stream that is being read.
struct ReadingEvents {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    events: Events,
    ready: VecDeque<Event>,
    asked: Asked,
    limit: usize,
}

impl ReadingEvents {
    async fn next(&mut self) -> Option<Result<Sse, SseError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(self.for_rmcp(event)));
            }
            match self.body.next().await? {
                Ok(piece) => {
                    let Self { events, ready, .. } = self;
                    if events.push(&piece, |event| ready.push_back(event)).is_err() {
                        return Some(Err(SseError::Body("an event does not end".into())));
                    }
                }
                Err(error) => return Some(Err(SseError::Body(chain(&error.without_url()).into()))),
            }
        }
    }

    fn for_rmcp(&self, event: Event) -> Sse {
        let initialize = matches!(self.asked, Asked::Request { initialize: true, .. });
        let data = match event.oversized {
            None if !event.has_data => None,
            // rmcp skips data that is not a message; a stream may begin with empty data.
            None => Some(original::wrap(&event.data, initialize).unwrap_or_default()),
            Some(oversized) => self.instead(oversized),
        };
        Sse {
            event: Some(event.name).filter(|name| !name.is_empty()),
            data,
            id: event.id,
            retry: event.retry.map(|retry| retry.min(LONGEST_RETRY_MS)),
        }
    }
}

impl ReadingEvents {
    /// What rmcp gets in place of an oversized message.
    fn instead(&self, oversized: Oversized) -> Option<String> {
        let is_unknown = oversized.kinds.is_empty();
        let Instead { forward, back } = oversized.instead("upstream server", self.limit);
        if !back.is_empty() {
            tracing::warn!("a request from the upstream server is over the limit, and is not answered");
        }
        let error = match (forward.into_iter().next(), &self.asked) {
            (Some(error), _) => error.as_str().to_owned(),
            // It may have been the answer.
            (None, Asked::Request { id, .. }) if is_unknown => {
                let text = serde_json::Value::from(too_long(self.limit));
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{INTERNAL_ERROR},"message":{text}}}}}"#
                )
            }
            (None, _) => return None,
        };
        original::wrap(&error, false)
    }
}

impl StreamableHttpClient for Posting {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        custom: Custom,
    ) -> Result<Answered, Failed> {
        self.post(&uri, &message, session, custom).await.map_err(|error| self.refused(error))
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        custom: Custom,
        // Our own limits apply.
        _: StreamableHttpResponseLimits,
    ) -> Result<Answered, Failed> {
        self.post_message(uri, message, session, auth, custom).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        custom: Custom,
    ) -> Result<(), Failed> {
        let request = self.client.delete(&*uri).headers(all(custom, &self.headers.get()));
        let response = request.header("mcp-session-id", &*session).send().await;
        let status = response.map_err(|error| self.cleaned(error.into()))?.status();
        // Not every server lets clients delete sessions.
        if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED {
            Ok(())
        } else {
            Err(unexpected(format!("HTTP {status}")))
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        custom: Custom,
    ) -> Result<Stream, Failed> {
        self.get(&uri, session, last_event_id, custom).await.map_err(|error| self.cleaned(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_one_line() {
        assert_eq!(shown("a\nWARN forged\r\u{1b}[2J\n"), "a WARN forged  [2J");
        assert_eq!(shown(&"x".repeat(10_000)).len(), SHOWN);
    }
}
