//! The HTTP server: accepts connections, bounded, and lets them go at the end.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client that reads nothing more may cost, beyond the stall timeout, before its connection is cut.
const STALL_MARGIN: Duration = Duration::from_secs(5);

pub(crate) struct Server {
    listener: TcpListener,
    router: Router,
    connections: Arc<Semaphore>,
    stall_timeout: Duration,
    graceful: GracefulShutdown,
}

impl Server {
    pub(crate) fn new(
        listener: TcpListener,
        router: Router,
        max_connections: usize,
        stall_timeout: Duration,
    ) -> Self {
        let connections = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { listener, router, connections, stall_timeout, graceful: GracefulShutdown::new() }
    }

    /// Accepts until `end`, then lets what runs on the connections finish, at most `patience`.
    pub(crate) async fn run(self, end: impl Future<Output = ()>, patience: Duration) {
        let mut end = std::pin::pin!(end);
        loop {
            let next = async {
                // Before the accept: over the bound, clients wait in the kernel's queue.
                let permit = Arc::clone(&self.connections).acquire_owned().await;
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut end => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => self.serve(stream, permit),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of files, most likely: what is open has to end first. A short pause keeps the
                    // loop from spinning meanwhile.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(patience, self.graceful.shutdown()).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
        }
    }

    fn serve(&self, stream: TcpStream, permit: impl Send + 'static) {
        if let Err(error) = prepare(&stream, self.stall_timeout + STALL_MARGIN) {
            tracing::debug!(%error, "socket options were not set");
        }
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        http.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// Answers leave at once, and a client that does not read is cut off by the kernel: once a stream's
/// buffers are full, nobody else would notice that it is over.
fn prepare(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = timeout;
    Ok(())
}
