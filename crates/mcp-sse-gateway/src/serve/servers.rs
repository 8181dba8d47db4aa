//! The table of servers: which server is served under which path, and how that changes while sessions are open.
//!
//! Invariants:
//! - A session keeps the server that it began with; a changed definition applies to new sessions.
//! - A removed server accepts no new sessions. Its open sessions continue, and can be resumed, until they end.

mod checks;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use mcp_sse::{CloseReason, Routes, Session, SseServerTransport};
use rmcp::transport::StreamableHttpServerConfig;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    hosts::Reached,
    life::Life,
    named::{Named, State},
    paths::Layout,
    probe,
    session::{Begun, Over},
    target::Target,
};
use crate::{
    access::{Auth, Guards, Protection, WellKnown},
    args::Serve,
    audit::Audit,
    backend::{
        child::{Bounds, Children, isolation, memory},
        remote::{Found, Remote},
    },
    bridge::{Era, Eras},
    calls::{self, Watchers},
    config::{Auths, Definition, RemoteServer, Server, Servers},
    encoded::encoded,
    front::{
        http::{self, Bodies, Mcp, Sessions},
        modern::{self, Hosted, Modern, States},
    },
    log,
    metrics::{self, InCluster, Metrics, Snapshot},
    replicas::Replicas,
    revive::{Keep, Policy},
};

/// How long sessions over Streamable HTTP may take to tell their clients that they end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long a body may take to arrive over Streamable HTTP; the transport's own default.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many servers are probed at a time.
const PROBES: usize = 4;

/// The table of all servers.
pub(super) struct Table {
    guards: Arc<Guards>,
    watchers: Watchers,
    /// The sessions that have begun, if there is a place to see them.
    open: Option<Arc<calls::Sessions>>,
    replicas: Option<Replicas>,
    servers: Mutex<BTreeMap<String, Arc<Named>>>,
    routes: Routes,
    /// The transport of the server without a name; the others are further endpoints of it.
    pub(super) transport: SseServerTransport,
    pub(super) children: Children,
    client: reqwest::Client,
    bounds: Bounds,
    settings: Settings,
    /// The counts of sessions and requests over Streamable HTTP.
    http_sessions: Arc<http::Figures>,
    /// The memory bounds for the bodies that are posted over it.
    bodies: Arc<Bodies>,
    /// Requests of the stateless era whose clients have to come back.
    states: Arc<States<Hosted>>,
    /// Cancels whatever rmcp's services still do.
    end_http: CancellationToken,
    /// Sessions whose servers have not been told yet that they are over.
    running: TaskTracker,
}

/// The settings that all servers share.
struct Settings {
    layout: Layout,
    no_mcp: bool,
    mcp_idle_timeout: Duration,
    keep_alive: Duration,
    /// How servers are kept alive where nothing else is set for them.
    keep: Keep,
    /// Which era is spoken to servers where nothing else is set for them.
    era: Era,
    /// Whether there is a place to keep sessions for other replicas.
    keeps: bool,
    pub(super) max_sessions: usize,
    http: http::Bounds,
}

impl Table {
    #[allow(clippy::too_many_arguments, reason = "what the program is made of, once")]
    pub(super) fn new(
        args: &Serve,
        transport: SseServerTransport,
        routes: Routes,
        children: Children,
        client: reqwest::Client,
        bounds: Bounds,
        guards: Arc<Guards>,
        watchers: Watchers,
        open: Option<Arc<calls::Sessions>>,
        (replicas, keeps): (Option<Replicas>, bool),
    ) -> Arc<Self> {
        let settings = Settings {
            layout: Layout {
                sse: args.listen.sse_path.clone(),
                messages: format!("/{}", args.listen.message_path.trim_start_matches('/')),
                mcp: args.http.mcp_path.clone(),
                base: args.http.base_path().to_owned(),
                health: args.http.health_paths(),
            },
            no_mcp: args.http.no_mcp,
            mcp_idle_timeout: args.http.mcp_idle_timeout,
            keep_alive: args.limits.keep_alive,
            keep: args.keep.keep(),
            era: args.keep.era,
            keeps,
            max_sessions: bounds.children,
            http: http::Bounds {
                requests_in_flight: args.limits.max_requests_in_flight,
                stall_timeout: args.limits.stall_timeout,
            },
        };
        Arc::new(Self {
            guards,
            watchers,
            open,
            replicas,
            servers: Mutex::default(),
            routes,
            transport,
            children,
            client,
            bounds,
            settings,
            http_sessions: Arc::default(),
            bodies: Bodies::new(args.limits.max_body_bytes, BODY_TIMEOUT),
            states: Arc::default(),
            end_http: CancellationToken::new(),
            running: TaskTracker::new(),
        })
    }

