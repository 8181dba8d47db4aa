//! The stream of a session, as the core sees it: one is attached, or none.

use std::{task::Waker, time::Instant};

/// Whether a stream is attached.
#[derive(Debug)]
pub(super) enum Stream {
    Attached {
        waker: Option<Waker>,
        /// When the stream last took something, for the keep-alive.
        last_write: Instant,
        /// Since when something waits that the stream has not come for.
        waiting_since: Option<Instant>,
        keep_alive_due: bool,
    },
    Detached {
        since: Instant,
    },
}

/// What a stream gets when it comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes were written to the buffer, and there may be more: the stream is to come again.
    Chunk,
    /// All that waited was written to the buffer; the waker is registered.
    All,
    /// Nothing now; the waker is registered.
    Nothing,
    /// More is likely to follow at once what waits: the stream is to come again when others had their turn.
    Soon,
    /// The stream is at its end.
    End,
}

pub(super) fn attached(now: Instant) -> Stream {
    Stream::Attached { waker: None, last_write: now, waiting_since: None, keep_alive_due: false }
}
