//! A stream on its socket, with nothing around it: between events it keeps no buffer, only what the
//! client has not taken yet.

use std::{
    cell::RefCell,
    io::Write as _,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::listener::Socket;
use crate::session::{core::Taken, stream::EventStream};

/// Room for the length of a chunk before it, of four digits as most that do not come alone have.
const LENGTH_ROOM: usize = 6;
/// So many chunks leave in one write: of a large event there are many.
const CHUNKS: usize = 4;
/// From here on a chunk is that of a large event, or of a client that is behind.
const LARGE: usize = 32 * 1024;
/// A burst may make the buffer of a thread larger; it does not stay so.
const KEPT_BUFFER: usize = 512 * 1024;

thread_local! {
    /// What is being written. Each thread writes one thing at a time.
    static OUT: RefCell<BytesMut> = RefCell::default();
}

/// Writes a session's events in chunks until the session or the client ends.
pub(super) struct Parked {
    socket: Socket,
    stream: EventStream,
    /// What the socket did not take.
    unsent: Vec<u8>,
    /// Others ran since something waits.
    yielded: bool,
    /// All that the session had to say is in `unsent`.
    ended: bool,
    /// The kernel keeps little that is not sent.
    bounded: bool,
}

impl Parked {
    /// `head` is what goes out first.
    pub(super) fn new(socket: Socket, stream: EventStream, head: Vec<u8>) -> Self {
        Self { socket, stream, unsent: head, yielded: false, ended: false, bounded: false }
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

    /// Ready when `unsent` is empty; `false` if the rest is not wanted any more.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut written = 0;
        while written < self.unsent.len() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.unsent[written..]) {
                Poll::Ready(Ok(length)) if length > 0 => written += length,
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {
                    self.unsent.drain(..written);
                    if !self.bounded {
                        self.bounded = true;
                        self.socket.bound_unsent();
                    }
                    if self.stream.poll_over(written > 0, cx) {
                        return Poll::Ready(false);
                    }
                    return Poll::Pending;
                }
            }
        }
        self.unsent = Vec::new();
        Poll::Ready(true)
    }

    /// Takes what waits in the session, and writes it; what the socket does not take stays in `unsent`.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        OUT.with_borrow_mut(|out| {
            out.clear();
            let mut chunks = 0;
            let taken = loop {
                let start = out.len();
                out.extend_from_slice(&[0; LENGTH_ROOM]);
                let taken = self.stream.poll_take(out, chunks == 0 && !self.yielded, cx);
                if out.len() == start + LENGTH_ROOM {
                    out.truncate(start);
                } else {
                    write_length(out, start);
                    out.extend_from_slice(b"\r\n");
                }
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
                out.extend_from_slice(b"0\r\n\r\n");
            }
            let bytes = &out[..];
            if bytes.is_empty() {
                return Poll::Pending;
            }
            // Before it goes to the kernel, which else would take far more than a slow client does.
            if bytes.len() >= LARGE && !self.bounded {
                self.bounded = true;
                self.socket.bound_unsent();
            }
            let written = match Pin::new(&mut self.socket).poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) => written,
                // The next write says the same.
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            self.unsent = bytes[written..].to_vec();
            if out.capacity() > KEPT_BUFFER {
                *out = BytesMut::new();
            }
            let waits = matches!(taken, Taken::All | Taken::Nothing);
            if waits && self.unsent.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
    }
}

/// Writes the length of the chunk that begins behind the room for it.
fn write_length(out: &mut BytesMut, start: usize) {
    let from = start + LENGTH_ROOM;
    let length = out.len() - from;
    const ROOM: usize = 18;
    let mut digits = [0; ROOM];
    let mut rest = &mut digits[..];
    // It has room for any length.
    let _ = write!(rest, "{length:x}\r\n");
    let taken = ROOM - rest.len();
    if taken > LENGTH_ROOM {
        out.extend_from_slice(&[0; ROOM][..taken - LENGTH_ROOM]);
    }
    if taken != LENGTH_ROOM {
        out.copy_within(from..from + length, start + taken);
        out.truncate(start + taken + length);
    }
    out[start..start + taken].copy_from_slice(&digits[..taken]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_of_any_length_stands_right_behind_its_length() {
        for length in [1, 15, 16, 255, 4_095, 4_096, 65_535, 65_536, 1_048_576] {
            let mut out = BytesMut::from(&b"before"[..]);
            out.extend_from_slice(&[0; LENGTH_ROOM]);
            out.extend((0..length).map(|at| at as u8));
            write_length(&mut out, 6);
            let expected: Vec<u8> = format!("before{length:x}\r\n")
                .into_bytes()
                .into_iter()
                .chain((0..length).map(|at| at as u8))
                .collect();
            assert!(out == expected, "{length}");
        }
    }
}