    pub(super) fn all(&self) -> Vec<Arc<Named>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Named>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another session would be accepted, and its program started.
    pub(super) fn has_room(&self) -> bool {
        // If sessions hold all places for programs, either one of them makes room or the transport refuses; otherwise
        // a free place is needed.
        let begun =
            || self.lock().values().map(|named| named.sessions.load(Ordering::Acquire)).sum::<usize>();
        self.transport.has_room(&::http::Extensions::new())
            && (self.children.has_room() || begun() >= self.settings.max_sessions)
    }

    /// The sessions that have begun, if there is a place to see them.
    pub(super) fn sessions(&self) -> Option<&Arc<calls::Sessions>> {
        self.open.as_ref()
    }

    /// The other replicas, if this gateway is one of several.
    pub(super) fn replicas(&self) -> Option<&Replicas> {
        self.replicas.as_ref()
    }

    pub(super) fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.watchers.metrics.as_ref()
    }

    pub(super) fn max_sessions(&self) -> usize {
        self.settings.max_sessions
    }

    /// The numbers of sessions over SSE, of silent ones among these, and of sessions over Streamable HTTP.
    pub(super) fn session_counts(&self) -> (usize, usize, usize) {
        let counts = self.transport.session_counts();
        (counts.open, counts.silent, self.http_sessions.open())
    }

    /// The server whose Streamable HTTP endpoint is at this path of a request.
    pub(super) fn at_mcp_path(&self, path: &str) -> Option<Arc<Named>> {
        let path = encoded(path.strip_suffix('/').unwrap_or(path));
        let servers = self.lock();
        servers.values().find(|named| encoded(&named.paths.mcp) == path && named.mcp.is_some()).cloned()
    }

    /// The document at this path of a request that anybody may read, if it is one.
    pub(super) fn well_known(&self, path: &str) -> Option<WellKnown> {
        // Most requests are for something else.
        if !path.starts_with("/.well-known/") {
            return None;
        }
        let servers = self.all();
        // Clients of a server that was removed have what they need.
        let servers = servers.iter().filter(|named| !named.is_retired());
        WellKnown::find(path, &self.guards, servers.map(|named| named.protection.as_ref()))
    }

    /// What there is now. Blocks for a moment, as it asks the system about programs.
    pub(super) fn snapshot(&self) -> Snapshot {
        let counts = self.transport.session_counts();
        let (programs, starts_waiting) = self.children.counts();
        let mut snapshot = Snapshot {
            sse: counts.open,
            silent: counts.silent,
            streamable_http: self.http_sessions.open(),
            in_flight: self.http_sessions.requests(),
            programs,
            starts_waiting,
            program_memory: memory::of_programs(),
            log_lines_lost: log::lost(),
            audit_lines_lost: self.watchers.audit.as_ref().map_or(0, Audit::lost),
            restarts: self
                .all()
                .iter()
                .map(|named| (Arc::clone(&named.label), named.history.seen().revived))
                .collect(),
            cluster: self.replicas.as_ref().map(|replicas| InCluster {
                replica: replicas.id().name().to_owned(),
                connected: replicas.is_connected(),
                others: replicas.others().len(),
                figures: replicas.figures(),
            }),
            totals: self.open.as_ref().map(|sessions| sessions.totals()).unwrap_or_default(),
            ..Snapshot::default()
        };
        for session in self.transport.sessions() {
            let info = session.info();
            snapshot.in_flight += info.requests_in_flight;
            snapshot.queued_for_servers += info.inbound_queued;
            snapshot.queued_for_clients += info.outbound_queued;
        }
        snapshot
    }

    /// The servers that accept sessions.
    pub(super) fn served(&self) -> Vec<Arc<Named>> {
        self.lock().values().filter(|named| !named.is_retired()).cloned().collect()
    }

    /// Probes all servers but those that get headers of their clients, a few at a time.
    pub(super) async fn probe_all(self: &Arc<Self>) {
        let probes = self.served().into_iter().filter(|named| !named.needs_headers()).map(|named| {
            let (table, probes, subject) = (Arc::clone(self), Arc::clone(&named.probes), named.subject());
            async move { probe::probe(probes, subject, &table.running, &table.end_http).await }
        });
        futures_util::stream::iter(probes).buffer_unordered(PROBES).collect::<()>().await;
    }

    /// How many a probe has found ill, or has not found out about yet.
    pub(super) fn ill(&self) -> usize {
        let is_well = |named: &Named| {
            named.needs_headers() || named.probes.last().is_some_and(|probed| probed.error.is_none())
        };
        self.served().iter().filter(|named| !is_well(named)).count()
    }

    /// The authorization servers whose keys are not there.
    pub(super) fn issuers_without_keys(&self) -> Vec<String> {
        self.guards.unready()
    }

    /// Waits, at most this long, until no request over Streamable HTTP is in flight, then ends the sessions.
    pub(super) async fn drain_http(&self, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.http_sessions.no_requests()).await;
        self.end_http().await;
    }

    /// Ends the sessions over Streamable HTTP at once. Pending requests get an error, as far as that takes no more than
    /// `LAST_ANSWERS`.
    pub(super) async fn end_http(&self) {
        self.http_sessions.end();
        let _ = tokio::time::timeout(LAST_ANSWERS, self.http_sessions.no_sessions()).await;
        self.end_http.cancel();
    }

    /// Waits until remote servers have been told that their sessions are over.
    pub(super) async fn sessions_ended(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// Replaces the named servers with these. The one without a name stays.
    pub(super) fn replace(self: &Arc<Self>, servers: Servers, auths: &Auths) -> Result<(), String> {
        // All checks come before the first change.
        let mut protections = BTreeMap::new();
        for (name, Definition { server, keep, .. }) in &servers {
            self.policy(server, *keep).map_err(|why| format!("mcpServers.{name}: {why}"))?;
            let auth = auths.of(name);
            server.check_auth(auth).map_err(|why| format!("mcpServers.{name}: {why}"))?;
            if let Some(auth) = auth {
                protections.insert(name.clone(), self.protect(name, auth)?);
            }
            if let Server::Command(command) = server
                && command.isolation.limits.processes.is_some()
            {
                isolation::check_processes(self.bounds.users)
                    .map_err(|why| format!("mcpServers.{name}.limits.processes: {why}"))?;
            }
        }
        self.check_auths(&servers, auths)?;
        self.check_paths(&servers)?;
        let gone: Vec<Arc<Named>> = {
            let table = self.lock();
            let gone = |named: &&Arc<Named>| !named.name.is_empty() && !servers.contains_key(&named.name);
            table.values().filter(gone).cloned().collect()
        };
        let (mut added, mut changed, mut removed) = (0, 0, 0);
        for (name, defined) in servers {
            let protection = protections.remove(&name);
            match self.set_with(&name, defined, protection)? {
                Change::Added => {
                    added += 1;
                    tracing::info!(server = name, "server added");
                }
                Change::Changed => {
                    changed += 1;
                    tracing::info!(server = name, "server changed; open sessions keep the old one");
                }
                Change::Same => {}
            }
        }
        for named in gone {
            {
                // Locked, so that it is not forgotten before `mount`, which would leave its paths behind.
                let _servers = self.lock();
                if named.retire() {
                    removed += 1;
                    tracing::info!(server = named.name, "server removed; its open sessions continue");
                    self.mount(&named);
                }
            }
            self.forget(&named);
        }
        if added + changed + removed > 0 {
            tracing::info!(added, changed, removed, "configuration read");
        } else {
            tracing::info!("configuration read; nothing has changed");
        }
        Ok(())
    }

    /// Adds a server under this name, or changes the one that is there.
    /// What its clients need cannot be changed later.
    pub(super) fn set(
        self: &Arc<Self>,
        name: &str,
        server: Server,
        auth: Option<&Auth>,
    ) -> Result<Change, String> {
        server.check_auth(auth)?;
        let protection = auth.map(|auth| self.protect(name, auth)).transpose()?;
        self.set_with(name, Definition { server, keep: Keep::default(), era: None }, protection)
    }

    fn set_with(
        self: &Arc<Self>,
        name: &str,
        defined: Definition,
        protection: Option<Protection>,
    ) -> Result<Change, String> {
        let policy = self.policy(&defined.server, defined.keep)?;
        let era = defined.era.unwrap_or(self.settings.era);
        let server = defined.server;
        if let Server::Command(command) = &server
            && command.find().is_none()
        {
            tracing::warn!(server = name, program = command.name(), "the program cannot be found now");
        }
        if let Server::Command(command) = &server {
            isolation::warn_of_missing(&command.isolation);
        }
        // Held to the end, so that this cannot interleave with the removal of the same server.
        let mut servers = self.lock();
        if let Some(named) = servers.get(name) {
            let mut state = named.state();
            let was_retired = std::mem::replace(&mut state.retired, false);
            let same =
                state.target.server == server && state.target.policy == policy && state.target.eras.is(era);
            if !same {
                state.target = Arc::new(self.target(server, policy, era));
            }
            drop(state);
            if was_retired || !same {
                self.mount(named);
            }
            return Ok(match (was_retired, same) {
                (true, _) => Change::Added,
                (false, true) => Change::Same,
                (false, false) => Change::Changed,
            });
        }
        let paths = self.settings.layout.paths(name);
        let transport = if name.is_empty() {
            self.transport.clone()
        } else {
            self.transport.with_endpoint(&paths.messages).map_err(|error| error.to_string())?
        };
        let transport = match &protection {
            Some(protection) => transport.with_authentication(protection.sse.clone()),
            None => transport,
        };
        let target = Arc::new(self.target(server, policy, era));
        let named = Arc::new_cyclic(|this: &std::sync::Weak<Named>| Named {
            name: name.to_owned(),
            mcp: (!self.settings.no_mcp).then(|| self.mcp(this.clone())),
            modern: (!self.settings.no_mcp).then(|| self.modern(this.clone())),
            paths,
            transport,
            protection,
            state: Mutex::new(State { target, retired: false }),
            sessions: AtomicUsize::new(0),
            children: self.children.clone(),
            watchers: self.watchers.clone(),
            open: self.open.clone(),
            label: if name.is_empty() { "/".into() } else { name.into() },
            history: Arc::default(),
            probes: Arc::default(),
        });
        self.mount(&named);
        servers.insert(name.to_owned(), named);
        Ok(Change::Added)
    }

    /// What stands before a server of this name.
    fn protect(&self, name: &str, auth: &Auth) -> Result<Protection, String> {
        let paths = self.settings.layout.paths(name);
        let mcp = (!self.settings.no_mcp).then_some(&*paths.mcp);
        self.guards.protect(auth, &paths.sse, mcp)
    }

    fn mount(self: &Arc<Self>, named: &Arc<Named>) {
        let (table, server) = (Arc::clone(self), Arc::downgrade(named));
        let connect = named.transport.connect_sse(move |session: Session| {
            let (table, server) = (Arc::clone(&table), server.upgrade());
            async move {
                let Some(named) = server else { return };
                // As the log shows it.
                let id = session.handle().id().to_string();
                let entry = named.enter(id.trim_end_matches('…'), metrics::SSE);
                let running = table.running.token();
                let over = move || {
                    table.forget(&named);
                    drop(running);
                };
                Life::new(entry, over).run(session, Begun::AndMayRest).await;
            }
        });
        let connect = connect.bind_headers(named.identity());
        let connect = if named.is_retired() { connect.resume_only() } else { connect };
        self.routes.sse(&named.paths.sse, connect);
        self.routes.messages(&named.paths.messages, named.transport.handle_post_message());
    }

    /// Removes a retired server and its paths, once it has no open session, not even a silent one.
    fn forget(&self, named: &Arc<Named>) {
        let mut servers = self.lock();
        let is_there = servers.get(&named.name).is_some_and(|there| Arc::ptr_eq(there, named));
        let is_over = named.state().retired
            && named.sessions.load(Ordering::Acquire) == 0
            && named.transport.endpoint_sessions().is_empty();
        if is_there && is_over {
            servers.remove(&named.name);
            let _ = self.routes.remove(&named.paths.sse);
            let _ = self.routes.remove(&named.paths.messages);
        }
    }

    /// How a server is kept alive for its sessions.
    fn policy(&self, server: &Server, keep: Keep) -> Result<Policy, String> {
        let keeps_heads = server.headers_from_client().next().is_some();
        let policy = keep.or(self.settings.keep).policy(self.bounds.start_timeout, keeps_heads)?;
        if policy.revive && !self.settings.keeps {
            return Err("sessions can be revived only by other gateways: revive needs --cluster, and to be set for a server when this one starts".to_owned());
        }
        if policy.revive && !server.identity().is_empty() {
            return Err("sessions whose clients are told apart by headers cannot be revived, since headers are not kept: revive and headers from the client exclude each other".to_owned());
        }
        // That a remote server refuses connections for a while, as during its update, is no loop.
        let attempts = policy.attempts.filter(|_| matches!(server, Server::Command(_)));
        Ok(Policy { attempts, ..policy })
    }

    fn target(&self, server: Server, policy: Policy, era: Era) -> Target {
        let remote = match &server {
            Server::Command(_) => None,
            Server::Remote(RemoteServer { url, kind, headers, headers_from_client }) => Some(Remote {
                url: url.clone(),
                kind: *kind,
                headers: headers.clone(),
                headers_from_client: headers_from_client.clone(),
                client: self.client.clone(),
                message_bytes: self.bounds.message_bytes,
                requests_in_flight: self.settings.http.requests_in_flight,
                start_timeout: self.bounds.start_timeout,
                found: Found::default(),
            }),
        };
        Target { server, remote, policy, eras: Eras::new(era) }
    }

    fn mcp(self: &Arc<Self>, named: std::sync::Weak<Named>) -> Mcp {
        let Settings { mcp_idle_timeout, keep_alive, http, .. } = &self.settings;
        let table = Arc::downgrade(self);
        let run = move |id: String, receiver, reply| {
            let (table, named) = (table.upgrade(), named.upgrade());
            async move {
                let (Some(table), Some(named)) = (table, named) else { return "the server is gone" };
                let _running = table.running.token();
                let entry = named.enter(&id, metrics::STREAMABLE_HTTP);
                let over = entry.run(receiver, reply, Begun::Now).await;
                drop(entry);
                table.forget(&named);
                match over {
                    Over::Ended(reason) => reason,
                    Over::Resting(_) => CloseReason::AppEnded.as_str(),
                }
            }
        };
        let figures = Arc::clone(&self.http_sessions);
        let metrics = self.watchers.metrics.clone();
        let sessions = Sessions::new(*mcp_idle_timeout, *http, figures, self.transport.clone(), metrics, run);
        let config = StreamableHttpServerConfig::default()
            .with_sse_keep_alive((!keep_alive.is_zero()).then_some(*keep_alive))
            .with_cancellation_token(self.end_http.clone())
            // The transport's own checks have run already.
            .disable_allowed_hosts()
            .disable_allowed_origins();
        Mcp::new(sessions, Arc::clone(&self.bodies), config)
    }

    fn modern(self: &Arc<Self>, named: std::sync::Weak<Named>) -> Modern {
        let settings = modern::Settings {
            requests_in_flight: self.settings.http.requests_in_flight,
            start_timeout: self.bounds.start_timeout,
            idle_timeout: self.settings.mcp_idle_timeout,
            keep_alive: self.settings.keep_alive,
            figures: Arc::clone(&self.http_sessions),
            transport: self.transport.clone(),
            metrics: self.watchers.metrics.clone(),
            states: Arc::clone(&self.states),
        };
        let table = Arc::downgrade(self);
        let enters = move || {
            let table = table.upgrade();
            let running = table.as_ref().map(|table| table.running.token());
            move |named: &Arc<Named>| {
                drop(running);
                if let Some(table) = table {
                    table.forget(named);
                }
            }
        };
        Modern::new(Arc::new(Reached { named, enters }), settings, Arc::clone(&self.bodies))
    }
}

/// What a definition has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Changed,
    Same,
}
