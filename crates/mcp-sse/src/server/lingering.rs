//! A socket that is closed in stages (RFC 9112, section 9.6).
//!
//! A request may be answered before its body was read whole: one over the limit, say. Closed at once, the
//! kernel would answer the rest of it with a reset, which many clients take for the whole answer. So what
//! still comes is read and dropped, for a short time.

use std::{
    io::{self, Cursor, IoSlice, Read as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// How long what still comes is read.
const LINGER: Duration = Duration::from_secs(2);

/// A socket of which something was read already.
pub(super) struct Lingering {
    socket: TcpStream,
    pending: Cursor<Vec<u8>>,
    closing: Closing,
}

enum Closing {
    Not,
    /// Nothing is written any more.
    Shut,
    /// Something came behind that.
    Until(Pin<Box<Sleep>>),
}

impl Lingering {
    pub(super) fn new(socket: TcpStream, pending: Vec<u8>) -> Self {
        Self { socket, pending: Cursor::new(pending), closing: Closing::Not }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0 {
            let read = self.pending.read(buffer.initialize_unfilled())?;
            if read > 0 {
                buffer.advance(read);
                return Poll::Ready(Ok(()));
            }
            // It is kept for the connection's whole life.
            self.pending = Cursor::default();
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, closing, .. } = &mut *self;
        if matches!(closing, Closing::Not) {
            ready!(Pin::new(&mut *socket).poll_shutdown(cx))?;
            *closing = Closing::Shut;
        }
        let mut room = [0; 4096];
        loop {
            if let Closing::Until(end) = closing
                && end.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut rest = ReadBuf::new(&mut room);
            match Pin::new(&mut *socket).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {
                    if matches!(closing, Closing::Shut) {
                        *closing = Closing::Until(Box::pin(sleep(LINGER)));
                    }
                }
                // The client has closed too, or does not send anything.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if matches!(closing, Closing::Shut) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
