//! A session of ours with a server, for clients that have none: its core, shared by the requests that are answered in it and by the
//! two halves that the server sees.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    task::Poll,
};

use http::request::Parts;
use mcp_sse::{Incoming, Message, SessionGrant, SessionPermit};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{owner::Whose, states::States};
use crate::{
    bridge::modern_client::{Asked, Host, Out, Refused, State},
    clock,
    front::{
        Gone, Receive, Reply,
        http::{Figures, Held},
    },
};

/// What comes along with a request: its head, and the memory and the room that it takes until the server has it.
#[derive(Debug)]
pub(super) struct Along {
    pub(super) parts: Box<Parts>,
    pub(super) _held: Held,
    pub(super) _room: OwnedSemaphorePermit,
}

pub(crate) struct Hosted {
    core: Mutex<Shared>,
    pub(super) whose: Arc<Whose>,
    pub(super) server: usize,
    /// For what no client's request comes along with.
    head: Parts,
    states: Arc<States<Self>>,
    figures: Arc<Figures>,
    pub(super) grant: Option<SessionGrant>,
    /// The next deadline may have changed, or whether it is used.
    pub(super) changed: Notify,
    /// It is over, or to be so at once.
    pub(super) closed: CancellationToken,
    /// Another definition of its server has taken its place: it ends as soon as nobody uses it.
    pub(super) replaced: AtomicBool,
    /// It is to end, but its clients are still told.
    pub(super) ending: CancellationToken,
    this: Weak<Self>,
}

impl std::fmt::Debug for Hosted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosted").finish_non_exhaustive()
    }
}

struct Shared {
    host: Host<Along>,
    /// Its place under the caps, until it is over.
    place: Option<SessionPermit>,
    in_flight: usize,
    used: bool,
    attended: bool,
    messages: (u64, u64),
}

