//! A remote server, over Streamable HTTP (by rmcp's client) or over HTTP+SSE (by ours; rmcp has none any
//! more). A session of ours is a session there.

mod client;
mod events;
mod http;
mod original;
mod posting;
mod sse;
mod transport;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use mcp_sse::{Incoming, Message};
use tokio::time::timeout;
use url::Url;

pub(crate) use self::client::{Tls, client};
use super::{Failure, Sink, Source};

/// How long a server may take to say which of the two it speaks.
const PROBE: Duration = Duration::from_secs(5);

/// Which transport a remote server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Ask it
    Auto,
    /// Streamable HTTP
    #[value(aliases = ["streamable-http", "streamablehttp", "streamableHttp"])]
    Http,
    /// HTTP+SSE, the transport of revision 2024-11-05
    Sse,
}

/// A remote server and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) url: Url,
    pub(crate) kind: Kind,
    /// Sent with every request.
    pub(crate) headers: HeaderMap,
    /// Taken over from the client's requests, by name.
    pub(crate) headers_from_client: Vec<HeaderName>,
    pub(crate) client: reqwest::Client,
    pub(crate) message_bytes: usize,
    /// Requests of a session that may be unanswered.
    pub(crate) requests_in_flight: usize,
    pub(crate) start_timeout: Duration,
    /// What it turned out to speak.
    pub(crate) found: Found,
}

/// Which transport a server speaks, as the last successful `initialize` has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Arc<Mutex<Option<Kind>>>);

impl Found {
    fn get(&self) -> Option<Kind> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is new.
    fn set(&self, kind: Option<Kind>) -> bool {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), kind) != kind
    }
}

/// Headers that belong to a connection or to the transport itself: they are not passed on.
const OWN: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header may be set for, or taken over into, requests to a remote server.
pub(crate) fn may_pass(name: &HeaderName) -> bool {
    !OWN.contains(&name.as_str())
}

impl Remote {
    /// The headers for a request that a client's request with this head causes.
    fn headers_for(&self, parts: &Parts) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in &self.headers_from_client {
            let values: Vec<HeaderValue> = parts.headers.get_all(name).iter().cloned().collect();
            if let Some((first, others)) = values.split_first() {
                headers.insert(name.clone(), first.clone());
                for other in others {
                    headers.append(name.clone(), other.clone());
                }
            }
        }
        headers
    }

    /// Connects, for a session whose first request has this head.
    pub(crate) async fn open(&self, parts: &Parts) -> Result<(RemoteSink, RemoteSource), Failure> {
        let open = async {
            let headers = self.headers_for(parts);
            let kind = match (self.kind, self.found.get()) {
                (Kind::Auto, Some(found)) => found,
                (Kind::Auto, None) => self.ask(&headers).await?,
                (kind, _) => kind,
            };
            let (sink, half) = match kind {
                Kind::Sse => {
                    let (sink, source) = sse::open(self, headers).await?;
                    (RemoteSink::Sse(sink), Half::Sse(Box::new(source)))
                }
                Kind::Http | Kind::Auto => {
                    let (sink, source) = http::open(self, headers);
                    (RemoteSink::Http(sink), Half::Http(source))
                }
            };
            Ok((sink, RemoteSource { half, remote: self.clone(), kind }))
        };
        let opened = timeout(self.start_timeout, open).await;
        let opened = opened.unwrap_or_else(|_| Err(self.silent(self.start_timeout)));
        if opened.is_err() {
            self.found.set(None);
        }
        opened
    }

    fn silent(&self, time: Duration) -> Failure {
        Failure::new(format!("{} did not answer within {time:?}", self.name()))
    }

    /// Where it is, without what may be secret.
    pub(crate) fn name(&self) -> String {
        let mut url = self.url.clone();
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    /// A server that speaks HTTP+SSE opens a stream for any GET and begins it with its endpoint. One that
    /// speaks Streamable HTTP refuses a GET without a session, or opens a stream that begins otherwise.
    /// A guess: it is remembered when an `initialize` shows that it is right.
    async fn ask(&self, headers: &HeaderMap) -> Result<Kind, Failure> {
        Ok(match timeout(PROBE, sse::Stream::open(self, headers, None)).await {
            Ok(Ok(mut stream)) => match timeout(PROBE, stream.endpoint()).await {
                Ok(Ok(_)) => Kind::Sse,
                Ok(Err(_)) | Err(_) => Kind::Http,
            },
            // It says so, or it is busy, or does not know us or the path, or is slow: if it speaks Streamable
            // HTTP, this goes well.
            Ok(Err(sse::Refused::Status(..))) | Err(_) => Kind::Http,
            Ok(Err(sse::Refused::Failed(failure))) => return Err(failure),
        })
    }
}

pub(crate) enum RemoteSink {
    Http(http::HttpSink),
    Sse(sse::SseSink),
}

pub(crate) struct RemoteSource {
    half: Half,
    remote: Remote,
    /// What it is taken to speak.
    kind: Kind,
}

enum Half {
    Http(http::HttpSource),
    Sse(Box<sse::SseSource>),
}

/// Lets the server know that the session is over, if it can be told.
pub(crate) async fn end(sink: RemoteSink, source: RemoteSource) {
    if let RemoteSink::Http(sink) = sink {
        sink.end().await;
    }
    if let Half::Http(source) = source.half {
        source.end().await;
    }
}

impl Sink for RemoteSink {
    async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        match self {
            Self::Http(sink) => sink.send(incoming).await,
            Self::Sse(sink) => sink.send(incoming).await,
        }
    }
}

impl Source for RemoteSource {
    async fn recv(&mut self) -> Result<Message, Failure> {
        match &mut self.half {
            Half::Http(source) => source.recv().await,
            Half::Sse(source) => source.recv().await,
        }
    }

    fn silent(&self, time: Duration) -> Failure {
        self.remote.silent(time)
    }

    fn greeted(&mut self, successfully: bool) {
        let Remote { kind: Kind::Auto, found, .. } = &self.remote else { return };
        if found.set(Some(self.kind).filter(|_| successfully)) && successfully {
            tracing::info!(url = self.remote.name(), speaks = ?self.kind, "upstream server found");
        }
    }
}
