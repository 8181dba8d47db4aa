//! A socket that is closed in stages (RFC 9112, section 9.6).
//!
//! A request may be answered before its whole body was read, for example if it is over the limit. If the
//! socket were closed at once, the kernel would answer the rest of the body with a reset, and many clients
//! would then not see the response. So what still arrives is read and dropped for a while, until the client
//! closes its side too.

use std::{
    io::{self, Cursor, IoSlice, Read as _},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{deadlines::Activity, listener::Socket};
use crate::clock;

/// How long the client may send nothing before the socket is closed.
const SILENCE: Duration = Duration::from_secs(2);
/// How long it may go on sending before the socket is closed.
const LINGER: Duration = Duration::from_secs(30);

/// How much of it is read and dropped, in bytes, before the socket is closed.
const DROPPED: usize = 64 * 1024 * 1024;

/// A socket of which some bytes were read already. A write that waits for longer than `stall` fails.
pub(super) struct Lingering {
    socket: Socket,
    pending: Cursor<Vec<u8>>,
    /// The server is shutting down: sockets are closed at once.
    hurry: Arc<AtomicBool>,
    /// The client has closed its side.
    client_closed: bool,
    lingers: Option<Lingers>,
    /// What is told when bytes arrive.
    activity: Option<Arc<Activity>>,
    stall: Duration,
    /// The timer that runs while the socket accepts nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// The state after the write side was closed.
struct Lingers {
    end: Instant,
    silence: Pin<Box<Sleep>>,
    dropped: usize,
}

impl Lingering {
    pub(super) fn new(socket: Socket, pending: Vec<u8>, stall: Duration, hurry: Arc<AtomicBool>) -> Self {
        Self {
            socket,
            pending: Cursor::new(pending),
            hurry,
            client_closed: false,
            lingers: None,
            activity: None,
            stall,
            stalled: None,
        }
    }

    pub(super) fn telling(mut self, activity: Arc<Activity>) -> Self {
        self.activity = Some(activity);
        self
    }

    /// Closes the socket in stages.
    pub(super) async fn close(mut self) {
        let _ = std::future::poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await;
    }

    /// The result of a write, or an error if it has waited for too long.
    fn or_stalled<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep_until(clock::after(clock::now(), stall).into())));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
            // All bytes are read: free the buffer, because this lives as long as the connection.
            self.pending = Cursor::default();
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.client_closed = buffer.remaining() > 0 && buffer.filled().len() == before;
        if let Some(activity) = &self.activity
            && buffer.filled().len() > before
        {
            activity.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.or_stalled(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.or_stalled(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        // Others have nothing to flush, which says nothing of how their writes go.
        if self.socket.buffers() { self.or_stalled(flushed, cx) } else { flushed }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, hurry, client_closed, lingers, .. } = &mut *self;
        let Lingers { end, silence, dropped } = match lingers {
            Some(lingers) => lingers,
            None => {
                ready!(Pin::new(&mut *socket).poll_shutdown(cx))?;
                if *client_closed || hurry.load(Ordering::Acquire) {
                    return Poll::Ready(Ok(()));
                }
                let now = Instant::from(clock::now());
                let silence = Box::pin(sleep_until(now + SILENCE));
                lingers.insert(Lingers { end: now + LINGER, silence, dropped: 0 })
            }
        };
        let mut room = [0; 4096];
        loop {
            let mut rest = ReadBuf::new(&mut room);
            match Pin::new(&mut *socket).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {
                    let now = Instant::from(clock::now());
                    *dropped += rest.filled().len();
                    if now >= *end || *dropped > DROPPED {
                        return Poll::Ready(Ok(()));
                    }
                    silence.as_mut().reset((now + SILENCE).min(*end));
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return silence.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
