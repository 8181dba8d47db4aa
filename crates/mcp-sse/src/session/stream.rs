//! The reader of a session's log behind an open stream. Whoever writes the stream to a connection polls it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};

use super::{core::Taken, driver::Driver};
use crate::output::Output;

/// A reader of a session's log.
#[derive(Debug)]
pub(crate) struct EventStream {
    session: Arc<Driver>,
    generation: u64,
    /// The `endpoint` event, until it is sent.
    preamble: BytesMut,
    ended: bool,
}

impl EventStream {
    /// `preamble` is the first event of the stream.
    pub(crate) fn new(session: Arc<Driver>, generation: u64, preamble: BytesMut) -> Self {
        Self { session, generation, preamble, ended: false }
    }

    #[cfg(feature = "server")]
    pub(crate) fn session(&self) -> &Arc<Driver> {
        &self.session
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // The first event and whatever waits behind it leave in one chunk.
        let mut chunk = std::mem::take(&mut self.preamble);
        match self.take(&mut chunk, 0, cx) {
            Taken::Chunk | Taken::All => Poll::Ready(Some(chunk.freeze())),
            Taken::Soon | Taken::Nothing => Poll::Pending,
            Taken::End => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

impl EventStream {
    fn take(&self, out: &mut impl Output, start: usize, cx: &Context<'_>) -> Taken {
        self.session.with(|core, now| core.poll_take(self.generation, out, start, cx.waker(), now))
    }
}

#[cfg(feature = "server")]
impl EventStream {
    /// Appends what waits to `out`, after the stream's first event if that was not sent yet. `first`: the
    /// last call did not return `Soon`.
    pub(crate) fn poll_take(&mut self, out: &mut impl Output, first: bool, cx: &Context<'_>) -> Taken {
        let start = out.len();
        if !self.preamble.is_empty() {
            out.put(&std::mem::take(&mut self.preamble));
        } else if first {
            return self
                .session
                .with(|core, now| core.poll_first(self.generation, out, start, cx.waker(), now));
        }
        self.take(out, start, cx)
    }

    /// Whether the stream is over, so that what was taken but not written yet can be dropped. `some_left`: a
    /// part of it was written since the last call.
    pub(crate) fn poll_over(&self, some_left: bool, cx: &Context<'_>) -> bool {
        self.session.with(|core, now| core.poll_over(self.generation, some_left, cx.waker(), now))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.session.with(|core, now| core.detach(self.generation, now));
    }
}
