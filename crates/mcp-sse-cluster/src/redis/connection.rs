//! What is known of the connection, and whom its messages are for: all that the tasks and the carriers share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{RedisConnectionInfo, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::server::{Received, is_refusal, no_answer, said};
use crate::{
    address::Address,
    intake::{Dropped, Intake},
    replies::Replies,
    throttle::Throttle,
};

/// How long connecting for the first time may take, with all attempts, and until a subscription is confirmed.
pub(super) const START: Duration = Duration::from_secs(5);
/// The pause before an attempt to connect again.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What ends with the last clone.
pub(super) struct Connected {
    pub(super) shared: Arc<Shared>,
    /// Keeps the connection, and brings what comes to whom it is for.
    pub(super) _tasks: [Task; 2],
}

/// A task that ends when this is dropped.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is known of the connection, and used by all.
pub(super) struct Shared {
    pub(super) address: Address,
    pub(super) login: RedisConnectionInfo,
    pub(super) tls: Option<TlsConnector>,
    pub(super) messages: mpsc::Sender<Received>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) line: watch::Sender<Line>,
    /// Asks whoever keeps the connection to look at it.
    pub(super) doubts: Notify,
    // Never held across an await.
    pub(super) channels: Mutex<HashMap<String, Channel>>,
    pub(super) failures: Throttle,
    pub(super) refusals: Throttle,
}

/// The connection as it is now.
#[derive(Clone, Default)]
pub(super) struct Line {
    /// Tells connections apart.
    pub(super) number: u64,
    pub(super) connection: Option<MultiplexedConnection>,
    /// Since when it is up, if it is.
    pub(super) up: Option<Instant>,
}

/// Whom messages of a channel are for.
#[derive(Default)]
pub(super) struct Channel {
    /// Left channels are not subscribed to again; what is still on its way from there is taken.
    pub(super) is_left: bool,
    pub(super) routes: Vec<Route>,
}

#[derive(Clone)]
pub(super) struct Route {
    pub(super) intake: Arc<Intake>,
    pub(super) what: What,
}

#[derive(Clone)]
pub(super) enum What {
    Calls,
    Replies(Arc<Replies>),
    Announcements,
}

impl Shared {
    /// The connection, whether or not it is up.
    pub(super) fn line(&self) -> Line {
        self.line.borrow().clone()
    }

    /// This connection may not be there any more: it counts as down until it has answered.
    pub(super) fn doubt(&self, number: u64) {
        let doubted = self.line.send_if_modified(|line| line.number == number && line.up.take().is_some());
        if doubted {
            self.doubts.notify_one();
        }
    }

    /// The channels to subscribe to.
    pub(super) fn wanted(&self) -> Vec<String> {
        let channels = lock(&self.channels);
        channels.iter().filter(|(_, channel)| !channel.is_left).map(|(name, _)| name.clone()).collect()
    }

    /// Whom a message of this channel is for.
    pub(super) fn routes(&self, channel: &[u8]) -> Vec<Route> {
        let Ok(name) = str::from_utf8(channel) else { return Vec::new() };
        lock(&self.channels).get(name).map(|channel| channel.routes.clone()).unwrap_or_default()
    }

    /// Subscribes to channels which all later connections subscribe to, too.
    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<(), String> {
        let mut lines = self.line.subscribe();
        let subscribing = async {
            loop {
                let connection = match lines.wait_for(|line| line.up.is_some()).await {
                    Ok(line) => line.connection.clone(),
                    Err(_) => return Err("it is closed".to_owned()),
                };
                if let Some(mut connection) = connection {
                    match connection.subscribe(channels).await {
                        Ok(()) => return Ok(()),
                        Err(error) if is_refusal(&error) => return Err(said(&error)),
                        // The connection is lost, and there will be another.
                        Err(_) => {}
                    }
                }
                sleep(PAUSE).await;
            }
        };
        let subscribed = timeout(START, subscribing).await;
        subscribed.unwrap_or_else(|_| Err(no_answer(START)))
    }

    pub(super) fn refuses(&self, error: &RedisError) {
        if is_refusal(error) && self.refusals.may_log() {
            tracing::warn!(address = %self.address, why = said(error), "Redis refuses to publish a message");
        }
    }
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
