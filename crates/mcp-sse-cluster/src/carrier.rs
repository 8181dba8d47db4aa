//! What carries bytes from one replica to another: one engine's way.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use mcp_sse::ReplicaId;
use tokio::time::Instant;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The link to the engine, as far as it is known. It may say that it is up for a while after it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Since then, without a break that was seen.
    Up(Instant),
    Down,
}

/// Why a call has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// The engine says that nobody takes calls for this replica.
    Nobody,
    /// Nothing was handed to the engine.
    NotSent,
    /// It was sent, or may have been, and there is no reply within the time.
    Silence,
}

/// Carries bytes between the replicas of one cluster.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// The engine, for logs: never an address with a password.
    fn name(&self) -> &'static str;

    fn link(&self) -> Link;

    /// Brings this to a replica, and returns its reply. It may arrive late, or more than once, if there is no reply.
    fn call<'a>(
        &'a self,
        to: &'a ReplicaId,
        bytes: Bytes,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, NoReply>>;

    /// Brings this to all replicas that listen now, this one included. It may be lost.
    fn announce(&self, bytes: Bytes) -> BoxFuture<'_, ()>;

    /// Gives what comes for this replica, and what is for all, to the handler, until the handler is gone; also after the
    /// link was down. Returns when calls for it are taken.
    fn serve(
        &self,
        me: &ReplicaId,
        handler: std::sync::Weak<dyn Handler>,
    ) -> BoxFuture<'_, Result<(), String>>;

    /// Takes no more calls. Those that are taken are replied to.
    fn leave(&self) -> BoxFuture<'_, ()>;
}

/// What takes calls of other replicas.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The reply to a call. `None`: there is none to be given. Whoever asks has to wait to the end, since what was begun and
    /// dropped has no answer.
    fn called(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Option<Bytes>>;

    /// Something was announced to all.
    fn announced(&self, bytes: Bytes);
}

/// The most that is handed to an engine at once, in bytes. NATS takes 1 MiB by default.
pub(crate) const MAX_BYTES: usize = 512 * 1024;
