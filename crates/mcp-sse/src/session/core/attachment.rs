//! The stream of a session as the core sees it: attached or detached.

use std::{task::Waker, time::Instant};

/// Whether a stream is attached.
#[derive(Debug)]
pub(super) enum Stream {
    Attached {
        waker: Option<Waker>,
        /// When the stream last took something, for the keep-alive.
        last_write: Instant,
        /// Since when something has been waiting that the stream has not taken.
        waiting_since: Option<Instant>,
        keep_alive_due: bool,
    },
    Detached {
        since: Instant,
    },
}

/// The result of polling a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes were written to the buffer, and there may be more: poll again.
    Chunk,
    /// Everything that waited was written to the buffer; the waker is registered.
    All,
    /// Nothing waits; the waker is registered.
    Nothing,
    /// Something waits, and more is likely to follow at once: poll again after other tasks have run.
    Soon,
    /// The stream has ended.
    End,
}

pub(super) fn attached(now: Instant) -> Stream {
    Stream::Attached { waker: None, last_write: now, waiting_since: None, keep_alive_due: false }
}
