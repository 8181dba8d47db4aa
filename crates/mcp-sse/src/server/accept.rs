//! Accepting connections, until the server ends.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{sync::Semaphore, task::JoinSet};
use tower_service::Service;

use super::{
    connection::Connection,
    inner::Inner,
    layers::RequestBody,
    listener::{Listener, Socket},
};
use crate::{clock, throttle::Throttle};

/// Serves connections until `end` completes; then those that are open have `patience` to finish.
pub(super) async fn accept<A, S, B>(
    mut listener: A,
    inner: Arc<Inner<S>>,
    max_connections: usize,
    end: impl Future<Output = ()>,
    patience: Duration,
) where
    A: Listener,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Infallible>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let room = Arc::new(Semaphore::new(max_connections));
    let mut connections = JoinSet::new();
    let mut end = std::pin::pin!(end);
    let mut failures = 0_u64;
    let full = Throttle::of(1);
    loop {
        let accepted = async {
            // Before the accept, so that at the limit clients wait in the kernel's queue.
            let permit = if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                Ok(permit)
            } else {
                if let Some(left_out) = full.line(clock::now()) {
                    tracing::warn!(
                        limit = max_connections,
                        left_out,
                        "all connections are taken, and clients wait until one ends; raise max_connections (--max-connections) if this load is expected"
                    );
                }
                Arc::clone(&room).acquire_owned().await
            };
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut end => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(mut socket) => {
                failures = 0;
                if let Err(error) = prepare(&socket, inner.tcp_user_timeout) {
                    tracing::debug!(%error, "socket options were not set");
                }
                // Over the limit of its address: the drop closes it.
                if !inner.peers.admit(&mut socket) {
                    continue;
                }
                let connection = Connection::new(socket, Arc::clone(&inner));
                connections.spawn(async move {
                    let _permit = permit;
                    connection.await;
                });
            }
            Err(error) => {
                failures += 1;
                // The 1st, 2nd, 4th, 8th and so on, because there may be many.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "connections cannot be accepted; the limit on open files may be too low");
                }
                // Most likely there are no file descriptors left until a connection ends. The pause keeps
                // the loop from spinning until then.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    inner.draining.store(true, Ordering::Release);
    inner.drained.notify_waiters();
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut off");
    }
}

/// Responses are sent at once, and the kernel cuts off a client that does not read: while the socket's
/// buffers are full, nothing in the server would notice that the client is gone.
fn prepare(socket: &Socket, tcp_user_timeout: Duration) -> io::Result<()> {
    let Some(socket) = socket.tcp() else { return Ok(()) };
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(socket);
        socket.set_tcp_user_timeout(Some(tcp_user_timeout))?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = tcp_user_timeout;
    Ok(())
}
