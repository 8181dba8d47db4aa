//! What all connections of a server share.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{listener::Socket, peer::Peers, routes::Routes};
use crate::clock;

/// What is done with a connection before its first request.
#[derive(Clone)]
pub(super) struct Handshake(pub(super) Arc<Shake>);

type Shake = dyn Fn(Socket) -> Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>> + Send + Sync;

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshake(…)")
    }
}

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
    /// Whether it is spoken to clients that begin with it.
    pub(super) http2: bool,
    pub(super) peers: Peers,
    pub(super) handshake: Option<Handshake>,
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

    /// Makes the handshake of a connection; `None` if it is to be closed.
    pub(super) async fn shake(&self, handshake: &Handshake, socket: Socket) -> Option<Socket> {
        let drained = self.drained.notified();
        if self.draining.load(Ordering::Acquire) {
            return None;
        }
        let peer = socket.peer();
        // Not possible any more when it is inside of something else.
        socket.bound_unsent();
        let mut wait = self.header_timeout;
        tokio::select! {
            shaken = clock::within(&mut wait, handshake.0(socket)) => match shaken {
                Some(Ok(mut socket)) => {
                    socket.set_peer(peer);
                    Some(socket)
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a handshake failed");
                    None
                }
                None => {
                    tracing::debug!("a handshake took too long");
                    None
                }
            },
            () = drained => None,
        }
    }
}