impl Hosted {
    pub(super) fn new(
        host: Host<Along>,
        (whose, server): (Arc<Whose>, usize),
        head: Parts,
        place: SessionPermit,
        states: Arc<States<Self>>,
        figures: Arc<Figures>,
    ) -> Arc<Self> {
        let grant = head.extensions.get().map(SessionGrant::new);
        place.set_in_use(false);
        let core =
            Shared { host, place: Some(place), in_flight: 0, used: false, attended: false, messages: (0, 0) };
        Arc::new_cyclic(|this| Self {
            core: Mutex::new(core),
            whose,
            server,
            head,
            states,
            figures,
            grant,
            changed: Notify::new(),
            closed: CancellationToken::new(),
            replaced: AtomicBool::new(false),
            ending: CancellationToken::new(),
            this: this.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core, and what follows from it.
    pub(super) fn with<R>(&self, operation: impl FnOnce(&mut Host<Along>) -> R) -> R {
        let mut shared = self.lock();
        let deadline = shared.host.deadline();
        let result = operation(&mut shared.host);
        let freed = shared.host.take_freed();
        let (before, now) = (shared.in_flight, shared.host.in_flight());
        shared.in_flight = now;
        for _ in before..now {
            self.figures.request();
        }
        let used = shared.host.is_used();
        let changes = std::mem::replace(&mut shared.used, used) != used;
        let attended = shared.host.is_attended();
        if std::mem::replace(&mut shared.attended, attended) != attended
            && let Some(place) = &shared.place
        {
            // Others may need it more than clients that are away.
            place.set_in_use(attended);
        }
        let is_other = changes || shared.host.deadline() != deadline;
        let is_over = shared.host.is_over() || shared.host.has_found() || shared.host.has_askers();
        drop(shared);
        self.figures.answered(before.saturating_sub(now));
        self.states.free(&freed);
        if is_other || is_over {
            self.changed.notify_one();
        }
        result
    }

    /// Takes a request, or continues one.
    pub(super) fn ask(&self, asked: &Arc<Asked>, along: Along, asks: bool) -> Result<Call, Refused> {
        let now = clock::now();
        self.shows(&along.parts);
        let key = self.with(|host| host.ask(Arc::clone(asked), along, asks, now))?;
        self.lock().messages.0 += 1;
        Ok(self.call(key, asked.print))
    }

    pub(super) fn resume(&self, key: i64, asked: &Asked, along: Along) -> Result<Call, Refused> {
        self.shows(&along.parts);
        self.with(|host| host.resume(key, asked, along, clock::now()))?;
        Ok(self.call(key, asked.print))
    }

    fn shows(&self, parts: &Parts) {
        if let (Some(grant), Some(shown)) = (&self.grant, parts.extensions.get()) {
            grant.show(shown);
        }
    }

    fn call(&self, key: i64, print: u64) -> Call {
        Call { host: self.this.upgrade(), key, print }
    }

    /// When it is idle for too long, if nobody uses it, and when its core has to be told the time.
    pub(super) fn times(&self) -> (Option<Instant>, Option<Instant>) {
        let shared = self.lock();
        let idle = (!shared.host.is_used()).then(|| shared.host.idle_since());
        (idle, shared.host.deadline())
    }

    /// Resolves when it has to make room.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        let evicted = self.lock().place.as_ref().map(SessionPermit::evicted);
        async move {
            match evicted {
                Some(evicted) => evicted.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Messages from clients, and to them.
    pub(super) fn so_far(&self) -> (u64, u64) {
        self.lock().messages
    }

    /// Gives up its place, and all that is left in it.
    pub(super) fn over(&self, text: &str) {
        self.closed.cancel();
        self.with(|host| host.fail(text));
        let place = self.lock().place.take();
        drop(place);
    }

    /// Resolves when its clients are gone, as far as its server is concerned.
    async fn is_ending(&self) {
        tokio::select! {
            () = self.closed.cancelled() => {}
            () = self.ending.cancelled() => {}
            () = self.figures.end.cancelled() => {}
        }
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        let left = self.lock().in_flight;
        self.figures.answered(left);
    }
}

/// A request that is being answered. If it is dropped before, its client has gone.
pub(super) struct Call {
    host: Option<Arc<Hosted>>,
    key: i64,
    print: u64,
}

impl Call {
    /// The next thing for the client; `None` after the last one.
    pub(super) fn poll_next(&mut self, cx: &std::task::Context<'_>) -> Poll<Option<Out>> {
        let Some(host) = &self.host else { return Poll::Ready(None) };
        let mint = || self.mint(host);
        let next = std::task::ready!(host.with(|core| core.poll_next(self.key, cx, clock::now(), mint)));
        if let Some(Out::Notification(_)) = &next {
            host.lock().messages.1 += 1;
        } else {
            host.lock().messages.1 += u64::from(next.is_some());
            self.host = None;
        }
        Poll::Ready(next)
    }

    fn mint(&self, host: &Arc<Hosted>) -> Option<State> {
        host.states.mint(host.server, &host.whose, self.print, &Arc::downgrade(host), self.key)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.with(|core| core.leave(self.key, clock::now()));
        }
    }
}

/// Yields messages of clients.
pub(crate) struct HostReceiver(pub(super) Arc<Hosted>);

/// Takes the server's messages for them.
pub(crate) struct HostReply(pub(super) Arc<Hosted>);

impl Receive for HostReceiver {
    async fn recv(&mut self) -> Option<Incoming> {
        let host = &self.0;
        loop {
            let next = poll_fn(|cx| host.with(|core| core.poll_outgoing(cx)));
            let outgoing = tokio::select! {
                biased;
                next = next => next?,
                () = host.is_ending() => return None,
            };
            let message = outgoing.message();
            let parts = outgoing.along.map_or_else(|| host.head.clone(), |along| *along.parts);
            match message {
                Some(message) => return Some(Incoming::new(message, parts)),
                // It was read before.
                None => {
                    tracing::warn!("a client's message could not be written for its server; it was dropped");
                }
            }
        }
    }
}

impl Reply for HostReply {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        if self.0.closed.is_cancelled() {
            return Err(Gone);
        }
        self.0.with(|core| core.says(message, clock::now()));
        Ok(())
    }

    async fn fail(&self, text: &str) {
        self.0.over(text);
    }

    async fn idle(&self) {}

    async fn closed(&self) {
        self.0.is_ending().await;
    }
}
