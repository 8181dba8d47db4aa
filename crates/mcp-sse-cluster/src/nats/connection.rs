//! What has been seen of the connection, which the client keeps.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::{Event, Statistics};
use tokio::time::Instant;

use crate::{clock, throttle::Throttle};

/// What it is called in errors and logs.
pub(super) const NAME: &str = "NATS";
/// How long connecting for the first time may take, with all attempts, and until a subscription is seen to work.
pub(super) const START: Duration = Duration::from_secs(5);

/// What has been seen of the connection.
#[derive(Debug)]
pub(super) struct Seen {
    /// The servers, without a user.
    pub(super) address: String,
    /// Counts connections; the client's own.
    pub(super) statistics: OnceLock<Arc<Statistics>>,
    /// The count when it was last looked at, and since when there are so many.
    connected: Mutex<Option<(u64, Instant)>>,
    /// What the server said last that it does not like.
    pub(super) complaint: Mutex<Option<String>>,
    complaints: Throttle,
    failures: Throttle,
    slow: Throttle,
}

impl Seen {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            statistics: OnceLock::new(),
            connected: Mutex::default(),
            complaint: Mutex::default(),
            complaints: Throttle::default(),
            failures: Throttle::default(),
            slow: Throttle::default(),
        }
    }

    /// Since when the connection is there. It may be said a little late, never too early.
    pub(super) fn since(&self) -> Instant {
        let connects = self.statistics.get().map_or(0, |counts| counts.connects.load(Ordering::Relaxed));
        let mut connected = lock(&self.connected);
        match *connected {
            Some((counted, since)) if counted == connects => since,
            _ => {
                let since = clock::now();
                *connected = Some((connects, since));
                since
            }
        }
    }

    /// Something happened to the connection.
    pub(super) fn notice(&self, event: &Event) {
        let address = &*self.address;
        match event {
            Event::Connected => {
                self.since();
                tracing::info!(address, "connected to NATS");
            }
            Event::Disconnected => {
                tracing::warn!(address, "the connection to NATS is lost; connecting again");
            }
            Event::LameDuckMode => tracing::info!(address, "this server of NATS is about to stop"),
            Event::SlowConsumer(_) => {
                if self.slow.may_log() {
                    tracing::warn!(
                        address,
                        "messages of other replicas are dropped: they come faster than they are taken"
                    );
                }
            }
            Event::ServerError(error) => {
                let error = error.to_string();
                if self.complaints.may_log() {
                    tracing::warn!(address, error, "NATS refuses something");
                }
                *lock(&self.complaint) = Some(error);
            }
            Event::ClientError(error) => {
                if self.failures.may_log() {
                    tracing::warn!(address, %error, "NATS cannot be connected to; trying again");
                }
            }
            Event::Draining | Event::Closed => {}
        }
    }
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
