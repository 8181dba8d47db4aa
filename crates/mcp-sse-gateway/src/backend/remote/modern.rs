//! A remote server that speaks the stateless revision: a POST for each request, whose response is a message, or a stream
//! that ends with it. A request is given up by closing its response. Source: revision 2026-07-28, Streamable HTTP.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    events::{Event, Events},
    posting::{SHORT_ANSWER, content_type, read, shown, too_long},
    server::Remote,
    transport::chain,
};
use crate::{
    backend::{Failure, How},
    message::{
        members::{Members, with_id},
        modern::{VERSION, header},
        oversized::{INTERNAL_ERROR, Instead, Oversized},
    },
};

/// What may be open beside the requests of a client: what is listened to, and what is asked on a client's behalf.
const OWN_REQUESTS: usize = 64;
/// How long a server may take to accept what needs no answer.
const NOTIFIED: Duration = Duration::from_secs(10);
/// Messages that wait for whoever takes them.
const CAPACITY: usize = 16;
/// The error code that SDKs use for a closed connection.
const CONNECTION_CLOSED: i32 = -32000;

/// The answer to a request or a notification.
pub(crate) enum Answered {
    /// It is one message, with this status.
    Message(StatusCode, Box<Message>),
    /// Messages as they come; the last one is the response.
    Events(Box<Reading>),
    /// It was taken, and needs no answer.
    Accepted,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    pub(crate) text: String,
    /// The server may not be there: it says nothing of what it speaks.
    pub(crate) is_absent: bool,
}

/// A stream of messages that is being read.
pub(crate) struct Reading {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    events: Events,
    ready: VecDeque<Event>,
    id: Option<RequestId>,
    limit: usize,
}

/// Posts a message with these headers, beside those that each request has.
pub(crate) async fn post(
    remote: &Remote,
    message: &Message,
    headers: HeaderMap,
) -> Result<Answered, Unanswered> {
    let request = remote
        .client
        .post(remote.url.clone())
        .headers(headers)
        .header(ACCEPT, "text/event-stream, application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(message.clone().into_bytes());
    let absent = |error: reqwest::Error| Unanswered { text: chain(&error.without_url()), is_absent: true };
    let unlike = |text: String| Unanswered { text, is_absent: false };
    let response = request.send().await.map_err(absent)?;
    let (status, kind) = (response.status(), content_type(&response));
    let Some(id) = message.id().filter(|_| message.method().is_some()) else {
        // Read to its end, so that the connection can be used again.
        let _ = read(response, SHORT_ANSWER).await;
        let refused = || unlike(format!("HTTP {status}"));
        return if status.is_success() { Ok(Answered::Accepted) } else { Err(refused()) };
    };
    match &*kind {
        "text/event-stream" if status.is_success() => Ok(Answered::Events(Box::new(Reading {
            body: response.bytes_stream().boxed(),
            events: Events::new(remote.message_bytes),
            ready: VecDeque::new(),
            id: Some(id.clone()),
            limit: remote.message_bytes,
        }))),
        "application/json" => {
            let (body, is_whole) = match read(response, remote.message_bytes).await {
                Ok(read) => read,
                Err(error) => return Err(Unanswered { text: error.to_string(), is_absent: true }),
            };
            if !is_whole {
                return Err(unlike(too_long(remote.message_bytes)));
            }
            let body = Bytes::from(body);
            let answer = Message::parse(body.clone()).ok().and_then(|answer| response_to(answer, id));
            answer.map(|answer| Answered::Message(status, Box::new(answer))).ok_or_else(|| {
                let text = format!("HTTP {status}: {}", shown(&String::from_utf8_lossy(&body)));
                Unanswered { text, is_absent: status.is_server_error() }
            })
        }
        _ => {
            let body = read(response, SHORT_ANSWER).await.map(|(body, _)| body).unwrap_or_default();
            let text = format!("HTTP {status}: {}", shown(&String::from_utf8_lossy(&body)));
            Err(Unanswered { text, is_absent: status.is_server_error() })
        }
    }
}

/// Whether an answer with this status says nothing of what the server speaks.
fn is_of_others(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

/// The message, if it is the response to this request. A server that could not read the request does not know its id.
fn response_to(answer: Message, id: &RequestId) -> Option<Message> {
    match answer.kind() {
        MessageKind::Response { id: Some(of), .. } if of == id => Some(answer),
        MessageKind::Response { id: None, is_error: true } => {
            let members = Members::read(answer.as_str())?;
            let mut error = Members::default();
            error.set("jsonrpc", "2.0");
            error.set_json("id", &id.to_string());
            error.set_json("error", members.get("error")?);
            error.message()
        }
        MessageKind::Response { id: Some(_), is_error: true } => with_id(&answer, id),
        _ => None,
    }
}

impl Reading {
    /// The next message; `None` after the response, or with an error where the stream has ended before it. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, String>> {
        let id = self.id.clone()?;
        loop {
            while let Some(event) = self.ready.pop_front() {
                if let Some(message) = self.read(event) {
                    if message.method().is_none() {
                        if message.id() != Some(&id) {
                            tracing::debug!("a response to another request was dropped");
                            continue;
                        }
                        self.id = None;
                    }
                    return Some(Ok(message));
                }
            }
            let piece = match self.body.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    self.id = None;
                    return Some(Err(chain(&error.without_url())));
                }
                None => {
                    self.id = None;
                    return Some(Err("the stream ended before the answer".to_owned()));
                }
            };
            let Self { events, ready, .. } = self;
            if events.push(&piece, |event| ready.push_back(event)).is_err() {
                self.id = None;
                return Some(Err("an event does not end".to_owned()));
            }
        }
    }

    fn read(&self, event: Event) -> Option<Message> {
        match event.oversized {
            None if event.data.is_empty() => None,
            None => {
                Message::parse(event.data).inspect_err(|error| tracing::debug!(%error, "no message")).ok()
            }
            Some(oversized) => self.instead(oversized),
        }
    }

    fn instead(&self, oversized: Oversized) -> Option<Message> {
        let is_unknown = oversized.kinds.is_empty();
        let Instead { forward, .. } = oversized.instead("upstream server", self.limit);
        let id = self.id.as_ref().filter(|_| is_unknown);
        // It may have been the answer.
        let error = || id.map(|id| Message::error(id, INTERNAL_ERROR, &too_long(self.limit)));
        forward.into_iter().next().or_else(error)
    }
}

