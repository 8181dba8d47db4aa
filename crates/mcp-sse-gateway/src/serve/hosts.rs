//! A server, as requests of the stateless era reach it: what they need of its place in the table.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use http::{HeaderName, request::Parts};
use mcp_sse::{CloseReason, Incoming};
use tokio::sync::oneshot;

use super::{
    named::Named,
    passing,
    session::{Begun, Over},
};
use crate::{
    bridge::modern_client::Asked,
    front::modern::{HostReceiver, HostReply, Passed, Server},
    metrics,
};

/// A named server.
pub(super) struct Reached<F> {
    pub(super) named: Weak<Named>,
    /// Called when a session begins; what it returns, when it has ended.
    pub(super) enters: F,
}

impl<F, G> Server for Reached<F>
where
    F: Fn() -> G + Send + Sync,
    G: FnOnce(&Arc<Named>) + Send + 'static,
{
    fn run(
        &self,
        id: String,
        receiver: HostReceiver,
        reply: HostReply,
    ) -> Pin<Box<dyn Future<Output = &'static str> + Send>> {
        let (named, over) = (self.named.upgrade(), (self.enters)());
        Box::pin(async move {
            let Some(named) = named else { return "the server is gone" };
            let entry = named.enter(&id, metrics::STREAMABLE_HTTP);
            let ended = entry.run(receiver, reply, Begun::Now).await;
            drop(entry);
            over(&named);
            match ended {
                Over::Ended(reason) => reason,
                Over::Resting(_) => CloseReason::AppEnded.as_str(),
            }
        })
    }

    fn pass<'a>(
        &'a self,
        id: String,
        asked: &'a Asked,
        parts: &'a Parts,
    ) -> Pin<Box<dyn Future<Output = Option<Passed>> + Send + 'a>> {
        Box::pin(async move {
            let named = self.named.upgrade()?;
            let target = Arc::clone(&named.state().target);
            passing::speaks(&target, asked, parts).await?;
            let incoming = Incoming::new(asked.message().clone(), parts.clone());
            let (begins, begun) = oneshot::channel();
            let (to, messages) = passing::channel();
            let over = (self.enters)();
            let passes = async move {
                let entry = named.enter(&id, metrics::STREAMABLE_HTTP);
                passing::pass(&entry, target, incoming, begins, to).await;
                drop(entry);
                over(&named);
            };
            // It ends with its client.
            tokio::spawn(tracing::Instrument::instrument(passes, tracing::Span::current()));
            passing::passed(begun, messages).await
        })
    }

    fn headers(&self) -> Vec<HeaderName> {
        let Some(named) = self.named.upgrade() else { return Vec::new() };
        let target = Arc::clone(&named.state().target);
        target.server.headers_from_client().cloned().collect()
    }

    fn definition(&self) -> usize {
        self.named.upgrade().map_or(0, |named| Arc::as_ptr(&named.state().target).addr())
    }

    fn speaks_modern(&self) -> Option<bool> {
        let named = self.named.upgrade()?;
        let target = Arc::clone(&named.state().target);
        // A remote server that needs a session speaks the other era.
        if target.remote.is_some() { Some(false) } else { target.eras.modern() }
    }

    fn found(&self, modern: bool) {
        if let Some(named) = self.named.upgrade() {
            let target = Arc::clone(&named.state().target);
            if target.remote.is_none() {
                target.eras.set_modern(modern);
            }
        }
    }
}
