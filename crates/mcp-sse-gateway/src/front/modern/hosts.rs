//! The sessions of ours with one server: which requests are answered in which of them.
//!
//! Requests of one owner, whose client says the same of itself, share a session: what one call does there, the next one finds.
//! What has asked the client before gets another session while the first one is busy with the like, as it would not be clear
//! there which of them asks.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use http::request::Parts;
use mcp_sse::{CloseReason, GrantEnd, SseServerTransport};
use tokio::time::sleep_until;

use super::{
    head::lean,
    hosted::{Along, Call, HostReceiver, HostReply, Hosted},
    owner::Whose,
    server::Server,
    states::States,
};
use crate::{
    bridge::modern_client::{About, Asked, Bounds, Host, Plan, Refused},
    clock,
    front::http::{Counted, Figures},
    metrics::{Metrics, STREAMABLE_HTTP},
};

/// The most sessions for one client, and how long all but the first may be idle.
const LANES: usize = 8;
const EXTRA_IDLE: Duration = Duration::from_secs(60);

/// How many of those are remembered that ask.
const ASKERS: usize = 1024;

/// What sessions of all servers share.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Of one session.
    pub(crate) requests_in_flight: usize,
    pub(crate) start_timeout: Duration,
    /// How long a session may be idle; zero: no limit.
    pub(crate) idle_timeout: Duration,
    /// The pause after which a stream that is silent gets a comment; zero: none.
    pub(crate) keep_alive: Duration,
    pub(crate) figures: Arc<Figures>,
    /// The transport under whose caps these sessions count.
    pub(crate) transport: SseServerTransport,
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) states: Arc<States<Hosted>>,
}

pub(super) struct Hosts {
    server: Arc<dyn Server>,
    /// Tells this server from others.
    pub(super) id: usize,
    settings: Settings,
    all: Mutex<HashMap<Key, Lanes>>,
    /// What has asked clients before.
    askers: Mutex<HashSet<Box<str>>>,
    this: Weak<Self>,
}

/// Whose requests share a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    whose: Arc<Whose>,
    about: About,
}

/// The sessions for one client, the first of which is for all that no question can come of.
#[derive(Default)]
struct Lanes {
    /// Of which definition of the server they are.
    definition: usize,
    open: Vec<Arc<Hosted>>,
}

/// Why a request is not answered.
pub(super) enum Unanswered {
    /// There is no room for it, or for a session.
    Full,
    /// The server takes no new sessions.
    Closed,
    State,
}

impl Hosts {
    pub(super) fn new(server: Arc<dyn Server>, settings: Settings) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            server,
            id: this.as_ptr().addr(),
            settings,
            all: Mutex::default(),
            askers: Mutex::default(),
            this: this.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Lanes>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asks(&self, subject: &str) -> bool {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner).contains(subject)
    }

    fn learn(&self, new: Vec<Box<str>>) {
        if new.is_empty() {
            return;
        }
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in new {
            if askers.len() < ASKERS {
                askers.insert(subject);
            }
        }
    }

    /// Takes a request. A session is opened for it where that is needed, and if it `may_open` one.
    pub(super) fn ask(
        &self,
        whose: Whose,
        asked: &Arc<Asked>,
        along: Along,
        may_open: bool,
    ) -> Result<Call, Unanswered> {
        let about = asked.about().clone();
        // A server of the same era asks in its answers.
        let is_modern = self.server.speaks_modern() == Some(true);
        let key = Key { whose: Arc::new(whose), about };
        let definition = self.server.definition();
        // Held until the session has the request, so that no other takes it for a free one.
        let mut all = self.lock();
        let lanes = all.entry(key.clone()).or_default();
        if lanes.definition != definition {
            // Those that are open stay until they are idle.
            for host in std::mem::replace(lanes, Lanes { definition, open: Vec::new() }).open {
                host.replaced.store(true, Ordering::Release);
                host.changed.notify_one();
            }
        }
        lanes.open.retain(|host| !host.closed.is_cancelled() && !host.ending.is_cancelled());
        for host in &lanes.open {
            self.learn(host.with(Host::take_askers));
        }
        let asks = !is_modern && asked.subject().is_some_and(|subject| self.asks(&subject));
        let spreads = asks && key.about.may_be_asked();
        let chosen = match lanes.free(spreads) {
            Some(host) => Some(host),
            None if !may_open => lanes.open.first().cloned(),
            None => match self.open(&key, &along.parts, lanes.open.is_empty()) {
                Some(host) => {
                    lanes.open.push(Arc::clone(&host));
                    Some(host)
                }
                None => lanes.least(),
            },
        };
        let is_empty = lanes.open.is_empty();
        let asked = match chosen {
            Some(host) => host.ask(asked, along, asks).map_err(|refused| match refused {
                Refused::State => Unanswered::State,
                Refused::Full | Refused::Over => Unanswered::Full,
            }),
            None if may_open => Err(Unanswered::Full),
            None => Err(Unanswered::Closed),
        };
        if is_empty {
            all.remove(&key);
        }
        asked
    }

    /// Opens a session; `None` if there is no place for it.
    fn open(&self, key: &Key, parts: &Parts, first: bool) -> Option<Arc<Hosted>> {
        let Settings { requests_in_flight, start_timeout, figures, transport, states, .. } = &self.settings;
        let place = transport.reserve_session(&parts.extensions)?;
        let plan = match self.server.speaks_modern() {
            Some(true) => Plan::Modern,
            Some(false) => Plan::Legacy,
            None => Plan::Ask,
        };
        let bounds = Bounds { requests: *requests_in_flight, start_timeout: *start_timeout };
        let host = Host::new(key.about.clone(), plan, bounds, clock::now());
        let whose = Arc::clone(&key.whose);
        let host =
            Hosted::new(host, (whose, self.id), lean(parts), place, Arc::clone(states), Arc::clone(figures));
        let counted = Counted::new(Arc::clone(figures));
        let run = Running { hosts: self.this.upgrade()?, key: key.clone(), host: Arc::clone(&host), counted };
        let id = self.settings.states.next_id();
        let span = tracing::info_span!("session", id = %format_args!("{id}…"));
        tokio::spawn(tracing::Instrument::instrument(run.run(id, first), span));
        Some(host)
    }

    fn remove(&self, key: &Key, host: &Arc<Hosted>) {
        let mut all = self.lock();
        let Some(lanes) = all.get_mut(key) else { return };
        lanes.open.retain(|other| !Arc::ptr_eq(other, host));
        if lanes.open.is_empty() {
            all.remove(key);
        }
    }
}

