//! What all connections of a server share.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use super::{listener::Socket, peer::Peers, routes::Routes};

/// What all connections share.
pub(super) struct Inner<S> {
    pub(super) routes: Routes,
    /// What hyper serves: the layers, the endpoints and the fallback.
    pub(super) service: S,
    /// Whether there are layers, so that hyper serves all requests.
    pub(super) layered: bool,
    pub(super) header_timeout: Duration,
    pub(super) tcp_user_timeout: Duration,
    /// The head and the body of the response to an accepted POST, which is always the same.
    pub(super) accepted: (Vec<u8>, &'static str),
    pub(super) idle_timeout: Duration,
    pub(super) peers: Peers,
    /// Open connections take no more requests; set before `drained` is notified.
    pub(super) draining: AtomicBool,
    pub(super) drained: Notify,
}

impl<S> fmt::Debug for Inner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl<F> Inner<F> {
    /// Reads the PROXY header of a connection, which says where it comes from; `None` if it is to be closed.
    pub(super) async fn meet(&self, mut socket: Socket) -> Option<Socket> {
        let drained = self.drained.notified();
        if self.draining.load(Ordering::Acquire) {
            return None;
        }
        tokio::select! {
            met = self.peers.meet(&mut socket) => met.then_some(socket),
            () = drained => None,
        }
    }
}
