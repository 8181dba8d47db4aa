//! A stream on its socket, with nothing around it: between events it keeps no buffer, only what the
//! client has not taken yet.

use std::{
    cell::RefCell,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::{gathered::Gathered, listener::Socket};
use crate::{
    output::Output as _,
    session::{core::Taken, stream::EventStream},
};

/// So many chunks leave in one write: of a large event there are many.
const CHUNKS: usize = 4;
/// From here on a chunk is that of a large event, or of a client that is behind.
const LARGE: usize = 32 * 1024;
/// A burst may make the buffer of a thread larger; it does not stay so.
const KEPT_BUFFER: usize = 512 * 1024;

thread_local! {
    /// What is being written. Each thread writes one thing at a time.
    static OUT: RefCell<Gathered> = RefCell::default();
}

/// Writes a session's events in chunks until the session or the client ends.
pub(super) struct Parked {
    socket: Socket,
    stream: EventStream,
    /// What the socket did not take.
    unsent: Option<Box<Unsent>>,
    /// Others ran since something waits.
    yielded: bool,
    /// All that the session had to say is in `unsent`.
    ended: bool,
    /// The kernel keeps little that is not sent.
    bounded: bool,
    /// What was written may wait in the socket.
    unflushed: bool,
}

struct Unsent {
    bytes: Gathered,
    /// So many of them it has taken meanwhile.
    written: usize,
}

impl Unsent {
    fn new(bytes: Gathered) -> Option<Box<Self>> {
        (bytes.len() > 0).then(|| Box::new(Self { bytes, written: 0 }))
    }
}

impl Parked {
    /// `head` is what goes out first.
    pub(super) fn new(socket: Socket, stream: EventStream, head: Vec<u8>) -> Self {
        Self {
            socket,
            stream,
            unsent: Unsent::new(head.into()),
            yielded: false,
            ended: false,
            bounded: false,
            unflushed: false,
        }
    }

    /// Whether the client closed its side. What it sends on a stream's connection is not wanted.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let mut bytes = [0; 512];
        loop {
            let mut unwanted = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut unwanted) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !unwanted.filled().is_empty() => {}
                Poll::Ready(_) => return true,
            }
        }
    }

    /// Ready when nothing is unsent; `false` if the rest is not wanted any more.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !ready!(self.poll_rest(cx)) {
            return Poll::Ready(false);
        }
        if self.unflushed {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending if self.stream.poll_over(false, cx) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    }

    /// Writes what the socket did not take before.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(unsent) = &mut self.unsent else { return Poll::Ready(true) };
        self.unflushed = self.socket.buffers();
        let before = unsent.written;
        while unsent.written < unsent.bytes.len() {
            match unsent.bytes.poll_write(&mut self.socket, unsent.written, cx) {
                Poll::Ready(Ok(length)) if length > 0 => unsent.written += length,
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {
                    if !self.bounded {
                        self.bounded = true;
                        self.socket.bound_unsent();
                    }
                    if self.stream.poll_over(unsent.written > before, cx) {
                        return Poll::Ready(false);
                    }
                    return Poll::Pending;
                }
            }
        }
        self.unsent = None;
        Poll::Ready(true)
    }

    /// Takes what waits in the session, and writes it; what the socket does not take stays in `unsent`.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        OUT.with_borrow_mut(|out| {
            out.clear();
            let mut chunks = 0;
            let taken = loop {
                let chunk = out.begin_chunk();
                let taken = self.stream.poll_take(out, chunks == 0 && !self.yielded, cx);
                out.end_chunk(&chunk);
                chunks += 1;
                if taken != Taken::Chunk || chunks == CHUNKS {
                    break taken;
                }
            };
            self.yielded = taken == Taken::Soon;
            if self.yielded {
                // Wakes this task when the others have had their turn.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
            if taken == Taken::End {
                self.ended = true;
                out.put(b"0\r\n\r\n");
            }
            if out.len() == 0 {
                return Poll::Pending;
            }
            // Before it goes to the kernel, which else would take far more than a slow client does.
            if out.len() >= LARGE && !self.bounded {
                self.bounded = true;
                self.socket.bound_unsent();
            }
            let written = match out.poll_write(&mut self.socket, 0, cx) {
                Poll::Ready(Ok(written)) => written,
                // The next write says the same.
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            self.unflushed = self.socket.buffers();
            self.unsent = Unsent::new(out.take_rest(written));
            if out.capacity() > KEPT_BUFFER {
                *out = Gathered::default();
            }
            let waits = matches!(taken, Taken::All | Taken::Nothing);
            if waits && self.unsent.is_none() && !self.unflushed { Poll::Pending } else { Poll::Ready(()) }
        })
    }
}

impl Future for Parked {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.is_gone(cx) {
            return Poll::Ready(());
        }
        loop {
            if !ready!(this.poll_unsent(cx)) {
                return Poll::Ready(());
            }
            if this.ended {
                return Pin::new(&mut this.socket).poll_shutdown(cx).map(drop);
            }
            ready!(this.poll_events(cx));
        }
    }
}