/// The headers of each request to such a server.
pub(crate) fn headers(remote: &Remote, incoming: &Incoming, own: &HeaderMap) -> HeaderMap {
    let mut headers = remote.headers_of_message(incoming.parts());
    for name in own.keys() {
        headers.remove(name);
    }
    headers.extend(own.clone());
    headers.insert(header::PROTOCOL_VERSION, HeaderValue::from_static(VERSION));
    headers
}

/// Takes the messages of one session.
pub(crate) struct ModernSink {
    remote: Remote,
    said: mpsc::Sender<Result<Message, Failure>>,
    requests: JoinSet<RequestId>,
    open: HashMap<RequestId, AbortHandle>,
}

/// Gives those of the server.
pub(crate) struct ModernSource(mpsc::Receiver<Result<Message, Failure>>);

/// Nothing is opened: each message is posted for itself.
pub(super) fn open(remote: &Remote) -> (ModernSink, ModernSource) {
    let (said, heard) = mpsc::channel(CAPACITY);
    let sink = ModernSink { remote: remote.clone(), said, requests: JoinSet::new(), open: HashMap::new() };
    (sink, ModernSource(heard))
}

impl ModernSource {
    pub(super) async fn recv(&mut self) -> Result<Message, Failure> {
        match self.0.recv().await {
            Some(said) => said,
            None => Err(Failure::new("the session is over")),
        }
    }
}

impl ModernSink {
    pub(super) async fn send(&mut self, incoming: Incoming, own: &HeaderMap) -> Result<(), Failure> {
        if let Some(id) = incoming.message.cancelled_id() {
            if let Some(request) = self.open.remove(&id) {
                request.abort();
            }
            return Ok(());
        }
        while let Some(ended) = self.requests.try_join_next() {
            self.ended(ended);
        }
        if self.requests.len() >= self.remote.requests_in_flight.saturating_add(OWN_REQUESTS) {
            // Clients have a bound of their own, which is lower. Nobody waits here: a cancellation may be next.
            tracing::warn!("{} has too many requests that it has not answered", self.remote.name());
            if let (Some(id), Some(_)) = (incoming.message.id(), incoming.message.method()) {
                let busy =
                    Message::error(id, CONNECTION_CLOSED, "too many requests in flight; try again later");
                let _ = self.said.send(Ok(busy)).await;
            }
            return Ok(());
        }
        let headers = headers(&self.remote, &incoming, own);
        let (remote, said, message) = (self.remote.clone(), self.said.clone(), incoming.message);
        let id = message.id().filter(|_| message.method().is_some()).cloned();
        let asks = async move {
            let exchange = exchange(&remote, &message, headers, &said);
            let exchanged = match message.method().and(message.id()) {
                Some(_) => exchange.await,
                None => timeout(NOTIFIED, exchange).await.unwrap_or_else(|_| {
                    Err(Unanswered {
                        text: format!("it did not answer within {NOTIFIED:?}"),
                        is_absent: true,
                    })
                }),
            };
            match (message.id().cloned(), exchanged) {
                (Some(id), Err(unanswered)) if message.method().is_some() => {
                    let name = remote.name();
                    let text = format!("{name} did not answer the request: {}", unanswered.text);
                    tracing::warn!("{text}");
                    let is_first = message.method() == Some("server/discover");
                    let answer = match is_first {
                        true if unanswered.is_absent => Err(Failure::of(How::NotStarted, text)),
                        true => Err(Failure::new(text)),
                        false => Ok(Message::error(&id, CONNECTION_CLOSED, &text)),
                    };
                    let _ = said.send(answer).await;
                    id
                }
                (Some(id), _) => id,
                (None, answered) => {
                    if let Err(Unanswered { text, .. }) = answered {
                        tracing::warn!("{} did not accept a message: {text}", remote.name());
                    }
                    RequestId::from(0)
                }
            }
        };
        let task = self.requests.spawn(tracing::Instrument::instrument(asks, tracing::Span::current()));
        if let Some(id) = id {
            self.open.insert(id, task);
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<RequestId, tokio::task::JoinError>) {
        if let Ok(id) = ended
            && self.open.get(&id).is_some_and(AbortHandle::is_finished)
        {
            self.open.remove(&id);
        }
    }
}

/// Posts a message, and passes on what comes back.
async fn exchange(
    remote: &Remote,
    message: &Message,
    headers: HeaderMap,
    said: &mpsc::Sender<Result<Message, Failure>>,
) -> Result<(), Unanswered> {
    match post(remote, message, headers).await? {
        Answered::Accepted => {}
        // Who says that may stand before the server.
        Answered::Message(status, answer)
            if message.method() == Some("server/discover") && is_of_others(status) =>
        {
            return Err(Unanswered {
                text: format!("HTTP {status}: {}", shown(answer.as_str())),
                is_absent: false,
            });
        }
        Answered::Message(_, answer) => drop(said.send(Ok(*answer)).await),
        Answered::Events(mut reading) => {
            while let Some(next) = reading.next().await {
                let message = next.map_err(|text| Unanswered { text, is_absent: false })?;
                if said.send(Ok(message)).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
