//! A remote server that speaks HTTP+SSE: a stream of events in one direction, POSTs in the other. Messages keep
//! their original bytes.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use mcp_sse::{Incoming, Message, MessageKind};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use url::Url;

use super::{
    events::{Event, Events},
    server::Remote,
    transport::chain,
};
use crate::{
    backend::Failure,
    clock,
    message::{garbage::Garbage, oversized::Instead},
};

/// How often a message is posted while the server is too busy, and how long to wait in between.
const TRIES: u32 = 5;
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// How much of the answer to a POST is read. Only its status matters.
const ANSWER_BYTES: usize = 64 * 1024;
/// Maximum number of refusals, answers to oversized requests of the server, being posted at once; further requests are
/// not answered.
const REFUSALS: usize = 8;
/// How long a POST may take to be answered.
const POST_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) type Bytestream = futures_util::stream::BoxStream<'static, reqwest::Result<Bytes>>;

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Refused {
    /// The server refused, or its response is no event stream: the status and the content type.
    Status(String),
    /// The server cannot be reached.
    Failed(Failure),
}

impl Refused {
    fn into_failure(self, remote: &Remote) -> Failure {
        match self {
            Self::Status(status) => Failure::new(format!("{} opened no stream: {status}", remote.name())),
            Self::Failed(failure) => failure,
        }
    }
}

/// An open stream.
pub(super) struct Stream {
    body: Bytestream,
    events: Events,
    ready: VecDeque<Event>,
    url: Url,
}

impl Stream {
    /// Opens the stream; with `last_id`, after the event with this id.
    pub(super) async fn open(
        remote: &Remote,
        headers: &HeaderMap,
        last_id: Option<&str>,
    ) -> Result<Self, Refused> {
        let mut request = remote
            .client
            .get(remote.url.clone())
            .headers(headers.clone())
            .header("accept", "text/event-stream")
            .header("cache-control", "no-store");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.map_err(|error| {
            Refused::Failed(Failure::new(format!(
                "cannot reach {}: {}",
                remote.name(),
                chain(&error.without_url())
            )))
        })?;
        let status = response.status();
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let is_stream = content_type
            .is_some_and(|value| value.trim().to_ascii_lowercase().starts_with("text/event-stream"));
        if status != StatusCode::OK || !is_stream {
            let text = format!("{status}, {}", content_type.unwrap_or("no content type"));
            return Err(Refused::Status(text));
        }
        let mut events = Events::new(remote.message_bytes);
        events.last_id = last_id.map(str::to_owned);
        Ok(Self {
            url: response.url().clone(),
            body: response.bytes_stream().boxed(),
            events,
            ready: VecDeque::new(),
        })
    }

    /// The next event. Cancel safe.
    async fn next(&mut self) -> Result<Event, Broken> {
        loop {
            match self.ready.pop_front() {
                Some(event) if event.has_data => return Ok(event),
                Some(_) => continue,
                None => {}
            }
            match self.body.next().await {
                None => return Err(Broken::Connection("it ended".to_owned())),
                Some(Err(error)) => return Err(Broken::Connection(chain(&error.without_url()))),
                Some(Ok(piece)) => {
                    let Self { events, ready, .. } = self;
                    events.push(&piece, |event| ready.push_back(event)).map_err(|_| Broken::Endless)?;
                }
            }
        }
    }

    /// The URL to post to, from the first event.
    pub(super) async fn endpoint(&mut self) -> Result<Url, String> {
        let event = self.next().await.map_err(|broken| broken.to_string())?;
        if event.name != "endpoint" {
            return Err(format!("the stream began with {:?}, expected an endpoint", event.name));
        }
        endpoint(&self.url, &event.data)
    }
}

/// Why a stream has ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Connection(String),
    #[error("an event does not end")]
    Endless,
}

