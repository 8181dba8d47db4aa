//! What all children have in common.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    isolation::{Apart, Range},
    strays::Strays,
    turns::Turns,
};

/// The bounds of all children together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Children that run at the same time.
    pub(crate) children: usize,
    /// Starts a second; as many may come at once.
    pub(crate) starts_per_second: u32,
    /// From the start to the answer to `initialize`, waiting for a place included.
    pub(crate) start_timeout: Duration,
    /// What a child gets to end by itself, and again after SIGTERM.
    pub(crate) stop_timeout: Duration,
    /// Bytes of a line on stdout.
    pub(crate) message_bytes: usize,
    /// Each has a user of its own from these.
    pub(crate) users: Option<Range>,
    /// Clients are told the end of a child's stderr when it dies. Secrets may stand there.
    pub(crate) stderr_to_client: bool,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) bounds: Bounds,
    pub(super) places: Arc<Semaphore>,
    pub(super) turns: Turns,
    pub(super) starter: mpsc::Sender<Start>,
    pub(super) apart: Arc<Apart>,
    pub(super) strays: Arc<Strays>,
    /// What is still being done for children that nobody holds any more.
    pub(super) ending: TaskTracker,
    /// No more patience with any of them.
    pub(super) hurry: CancellationToken,
}

/// A keeper to be started, and where to put it.
pub(super) struct Start {
    pub(super) command: tokio::process::Command,
    pub(super) reply: oneshot::Sender<std::io::Result<tokio::process::Child>>,
}
