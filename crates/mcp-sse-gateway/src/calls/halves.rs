//! The two halves of a client, watched as messages pass.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::request::Parts;
use mcp_sse::{Incoming, Message};
use tokio_util::sync::CancellationToken;

use super::{Calls, Outcome};
use crate::{
    audit::Permit,
    front::{Gone, Receive, Reply},
};

/// A half that is watched, if somebody wants to know.
pub(super) struct Watched<H> {
    half: H,
    calls: Option<Arc<Calls>>,
    /// A message that is not passed on before the audit log takes its line.
    taken: Option<Incoming>,
    /// The place of that line.
    permit: Option<Permit>,
    /// Cancelled when its operator wants the session to end.
    close: CancellationToken,
}

/// Both halves of a client, watched.
pub(crate) fn watched<R: Receive, S: Reply>(
    receiver: R,
    reply: S,
    calls: Option<Arc<Calls>>,
    close: CancellationToken,
) -> (impl Receive, impl Reply) {
    let receiver =
        Watched { half: receiver, calls: calls.clone(), taken: None, permit: None, close: close.clone() };
    (receiver, Watched { half: reply, calls, taken: None, permit: None, close })
}

impl<R: Receive> Receive for Watched<R> {
    async fn recv(&mut self) -> Option<Incoming> {
        let Some(calls) = &self.calls else { return self.half.recv().await };
        let Some(audit) = calls.audit().filter(|audit| !audit.is_lossy()) else {
            let mut incoming = self.half.recv().await?;
            calls.asked(&mut incoming, &mut self.permit);
            return Some(incoming);
        };
        // Kept here, so that nothing is lost if somebody stops waiting.
        if self.taken.is_none() {
            self.taken = Some(self.half.recv().await?);
        }
        audit.writable().await;
        if self.permit.is_none() {
            self.permit = Some(audit.permit().await);
        }
        let mut incoming = self.taken.take()?;
        calls.asked(&mut incoming, &mut self.permit);
        Some(incoming)
    }

    fn is_clear(&self) -> bool {
        self.taken.is_none() && self.half.is_clear()
    }
}

impl<S: Reply> Reply for Watched<S> {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        if let Some(calls) = &self.calls {
            calls.answered(&message);
        }
        self.half.send(message).await
    }

    async fn fail(&self, text: &str) {
        if let Some(calls) = &self.calls {
            // Its client may have gone before its server.
            let is_gone = self.closed().now_or_never().is_some();
            calls.failed(if is_gone { Outcome::Ended } else { Outcome::Error });
        }
        self.half.fail(text).await;
    }

    async fn idle(&self) {
        self.half.idle().await;
    }

    fn keep(&self, state: String) {
        self.half.keep(state);
    }

    fn revived(&self) -> Option<(&str, &Parts)> {
        self.half.revived()
    }

    async fn closed(&self) {
        tokio::select! {
            () = self.half.closed() => {}
            () = self.close.cancelled() => {}
        }
    }
}
