//! Sessions with a remote server, one after another.

use http::request::Parts;
use mcp_sse::Message;

use crate::backend::{
    Backend, Failure, How,
    remote::{self, Kind, Remote, RemoteSink, RemoteSource},
};

/// A remote server, as what stands behind a session.
pub(crate) struct Upstream<'a>(pub(crate) &'a Remote);

impl Backend for Upstream<'_> {
    type Sink = RemoteSink;
    type Source = RemoteSource;
    const OVER_HTTP: bool = true;

    async fn open(&mut self, head: &Parts) -> Result<(RemoteSink, RemoteSource), Failure> {
        let opened = self.0.open(head).await?;
        tracing::info!(url = self.0.name(), "upstream session opened");
        Ok(opened)
    }

    async fn open_modern(&mut self, head: &Parts) -> Result<(RemoteSink, RemoteSource), Failure> {
        if self.0.kind == Kind::Sse {
            return self.open(head).await;
        }
        tracing::info!(url = self.0.name(), "upstream session opened");
        Ok(self.0.open_modern())
    }

    async fn untaken(&mut self, sink: &mut RemoteSink, source: &mut RemoteSource) -> Vec<Message> {
        remote::untaken(sink, source).await
    }

    async fn close(&mut self, sink: RemoteSink, source: RemoteSource, how: How) {
        if how == How::OtherEra {
            // Its client waits for the other one, and the server has taken no session.
            tokio::spawn(remote::end(sink, source));
            return;
        }
        remote::end(sink, source).await;
        tracing::info!(url = self.0.name(), "upstream session closed");
    }
}
