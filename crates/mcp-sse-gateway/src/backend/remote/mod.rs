//! A remote server, over Streamable HTTP (with rmcp's client) or over HTTP+SSE (with our own; rmcp no longer has
//! one). Each session here has one session there, but for servers of the stateless revision (`modern`), which have none.

mod client;
mod events;
mod http;
pub(crate) mod modern;
mod original;
mod posting;
mod server;
mod sse;
mod transport;

use std::time::Duration;

use ::http::{HeaderMap, request::Parts};
use mcp_sse::{Incoming, Message};
use tokio::time::timeout;

pub(crate) use self::{
    client::{Tls, client, clients_without_redirects},
    server::{Found, Kind, Remote, may_pass},
};
use super::{Failure, How, Sink, Source};
use crate::message::modern::{Headers, headers_of};

/// How long to wait, when detecting the transport, for the response and for its first event.
const PROBE: Duration = Duration::from_secs(5);

impl Remote {
    /// Opens a session on the server, for a session here whose first request has this head.
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
        opened.map_err(|failure| Failure { how: How::NotStarted, ..failure })
    }

    /// Opens a session of ours with a server of the stateless revision, which knows none.
    pub(crate) fn open_modern(&self) -> (RemoteSink, RemoteSource) {
        let (sink, source) = modern::open(self);
        let half = Half::Modern(source);
        (RemoteSink::Modern(sink), RemoteSource { half, remote: self.clone(), kind: Kind::Http })
    }

    /// Detects the transport. A server that speaks HTTP+SSE answers any GET with a stream that begins with its
    /// endpoint. One that speaks Streamable HTTP refuses a GET without a session, or opens a stream that begins
    /// otherwise. This is a guess, which is remembered only after an `initialize` has succeeded.
    async fn ask(&self, headers: &HeaderMap) -> Result<Kind, Failure> {
        Ok(match timeout(PROBE, sse::Stream::open(self, headers, None)).await {
            Ok(Ok(mut stream)) => match timeout(PROBE, stream.endpoint()).await {
                Ok(Ok(_)) => Kind::Sse,
                Ok(Err(_)) | Err(_) => Kind::Http,
            },
            // The server refused the GET for any reason, or is slow: assume Streamable HTTP, and let `initialize`
            // tell.
            Ok(Err(sse::Refused::Status(..))) | Err(_) => Kind::Http,
            Ok(Err(sse::Refused::Failed(failure))) => return Err(failure),
        })
    }
}

pub(crate) enum RemoteSink {
    Http(http::HttpSink),
    Sse(sse::SseSink),
    Modern(modern::ModernSink),
}

pub(crate) struct RemoteSource {
    half: Half,
    remote: Remote,
    /// The transport that this session uses.
    kind: Kind,
}

enum Half {
    Http(http::HttpSource),
    Sse(Box<sse::SseSource>),
    Modern(modern::ModernSource),
}

/// The client's messages that the server has refused since it does not know the session any more.
pub(crate) async fn untaken(sink: &mut RemoteSink, source: &mut RemoteSource) -> Vec<Message> {
    let mut untaken = match sink {
        RemoteSink::Http(_) | RemoteSink::Modern(_) => Vec::new(),
        RemoteSink::Sse(sink) => std::mem::take(&mut sink.untaken),
    };
    if let Half::Http(source) = &mut source.half {
        untaken.extend(source.untaken().await);
    }
    untaken
}

/// Tells the server that the session is over, if the transport can say so.
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
            Self::Modern(sink) => {
                let headers = incoming.parts().extensions.get::<Headers>().map(|headers| headers.0.clone());
                let headers = headers.unwrap_or_else(|| headers_of(&incoming.message));
                sink.send(incoming, &headers).await
            }
        }
    }
}

impl Source for RemoteSource {
    async fn recv(&mut self) -> Result<Message, Failure> {
        match &mut self.half {
            Half::Http(source) => source.recv().await,
            Half::Sse(source) => source.recv().await,
            Half::Modern(source) => source.recv().await,
        }
    }

    fn silent(&self, time: Duration) -> Failure {
        self.remote.silent(time)
    }

    fn is_stateless(&self) -> bool {
        matches!(&self.half, Half::Http(source) if source.is_stateless())
    }

    fn greeted(&mut self, successfully: bool) {
        let Remote { kind: Kind::Auto, found, .. } = &self.remote else { return };
        if matches!(self.half, Half::Modern(_)) {
            return;
        }
        if found.set(Some(self.kind).filter(|_| successfully)) && successfully {
            tracing::info!(url = self.remote.name(), speaks = ?self.kind, "upstream server found");
        }
    }
}