impl Lanes {
    /// A session for a request that leads to questions, if it `spreads`; `None` if there should be another one for it.
    fn free(&self, spreads: bool) -> Option<Arc<Hosted>> {
        if !spreads {
            return self.open.first().cloned();
        }
        let loads = || self.open.iter().map(|host| (host, host.with(|core| core.load())));
        if let Some((host, _)) = loads().find(|(_, load)| load.asks + load.parked == 0) {
            return Some(Arc::clone(host));
        }
        if self.open.len() < LANES {
            return None;
        }
        // The one whose client is away for the longest time is most likely to stay away.
        let away = loads().filter(|(_, load)| load.asks == 0).min_by_key(|(_, load)| load.oldest);
        if let Some((host, load)) = away {
            for _ in 0..load.parked {
                host.with(|core| core.expire_oldest(clock::now()));
            }
            return Some(Arc::clone(host));
        }
        self.least()
    }

    fn least(&self) -> Option<Arc<Hosted>> {
        self.open.iter().min_by_key(|host| host.with(|core| core.in_flight())).cloned()
    }
}

/// A session that runs.
struct Running {
    hosts: Arc<Hosts>,
    key: Key,
    host: Arc<Hosted>,
    counted: Counted,
}

impl Running {
    async fn run(self, id: String, first: bool) {
        let Self { hosts, key, host, counted } = self;
        let metrics = hosts.settings.metrics.clone();
        tracing::info!("session opened over Streamable HTTP, for requests without one");
        if let Some(metrics) = &metrics {
            metrics.opened(STREAMABLE_HTTP);
        }
        let start = clock::now();
        let mut run = hosts.server.run(id, HostReceiver(Arc::clone(&host)), HostReply(Arc::clone(&host)));
        let reason = tokio::select! {
            reason = &mut run => reason,
            reason = hosts.ends(&host, first) => {
                host.ending.cancel();
                run.await;
                reason
            }
        };
        host.over("the session ended before the answer");
        hosts.remove(&key, &host);
        let reason = if counted.is_ended() { CloseReason::Shutdown.as_str() } else { reason };
        let (messages_in, messages_out) = host.so_far();
        let elapsed = start.elapsed();
        // Dropped before the line is logged: whoever reads it finds the session gone.
        drop(counted);
        if let Some(metrics) = &metrics {
            metrics.closed(STREAMABLE_HTTP, reason, elapsed);
        }
        let seconds = elapsed.as_secs_f64();
        tracing::info!(reason, seconds, messages_in, messages_out, "session over Streamable HTTP closed");
    }
}

impl Hosts {
    /// Ends a session that nobody uses, unless somebody does now.
    fn ends_idle(&self, host: &Hosted) -> bool {
        // While this is held, no request finds it.
        let _all = self.lock();
        let is_idle = host.times().0.is_some();
        if is_idle {
            host.ending.cancel();
        }
        is_idle
    }

    /// Does what is due in a session, until it has to end; why it has.
    async fn ends(&self, host: &Arc<Hosted>, first: bool) -> &'static str {
        let idle_timeout = match self.settings.idle_timeout {
            Duration::ZERO if first => None,
            Duration::ZERO => Some(EXTRA_IDLE),
            timeout => Some(if first { timeout } else { timeout.min(EXTRA_IDLE) }),
        };
        let evicted = host.evicted();
        tokio::pin!(evicted);
        let unauthorized = async {
            match &host.grant {
                Some(grant) => grant.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(unauthorized);
        loop {
            let now = clock::now();
            let (idle_since, due) = host.times();
            let is_replaced = host.replaced.load(Ordering::Acquire);
            let idle_timeout = if is_replaced { Some(Duration::ZERO) } else { idle_timeout };
            let idle = idle_since.zip(idle_timeout).map(|(since, timeout)| since + timeout);
            if idle.is_some_and(|idle| idle <= now) {
                if self.ends_idle(host) {
                    return "idle";
                }
                continue;
            }
            if due.is_some_and(|due| due <= now) {
                host.with(|core| core.due(now));
                continue;
            }
            let (era, askers) = host.with(|core| (core.take_era(), core.take_askers()));
            self.learn(askers);
            if let Some(modern) = era {
                self.server.found(modern);
            }
            let next = idle.into_iter().chain(due).min();
            tokio::select! {
                () = host.changed.notified() => {}
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
                () = &mut evicted => return CloseReason::Evicted.as_str(),
                end = &mut unauthorized => return match end {
                    GrantEnd::Expired => CloseReason::Expired.as_str(),
                    _ => CloseReason::Unauthorized.as_str(),
                },
            }
        }
    }
}
