//! What all children share.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    isolation::{Apart, Range},
    strays::Strays,
    turns::Turns,
};

/// The bounds for all children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Children running at once.
    pub(crate) children: usize,
    /// Starts per second; the burst is one second's worth.
    pub(crate) starts_per_second: u32,
    /// From the start to the answer to `initialize`, including the wait for a place.
    pub(crate) start_timeout: Duration,
    /// How long a child may take to exit after its stdin is closed, and again after SIGTERM.
    pub(crate) stop_timeout: Duration,
    /// Maximum length of a line on stdout, in bytes.
    pub(crate) message_bytes: usize,
    /// The range that each session's user is taken from.
    pub(crate) users: Option<Range>,
    /// Whether clients are sent the last lines of a child's stderr when it dies. They may contain secrets.
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
    /// The tasks that end children whose `Process` was dropped.
    pub(super) ending: TaskTracker,
    /// Cancelled when all children are to be killed at once.
    pub(super) hurry: CancellationToken,
}

/// A keeper to start, and the channel that returns it.
pub(super) struct Start {
    pub(super) command: tokio::process::Command,
    pub(super) reply: oneshot::Sender<std::io::Result<tokio::process::Child>>,
}