/// Resolves the endpoint, which must have the origin of the stream: a server must not redirect its clients
/// elsewhere.
fn endpoint(stream: &Url, said: &str) -> Result<Url, String> {
    // The error does not quote the endpoint, which may be long and contain the session id.
    let url = stream.join(said.trim()).map_err(|error| format!("its endpoint is not a URI: {error}"))?;
    if url.origin() == stream.origin() {
        Ok(url)
    } else {
        Err(format!(
            "the endpoint {:?} has another origin than the stream",
            url.origin().ascii_serialization()
        ))
    }
}

/// Opens a session on the server.
pub(super) async fn open(remote: &Remote, headers: HeaderMap) -> Result<(SseSink, SseSource), Failure> {
    let mut stream =
        Stream::open(remote, &headers, None).await.map_err(|refused| refused.into_failure(remote))?;
    let broken = |error: String| Failure::new(format!("{} is not an SSE server: {error}", remote.name()));
    let endpoint = stream.endpoint().await.map_err(broken)?;
    let (answers, own) = mpsc::channel(16);
    let post = Post { remote: remote.clone(), endpoint: endpoint.clone() };
    let sink = SseSink { post: post.clone(), answers, untaken: Vec::new() };
    let source = SseSource {
        post,
        headers,
        stream,
        own,
        breaks: 0,
        instead: VecDeque::new(),
        refusals: JoinSet::new(),
        garbage: Garbage::default(),
    };
    Ok((sink, source))
}

/// Posts the client's messages.
pub(crate) struct SseSink {
    post: Post,
    /// Error answers to requests that the server did not accept.
    answers: mpsc::Sender<Message>,
    /// What was refused since the server does not know the session any more.
    pub(super) untaken: Vec<Message>,
}

impl SseSink {
    pub(super) async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        let headers = self.post.remote.headers_of_message(incoming.parts());
        let message = incoming.message;
        match self.post.send(headers, &message).await {
            Ok(()) => Ok(()),
            Err(Refusal::SessionGone) => {
                self.untaken.push(message);
                Err(Failure::new(format!("{} has closed the session", self.post.remote.name())))
            }
            Err(Refusal::Message(text)) => {
                tracing::warn!("a message was not accepted: {text}");
                if let MessageKind::Request { id, .. } = message.kind() {
                    // Fails only at the end of the session, when the source is gone.
                    let _ = self.answers.send(Message::error(id, -32000, &text)).await;
                }
                Ok(())
            }
        }
    }
}

/// Where messages are posted.
#[derive(Clone)]
struct Post {
    remote: Remote,
    endpoint: Url,
}

impl Post {
    async fn send(&self, headers: HeaderMap, message: &Message) -> Result<(), Refusal> {
        let name = self.remote.name();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let request = self
                .remote
                .client
                .post(self.endpoint.clone())
                .timeout(POST_TIMEOUT)
                .headers(headers.clone())
                .header("content-type", "application/json")
                .body(Bytes::copy_from_slice(message.as_bytes()));
            let answer = request.send().await.map_err(|error| {
                Refusal::Message(format!("cannot post to {name}: {}", chain(&error.without_url())))
            })?;
            match answer.status() {
                status if status.is_success() => {
                    // Read to its end, so that the connection can be reused.
                    discard(answer).await;
                    return Ok(());
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Refusal::SessionGone),
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS if attempt < TRIES => {
                    tokio::time::sleep(BUSY_WAIT).await;
                }
                status => return Err(Refusal::Message(format!("{name} answered a POST with {status}"))),
            }
        }
    }
}

/// Reads the rest of a short answer.
async fn discard(mut answer: reqwest::Response) {
    let mut left = ANSWER_BYTES;
    while let Ok(Some(piece)) = answer.chunk().await {
        let Some(rest) = left.checked_sub(piece.len()) else { return };
        left = rest;
    }
}

enum Refusal {
    SessionGone,
    Message(String),
}

/// Reads the server's messages.
pub(crate) struct SseSource {
    /// The same as the sink's.
    post: Post,
    headers: HeaderMap,
    stream: Stream,
    own: mpsc::Receiver<Message>,
    /// How often the stream broke since its last event.
    breaks: u32,
    /// Replacements for oversized messages.
    instead: VecDeque<Message>,
    /// Answers to oversized requests, while they are posted.
    refusals: JoinSet<()>,
    garbage: Garbage,
}

