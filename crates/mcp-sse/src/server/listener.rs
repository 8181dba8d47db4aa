//! Where connections come from: TCP, Unix sockets, or a listener of the user's.

use std::{
    fmt,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use super::places::Place;
use crate::principal::Principal;

/// What a [`Server`](crate::Server) accepts connections from: a [`TcpListener`], on Unix a
/// [`UnixListener`](tokio::net::UnixListener), or an implementation of your own.
///
/// ```
/// use std::io;
///
/// use mcp_sse::{Listener, Socket};
/// use tokio::net::TcpListener;
///
/// /// Two ports, one server.
/// struct Both(TcpListener, TcpListener);
///
/// impl Listener for Both {
///     async fn accept(&mut self) -> io::Result<Socket> {
///         let accepted = tokio::select! {
///             accepted = self.0.accept() => accepted?,
///             accepted = self.1.accept() => accepted?,
///         };
///         Ok(accepted.into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let both = Both(TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
/// let end = async {}; // at once
/// mcp_sse::Server::new().serve(both, end, std::time::Duration::ZERO).await;
/// # Ok(())
/// # }
/// ```
pub trait Listener: Send {
    /// Accepts the next connection. Must be cancel safe: the future is dropped whenever a connection ends.
    ///
    /// After an error the server waits for 50 ms and calls it again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Socket>> + Send;
}

impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<Socket> {
        Self::accept(self).await.map(Socket::from)
    }
}

#[cfg(unix)]
impl Listener for UnixListener {
    async fn accept(&mut self) -> io::Result<Socket> {
        Self::accept(self).await.map(|(stream, _)| stream.into())
    }
}

/// How much unsent data may wait in the kernel, in bytes; see [`Socket::bound_unsent`].
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 128 * 1024;

/// An accepted connection; created from what tokio's listeners return, or [`over`](Self::over) something else.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let _client = tokio::net::TcpStream::connect(listener.local_addr()?).await?;
/// let (stream, address) = listener.accept().await?;
/// let socket = mcp_sse::Socket::from((stream, address));
/// # drop(socket);
/// # Ok(())
/// # }
/// ```
pub struct Socket {
    stream: Stream,
    /// `None`: the peer has no address, or it is not known.
    peer: Option<IpAddr>,
    /// Counts it among the connections of its address, if those have a limit.
    place: Option<Box<Place>>,
    /// Who the client is, if the connection says so.
    principal: Option<Principal>,
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Other(Box<dyn Carrier>),
}

/// What carries a connection's bytes.
trait Carrier: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Carrier for S {}

impl From<(TcpStream, SocketAddr)> for Socket {
    fn from((stream, peer): (TcpStream, SocketAddr)) -> Self {
        Self { stream: Stream::Tcp(stream), peer: Some(peer.ip()), place: None, principal: None }
    }
}

#[cfg(unix)]
impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), peer: None, place: None, principal: None }
    }
}

impl Socket {
    /// A connection over a stream of another kind, such as TLS over an accepted `Socket` (see
    /// [`Server::handshake`](crate::Server::handshake)).
    ///
    /// ```
    /// // Both ends of a pipe in memory.
    /// let (client, server) = tokio::io::duplex(1024);
    /// let socket = mcp_sse::Socket::over(server);
    /// # drop((client, socket));
    /// ```
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static) -> Self {
        Self { stream: Stream::Other(Box::new(stream)), peer: None, place: None, principal: None }
    }

    /// Says who the client is, as its certificate does for example. It is the [`Principal`] of all requests on the
    /// connection, unless an [authenticator](crate::Builder::authenticate) names another one.
    #[must_use]
    pub fn with_principal(mut self, principal: Principal) -> Self {
        self.principal = Some(principal);
        self
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        match &self.stream {
            #[cfg(unix)]
            Stream::Unix(_) => true,
            _ => false,
        }
    }

    pub(super) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Whether what was written may wait in it until it is flushed.
    pub(super) fn buffers(&self) -> bool {
        matches!(self.stream, Stream::Other(_))
    }

    /// The address of the peer, if it is known.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Sets the address that a proxy reports.
    pub(super) fn set_peer(&mut self, peer: Option<IpAddr>) {
        self.peer = peer;
    }

    /// Holds a place until the connection is closed.
    pub(super) fn keep(&mut self, place: Place) {
        self.place = Some(Box::new(place));
    }

    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream),
            #[cfg(unix)]
            Stream::Unix(_) => None,
            Stream::Other(_) => None,
        }
    }

    /// Limits the unsent data in the kernel to [`NOT_SENT`], on Linux. So what a slow client has not read
    /// stays in the session, which counts it and sees the client's progress; what is in flight is limited by
    /// the kernel's own window. With many small messages this costs several percent of the requests per
    /// second, so it is not used for such connections.
    pub(super) fn bound_unsent(&self) {
        #[cfg(target_os = "linux")]
        if let Some(stream) = self.tcp()
            && let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT)
        {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT was not set");
        }
    }

    /// Writes what it takes at once. One that buffers takes nothing this way: it wants to be polled.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write(bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.try_write(bytes),
            Stream::Other(_) => Ok(0),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Does the same operation on either kind of stream.
macro_rules! on_stream {
    ($socket:expr, $stream:ident => $operation:expr) => {
        match &mut $socket.get_mut().stream {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $operation
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $operation
            }
            Stream::Other(stream) => {
                let $stream = Pin::new(stream);
                $operation
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(cx))
    }
}
