//! A probe of a server: one is started, or connected to, says hello, is pinged and ended, as a session of its own that no
//! client has.
//!
//! Invariant: a server is probed once at a time, and not again within [`AGAIN`] of the last one's end, whoever asks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    history::History,
    session::{self, Begun},
    target::Target,
};
use crate::{
    backend::child::Children,
    clock,
    front::{Gone, Receive, Reply},
    revive::{Policy, Restart},
};

/// How long what was found out is not found out again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a server may take to answer the ping, in addition to the time for its start.
const PING: Duration = Duration::from_secs(10);

/// The id of the ping. An error shows as well that the server is there.
const PING_ID: i64 = 1;

/// What a probe found out.
#[derive(Clone, Debug)]
pub(super) struct Probed {
    pub(super) time: SystemTime,
    /// From the start to the answer to the ping.
    pub(super) took: Duration,
    pub(super) error: Option<String>,
    ended: Instant,
}

/// What is probed.
pub(super) struct Subject {
    /// The server's name in the log.
    pub(super) label: Arc<str>,
    pub(super) children: Children,
    pub(super) target: Arc<Target>,
    pub(super) history: Arc<History>,
}

/// The probes of one server.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Probed>,
    /// Closed when it is over.
    running: Option<watch::Receiver<()>>,
}

impl Probes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last one found out.
    pub(super) fn last(&self) -> Option<Probed> {
        self.lock().last.clone()
    }
}

/// Probes the server, unless that is being done, or was done just now, or the gateway is shutting down.
pub(super) async fn probe(
    probes: Arc<Probes>,
    subject: Subject,
    running: &TaskTracker,
    stop: &CancellationToken,
) {
    let mut outcome = {
        let mut state = probes.lock();
        let is_fresh = |last: &Probed| clock::now().saturating_duration_since(last.ended) < AGAIN;
        if running.is_closed() || state.last.as_ref().is_some_and(is_fresh) {
            return;
        }
        match &state.running {
            // One that was aborted has no sender any more.
            Some(outcome) if outcome.has_changed().is_ok() => outcome.clone(),
            _ => {
                let (tell, outcome) = watch::channel(());
                let (probes, stop) = (Arc::clone(&probes), stop.clone());
                let span = tracing::info_span!("probe", server = %subject.label);
                running.spawn(async move {
                    let probed = run(&subject, stop).instrument(span).await;
                    let mut state = probes.lock();
                    (state.last, state.running) = (Some(probed), None);
                    drop(state);
                    drop(tell);
                });
                state.running = Some(outcome.clone());
                outcome
            }
        }
    };
    // An error says that it is over.
    while outcome.changed().await.is_ok() {}
}

async fn run(subject: &Subject, stop: CancellationToken) -> Probed {
    let (time, began) = (clock::wall(), clock::now());
    let Subject { children, target, history, .. } = subject;
    let start_timeout = target.remote.as_ref().map(|remote| remote.start_timeout);
    let limit = start_timeout.unwrap_or_else(|| children.start_timeout()) + PING;
    let (progress, seen) = watch::channel(Progress::default());
    let asking = Asking { step: Step::Initialize, progress: seen.clone(), stop: stop.clone() };
    let answers = Answers { progress, stop };
    // What is asked is whether this one is well.
    let policy = Policy { restart: Restart::Never, ..target.policy };
    let mut session = std::pin::pin!(session::run(
        children,
        target,
        asking,
        &answers,
        history,
        policy,
        (&subject.label, "probe", Begun::Now)
    ));
    tokio::select! {
        _ = &mut session => {}
        () = tokio::time::sleep(limit) => {
            let late = format!("it has not answered initialize and a ping within {limit:?}");
            tracing::warn!("{late}");
            answers.over(Some(late));
            // Its end has bounds of its own.
            session.await;
        }
    }
    let ended = clock::now();
    let over = seen.borrow().over.clone();
    let (error, at) = over.unwrap_or_else(|| (Some("its session ended before its answer".to_owned()), ended));
    Probed { time, took: at.saturating_duration_since(began), error, ended }
}

/// How far a probe is.
#[derive(Clone, Debug, Default)]
struct Progress {
    initialized: bool,
    /// The error if there was one, and when.
    over: Option<(Option<String>, Instant)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Initialize,
    Initialized,
    Ping,
    End,
}

/// The client's messages.
struct Asking {
    step: Step,
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
}

impl Asking {
    /// Waits until the session has come so far; whether it goes on.
    async fn until(&mut self, fits: impl Fn(&Progress) -> bool) -> bool {
        tokio::select! {
            seen = self.progress.wait_for(|progress| fits(progress) || progress.over.is_some()) => {
                seen.is_ok_and(|progress| progress.over.is_none())
            }
            () = self.stop.cancelled() => false,
        }
    }
}

impl Receive for Asking {
    async fn recv(&mut self) -> Option<Incoming> {
        let (message, next) = match self.step {
            Step::Initialize => {
                let version = env!("CARGO_PKG_VERSION");
                let params = json!({
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": { "name": "mcp-sse probe", "version": version },
                });
                let initialize =
                    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
                (initialize, Step::Initialized)
            }
            Step::Initialized => {
                if !self.until(|progress| progress.initialized).await {
                    return None;
                }
                (json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }), Step::Ping)
            }
            Step::Ping => (json!({ "jsonrpc": "2.0", "id": PING_ID, "method": "ping" }), Step::End),
            Step::End => {
                self.until(|_| false).await;
                return None;
            }
        };
        self.step = next;
        let message = Message::parse(message.to_string()).ok()?;
        Some(Incoming::new(message, http::Request::new(()).into_parts().0))
    }
}

/// What becomes of them.
struct Answers {
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
}

impl Answers {
    /// The first end counts.
    fn over(&self, error: Option<String>) {
        self.progress.send_modify(|progress| {
            progress.over.get_or_insert_with(|| (error, clock::now()));
        });
    }
}

impl Reply for &Answers {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        match message.kind() {
            MessageKind::Response { id: Some(id), .. } if *id == RequestId::from(PING_ID) => self.over(None),
            MessageKind::Response { id: Some(_), is_error: true } => {
                self.over(Some("it has answered initialize with an error".to_owned()));
            }
            MessageKind::Response { id: Some(_), is_error: false } => {
                self.progress.send_modify(|progress| progress.initialized = true);
            }
            // What it asks for and tells is of no use.
            _ => {}
        }
        Ok(())
    }

    async fn fail(&self, text: &str) {
        self.over(Some(text.to_owned()));
    }

    async fn idle(&self) {}

    async fn closed(&self) {
        self.stop.cancelled().await;
    }
}