impl SseSource {
    pub(super) async fn recv(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.instead.pop_front() {
                return Ok(message);
            }
            let event = tokio::select! {
                Some(answer) = self.own.recv() => return Ok(answer),
                event = self.stream.next() => event,
            };
            let event = match event {
                Ok(event) => event,
                Err(broken) => {
                    self.resume(&broken).await?;
                    continue;
                }
            };
            if event.name == "endpoint"
                && endpoint(&self.stream.url, &event.data).as_ref() != Ok(&self.post.endpoint)
            {
                return Err(Failure::new(format!("{} began a new session", self.post.remote.name())));
            }
            if !matches!(event.name.as_str(), "" | "message") {
                continue;
            }
            self.breaks = 0;
            if let Some(oversized) = event.oversized {
                let Instead { forward, back } = oversized.instead("server", self.post.remote.message_bytes);
                self.instead = forward.into();
                self.refuse(back);
                continue;
            }
            let bytes = event.data.len() as u64;
            match Message::parse(event.data) {
                Ok(message) => {
                    self.garbage.message();
                    return Ok(message);
                }
                Err(error) => {
                    tracing::warn!(%error, "the upstream server sent an event that is not a message; it was skipped");
                    if self.garbage.is_flood(clock::now(), bytes) {
                        let name = self.post.remote.name();
                        return Err(Failure::new(format!(
                            "{name} sends nothing but events that are not messages, and too many of them"
                        )));
                    }
                }
            }
        }
    }

    fn refuse(&mut self, answers: Vec<Message>) {
        while self.refusals.try_join_next().is_some() {}
        for answer in answers {
            if self.refusals.len() >= REFUSALS {
                return;
            }
            let (post, headers) = (self.post.clone(), self.headers.clone());
            self.refusals.spawn(async move { drop(post.send(headers, &answer).await) });
        }
    }

    /// Resumes a broken stream if its events have ids; otherwise the session is lost.
    async fn resume(&mut self, why: &Broken) -> Result<(), Failure> {
        let name = self.post.remote.name();
        let lost = |more: &str| Failure::new(format!("the stream of {name} broke: {why}{more}"));
        let id =
            self.stream.events.last_id.clone().filter(|_| *why != Broken::Endless && self.breaks < TRIES);
        let Some(id) = id else { return Err(lost("")) };
        self.breaks += 1;
        tokio::time::sleep(BUSY_WAIT).await;
        let open = Stream::open(&self.post.remote, &self.headers, Some(&id));
        let stream = match timeout(self.post.remote.start_timeout, open).await {
            Ok(stream) => stream.map_err(|refused| refused.into_failure(&self.post.remote).text),
            Err(_) => Err("it did not answer in time".to_owned()),
        };
        self.stream = stream.map_err(|error| lost(&format!("; it could not be resumed: {error}")))?;
        tracing::info!("the stream of {name} broke ({why}) and was resumed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_of_the_streams_origin() {
        let stream = Url::parse("https://example.com/a/sse?x=1").unwrap();
        let at = |said: &str| endpoint(&stream, said).map(String::from);
        assert_eq!(at("/messages/?session_id=1").unwrap(), "https://example.com/messages/?session_id=1");
        assert_eq!(at("messages").unwrap(), "https://example.com/a/messages");
        assert_eq!(at("https://example.com:443/m").unwrap(), "https://example.com/m");
        for elsewhere in
            ["https://evil.example/m", "//evil.example/m", "http://example.com/m", "https://example.com:444/"]
        {
            assert!(at(elsewhere).unwrap_err().contains("another origin"), "{elsewhere}");
        }
        let wrong = at(&format!("http://[/?session_id=secret{}", "x".repeat(10_000))).unwrap_err();
        assert!(wrong.len() < 100 && !wrong.contains("secret"), "{wrong}");
    }
}
