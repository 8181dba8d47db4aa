//! What carries messages between replicas, before it is the carrier of a cluster.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    carrier::{BoxFuture, Carrier},
    store::{Store, StoreError},
};

/// What carries messages between replicas: a [`Nats`](crate::Nats) or a [`Redis`](crate::Redis).
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<dyn EngineOf>);

/// An engine that is connected, and becomes the carrier of a cluster.
pub(crate) trait EngineOf: Send + Sync {
    fn carrier(&self, cluster: &str) -> Arc<dyn Carrier>;

    /// The records of a cluster with this name, which has only letters, digits, `-` and `_`. Each expires so long after it
    /// was written last; at least 1 s.
    fn store(&self, cluster: &str, expiry: Duration) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>>;

    fn name(&self) -> &'static str;
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.0.name()).finish()
    }
}
