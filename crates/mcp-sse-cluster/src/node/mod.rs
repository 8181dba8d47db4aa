//! One replica among others.
//!
//! | room | what lives there |
//! |---|---|
//! | here | its place among the others: it is there, it leaves |
//! | `asking` | requests of its own, which others answer |
//! | `answering` | requests of others |

mod answering;
pub(crate) mod asking;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mcp_sse::{Host, ReplicaId};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::{
    carrier::{Carrier, Link},
    clock,
    core::{
        others::{ANNOUNCED_EVERY, Others},
        parts::Parts,
        seen::Seen,
    },
    figures::Figures,
    seal::{Seals, Sent, Unread},
    streams::Streams,
    throttle::Throttle,
    wire::{self, Announcement},
};

/// How long one attempt may take, and how long all of them.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(1_500);
pub(crate) const ALL_ATTEMPTS: Duration = Duration::from_secs(5);
/// The pause before something is sent again that was not lost in silence.
const PAUSE: Duration = Duration::from_millis(100);
/// How many hosts at a time are told that nobody reads an answer any more. The others find out by themselves.
const ENDS: usize = 256;

pub(crate) struct Node {
    me: ReplicaId,
    carrier: Arc<dyn Carrier>,
    seals: Seals,
    hosts: Mutex<HashMap<&'static str, Weak<dyn Host>>>,
    seen: Mutex<Seen>,
    parts: Mutex<Parts>,
    others: Mutex<Others>,
    streams: Streams,
    next: AtomicU64,
    /// Another replica has come.
    news: Arc<Notify>,
    left: AtomicBool,
    /// Since when the link is down, as far as it was looked at.
    down: Mutex<Option<Instant>>,
    /// How many answers of others are read.
    pub(crate) reading: AtomicUsize,
    /// Whether streams of events among them are to end.
    ending: AtomicBool,
    ends: Notify,
    /// Places to tell hosts that nobody reads an answer any more.
    pub(crate) ending_elsewhere: Arc<Semaphore>,
    pub(crate) figures: Figures,
    unread: Throttle,
}

impl Node {
    pub(crate) fn new(me: ReplicaId, carrier: Arc<dyn Carrier>, seals: Seals) -> Self {
        Self {
            me,
            carrier,
            seals,
            hosts: Mutex::default(),
            seen: Mutex::default(),
            parts: Mutex::default(),
            others: Mutex::default(),
            streams: Streams::default(),
            next: AtomicU64::new(1),
            news: Arc::default(),
            left: AtomicBool::new(false),
            down: Mutex::default(),
            reading: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            ends: Notify::new(),
            ending_elsewhere: Arc::new(Semaphore::new(ENDS)),
            figures: Figures::default(),
            unread: Throttle::default(),
        }
    }

    pub(crate) fn me(&self) -> &ReplicaId {
        &self.me
    }

    pub(crate) fn link(&self) -> Link {
        self.carrier.link()
    }

    /// How long the link has been down; `None` if it is up, as far as it is known.
    fn down_for(&self) -> Option<Duration> {
        let mut down = lock(&self.down);
        if let Link::Up(_) = self.carrier.link() {
            *down = None;
            return None;
        }
        let now = clock::now();
        Some(now.saturating_duration_since(*down.get_or_insert(now)))
    }

    pub(crate) fn bind(&self, service: &'static str, host: Weak<dyn Host>) {
        lock(&self.hosts).insert(service, host);
    }

    pub(crate) fn replicas(&self) -> Vec<ReplicaId> {
        let known = lock(&self.others).known(clock::now());
        known.into_iter().filter(|replica| *replica != self.me).collect()
    }

    /// Says that it is there, for as long as it is: at times, and when there is somebody who has not heard it.
    pub(crate) async fn announces(this: Weak<Self>) {
        while let Some(node) = this.upgrade() {
            let _ = node.down_for();
            node.announce(false).await;
            let news = Arc::clone(&node.news);
            drop(node);
            let _ = timeout(ANNOUNCED_EVERY, news.notified()).await;
            // Many may come at once.
            sleep(PAUSE).await;
        }
    }

    /// Says that it is there, or that it leaves.
    pub(crate) async fn announce(&self, leaves: bool) {
        if self.left.fetch_or(leaves, Ordering::AcqRel) && !leaves {
            return;
        }
        let announcement = Announcement { replica: self.me.to_string(), leaves };
        let sealed = self.seals.seal(Sent::Announcement, &wire::write(&announcement));
        // An engine that is frozen takes nothing.
        let _ = timeout(ATTEMPT, self.carrier.announce(sealed)).await;
    }

    /// Waits until nothing that others have answered is read here any more: streams of events end, as their clients go on
    /// elsewhere, and all else at its own pace.
    pub(crate) async fn relayed(&self) {
        self.ending.store(true, Ordering::Release);
        self.ends.notify_waiters();
        while self.reading.load(Ordering::Acquire) > 0 {
            sleep(PAUSE).await;
        }
    }

    /// Resolves when streams of events that are read here are to end.
    pub(crate) async fn is_ending(&self) {
        let ends = self.ends.notified();
        if !self.ending.load(Ordering::Acquire) {
            ends.await;
        }
    }

    /// Takes no more requests of others, and says so. What they still read is read to its end.
    pub(crate) async fn leave(&self) {
        self.announce(true).await;
        let _ = timeout(ALL_ATTEMPTS, self.streams.emptied()).await;
        let _ = timeout(ATTEMPT, self.carrier.leave()).await;
    }

    /// For others, and for whoever comes after this replica.
    pub(crate) fn sealed(&self, what: Sent<'_>, bytes: &[u8]) -> Bytes {
        self.seals.seal(what, bytes)
    }

    /// What was sent to this replica, opened.
    pub(crate) fn opened(&self, what: Sent<'_>, bytes: &Bytes) -> Option<Bytes> {
        let why = match self.seals.open(what, bytes) {
            Ok(opened) => return Some(opened),
            Err(why) => why,
        };
        self.figures.unread.add();
        if self.unread.may_log() {
            let text = match why {
                Unread::Version => "it comes from another version, or is none",
                Unread::NotSealed => "it is not sealed: a replica has no cluster key",
                Unread::NoKey => "it is sealed: this replica needs the cluster key",
                Unread::Forged => "it was not sealed with this cluster key, or was changed",
            };
            tracing::warn!(engine = self.carrier.name(), "a message of another replica is not read: {text}");
        }
        None
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
