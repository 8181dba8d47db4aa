//! What is counted and measured, for Prometheus.
//!
//! Names are those of the OpenTelemetry conventions for MCP where these have one. No label has a session's id or a
//! client's name in it, and what clients make up adds nothing: see `names`.

mod figures;
mod names;
mod text;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcp_sse::{ObservedSession, Observer, Refusal, SessionFact};
use mcp_sse_cluster::ClusterFigures;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub(crate) use self::{
    figures::{Figures, SSE, STREAMABLE_HTTP, Totals},
    names::{Names, OTHER, method},
    text::Format,
};

/// Bounds of the durations of calls and sessions, in seconds: those of the conventions.
const SECONDS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// What is measured of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    mcp_method_name: &'static str,
    gen_ai_tool_name: Option<Arc<str>>,
    error_type: Option<&'static str>,
    server: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSession {
    network_transport: &'static str,
    error_type: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transport {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    transport: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfServer {
    server: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReplica {
    replica: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Across {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    direction: &'static str,
    transport: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All that is counted. Cloned parts share their values.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) names: Names,
    operations: Histograms<Operation>,
    session_seconds: Histograms<OfSession>,
    opened: Family<Transport, Counter>,
    closed: Family<Closed, Counter>,
    refused: Family<Why, Counter>,
    messages: Family<Way, Counter<u64, AtomicU64>>,
    bytes: Family<Way, Counter<u64, AtomicU64>>,
    sessions: Family<Transport, Gauge>,
    silent: Gauge,
    in_flight: Gauge,
    queued: Family<State, Gauge>,
    programs: Family<State, Gauge>,
    program_memory: Gauge,
    log_lines_lost: Counter<u64, AtomicU64>,
    audit_lines_lost: Counter<u64, AtomicU64>,
    restarts: Family<OfServer, Counter<u64, AtomicU64>>,
    connected: Family<OfReplica, Gauge>,
    others: Family<OfReplica, Gauge>,
    across: Family<Across, Counter<u64, AtomicU64>>,
}

/// What is looked at when somebody asks, rather than counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) sse: usize,
    pub(crate) silent: usize,
    pub(crate) streamable_http: usize,
    pub(crate) in_flight: usize,
    pub(crate) queued_for_servers: usize,
    pub(crate) queued_for_clients: usize,
    pub(crate) programs: usize,
    pub(crate) starts_waiting: usize,
    /// Of all programs, in bytes; `None` where it cannot be known.
    pub(crate) program_memory: Option<u64>,
    /// Lines of the log that were left out so far.
    pub(crate) log_lines_lost: u64,
    /// The same of the audit log.
    pub(crate) audit_lines_lost: u64,
    /// What all sessions have done so far.
    pub(crate) totals: Totals,
    /// How often servers have taken the place of others that had ended, by their names.
    pub(crate) restarts: Vec<(Arc<str>, u64)>,
    /// If there are several replicas.
    pub(crate) cluster: Option<InCluster>,
}

/// This replica among others.
#[derive(Clone, Debug)]
pub(crate) struct InCluster {
    pub(crate) replica: String,
    pub(crate) connected: bool,
    pub(crate) others: usize,
    pub(crate) figures: ClusterFigures,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            names: Names::default(),
            operations: Family::new_with_constructor(seconds),
            session_seconds: Family::new_with_constructor(seconds),
            opened: Family::default(),
            closed: Family::default(),
            refused: Family::default(),
            messages: Family::default(),
            bytes: Family::default(),
            sessions: Family::default(),
            silent: Gauge::default(),
            in_flight: Gauge::default(),
            queued: Family::default(),
            programs: Family::default(),
            program_memory: Gauge::default(),
            log_lines_lost: Counter::default(),
            audit_lines_lost: Counter::default(),
            restarts: Family::default(),
            connected: Family::default(),
            others: Family::default(),
            across: Family::default(),
        };
        let mut registry = Registry::default();
        registry.register_with_unit(
            "mcp_server_operation_duration",
            "Time from a client's request to its answer, by method, tool, server and kind of error",
            Unit::Seconds,
            metrics.operations.clone(),
        );
        registry.register_with_unit(
            "mcp_server_session_duration",
            "Time from the beginning of a session to its end, by transport and why it ended if that is an error",
            Unit::Seconds,
            metrics.session_seconds.clone(),
        );
        registry.register(
            "mcp_sse_sessions_opened",
            "Sessions that clients have opened",
            metrics.opened.clone(),
        );
        registry.register(
            "mcp_sse_sessions_closed",
            "Sessions that have ended, by why",
            metrics.closed.clone(),
        );
        registry.register("mcp_sse_refusals", "Requests that were refused, by why", metrics.refused.clone());
        registry.register("mcp_sse_messages", "Messages that passed", metrics.messages.clone());
        registry.register("mcp_sse_message_bytes", "Their size as JSON, in bytes", metrics.bytes.clone());
        registry.register("mcp_sse_sessions", "Open sessions", metrics.sessions.clone());
        registry.register(
            "mcp_sse_silent_sessions",
            "Open sessions whose clients have not sent a message yet",
            metrics.silent.clone(),
        );
        registry.register(
            "mcp_sse_requests_in_flight",
            "Requests without an answer yet",
            metrics.in_flight.clone(),
        );
        registry.register(
            "mcp_sse_messages_waiting",
            "Messages that wait for a client or a server",
            metrics.queued.clone(),
        );
        registry.register("mcp_sse_programs", "Programs, by state", metrics.programs.clone());
        registry.register(
            "mcp_sse_program_memory_bytes",
            "Memory of all programs",
            metrics.program_memory.clone(),
        );
        registry.register(
            "mcp_sse_log_lines_lost",
            "Lines of the log that were left out",
            metrics.log_lines_lost.clone(),
        );
        registry.register(
            "mcp_sse_audit_lines_lost",
            "Lines of the audit log that were lost",
            metrics.audit_lines_lost.clone(),
        );
        registry.register(
            "mcp_sse_server_restarts",
            "Servers that have taken the place of others that had ended",
            metrics.restarts.clone(),
        );
        registry.register(
            "mcp_sse_cluster_connected",
            "Whether the server that connects the replicas can be reached, as far as this replica knows",
            metrics.connected.clone(),
        );
        registry.register(
            "mcp_sse_cluster_others",
            "Other replicas that this replica knows of",
            metrics.others.clone(),
        );
        registry.register(
            "mcp_sse_cluster_requests",
            "Requests that were for another replica, or came from one, by what became of them",
            metrics.across.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    /// Where calls are measured that were answered in this way, or will not be.
    pub(crate) fn operation(
        &self,
        method: &'static str,
        tool: Option<Arc<str>>,
        server: &Arc<str>,
        error: Option<&'static str>,
    ) -> Histogram {
        let labels = Operation {
            mcp_method_name: method,
            gen_ai_tool_name: tool,
            error_type: error,
            server: Arc::clone(server),
        };
        self.operations.get_or_create(&labels).clone()
    }

    pub(crate) fn opened(&self, transport: &'static str) {
        self.opened.get_or_create(&Transport { transport }).inc();
    }

    /// A session has ended, for a reason as one word.
    pub(crate) fn closed(&self, transport: &'static str, reason: &'static str, lived: Duration) {
        self.closed.get_or_create(&Closed { transport, reason }).inc();
        let error_type = is_error(reason).then_some(reason);
        let labels = OfSession { network_transport: transport, error_type };
        self.session_seconds.get_or_create(&labels).observe(lived.as_secs_f64());
    }

    /// A request was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Why { reason }).inc();
    }

    /// All of it as text.
    pub(crate) fn render(&self, format: Format, now: &Snapshot) -> String {
        let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (transport, count) in [(SSE, now.sse), (STREAMABLE_HTTP, now.streamable_http)] {
            self.sessions.get_or_create(&Transport { transport }).set(size(count));
        }
        for (transport, figures) in [(SSE, now.totals.sse), (STREAMABLE_HTTP, now.totals.streamable_http)] {
            for (direction, passed) in
                [("from_client", figures.from_client), ("to_client", figures.to_client)]
            {
                let way = Way { direction, transport };
                self.messages.get_or_create(&way).inner().store(passed.messages, Ordering::Relaxed);
                self.bytes.get_or_create(&way).inner().store(passed.bytes, Ordering::Relaxed);
            }
        }
        self.silent.set(size(now.silent));
        self.in_flight.set(size(now.in_flight));
        for (state, count) in [("for_server", now.queued_for_servers), ("for_client", now.queued_for_clients)]
        {
            self.queued.get_or_create(&State { state }).set(size(count));
        }
        for (state, count) in [("running", now.programs), ("waiting_for_start", now.starts_waiting)] {
            self.programs.get_or_create(&State { state }).set(size(count));
        }
        if let Some(memory) = now.program_memory {
            self.program_memory.set(i64::try_from(memory).unwrap_or(i64::MAX));
        }
        self.log_lines_lost.inner().store(now.log_lines_lost, Ordering::Relaxed);
        self.audit_lines_lost.inner().store(now.audit_lines_lost, Ordering::Relaxed);
        for (server, count) in &now.restarts {
            let of = OfServer { server: Arc::clone(server) };
            self.restarts.get_or_create(&of).inner().store(*count, Ordering::Relaxed);
        }
        if let Some(cluster) = &now.cluster {
            self.in_cluster(cluster);
        }
        text::render(format, &self.registry)
    }

    fn in_cluster(&self, now: &InCluster) {
        let of = OfReplica { replica: now.replica.clone() };
        self.connected.get_or_create(&of).set(i64::from(now.connected));
        self.others.get_or_create(&of).set(i64::try_from(now.others).unwrap_or(i64::MAX));
        let figures = now.figures;
        for (outcome, count) in [
            ("forwarded", figures.forwarded),
            ("gone", figures.gone),
            ("unavailable", figures.unavailable),
            ("unknown", figures.unknown),
            ("answered", figures.answered),
            ("doubled", figures.doubled),
            ("unread", figures.unread),
            ("kept", figures.kept),
            ("not_kept", figures.not_kept),
        ] {
            self.across.get_or_create(&Across { outcome }).inner().store(count, Ordering::Relaxed);
        }
    }
}

/// Counts the sessions over SSE, and the refusals of both transports.
pub(crate) struct Counts(pub(crate) Arc<Metrics>);

impl Observer for Counts {
    fn session(&self, _: &ObservedSession<'_>, fact: &SessionFact) {
        match fact {
            SessionFact::Opened => self.0.opened(SSE),
            SessionFact::Closed { reason, age, .. } => {
                self.0.closed(SSE, reason.as_str(), *age);
            }
            _ => {}
        }
    }

    fn refused(&self, refusal: &Refusal) {
        self.0.refused(refusal.reason);
    }
}

/// Whether a session has ended because of an error, if it has ended for this reason, as one word.
fn is_error(reason: &str) -> bool {
    !matches!(reason, "client_gone" | "ended_by_client" | "idle" | "moved" | "shutdown")
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
