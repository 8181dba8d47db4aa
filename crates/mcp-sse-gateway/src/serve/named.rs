//! One server of the table, and what its sessions have of it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use ::http::HeaderName;
use mcp_sse::{GuardLayer, SessionHandle, SseServerTransport};

use super::{
    history::History,
    paths::Paths,
    probe::{Probes, Subject},
    session::{self, Begun, Over},
    target::Target,
};
use crate::{
    access::{Auth, Protection},
    backend::child::Children,
    bridge::Eras,
    calls::{Calls, Entered, Sessions, Watchers, watched},
    front::{
        Receive, Reply,
        http::{CLOSED_BY_OPERATOR, Mcp},
        modern::Modern,
    },
    page::Served,
};

/// A server with its name; the server at the root paths has the empty name.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) paths: Paths,
    pub(super) transport: SseServerTransport,
    /// What stands before it, if its clients need something.
    pub(super) protection: Option<Protection>,
    pub(super) state: Mutex<State>,
    /// How many sessions have begun, that is, are no longer silent, and have not ended.
    pub(super) sessions: AtomicUsize,
    pub(super) mcp: Option<Mcp>,
    /// The same for requests of the stateless era.
    pub(super) modern: Option<Modern>,
    pub(super) children: Children,
    pub(super) watchers: Watchers,
    /// The list of sessions, if there is a place to see it.
    pub(super) open: Option<Arc<Sessions>>,
    /// Its name in metrics.
    pub(super) label: Arc<str>,
    pub(super) history: Arc<History>,
    pub(super) probes: Arc<Probes>,
}

pub(super) struct State {
    pub(super) target: Arc<Target>,
    /// Whether it was removed from the configuration.
    pub(super) retired: bool,
}

impl Named {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it accepts no new sessions.
    pub(super) fn is_retired(&self) -> bool {
        self.state().retired
    }

    /// Accepts no new sessions from now on; returns whether it did before.
    pub(super) fn retire(&self) -> bool {
        !std::mem::replace(&mut self.state().retired, true)
    }

    /// What its clients need.
    pub(super) fn auth(&self) -> Option<&Auth> {
        self.protection.as_ref().map(|protection| &protection.auth)
    }

    /// The checks before Streamable HTTP: the same as before its stream, with an answer to strangers of its own.
    pub(super) fn mcp_guard(&self) -> GuardLayer {
        match &self.protection {
            Some(protection) => self.transport.with_authentication(protection.mcp.clone()).guard(),
            None => self.transport.guard(),
        }
    }

    /// The headers that identify clients to it.
    pub(super) fn identity(&self) -> Vec<HeaderName> {
        self.state().target.server.identity()
    }

    /// Whether it gets headers of its clients, without which it may not work.
    pub(super) fn needs_headers(&self) -> bool {
        self.state().target.server.headers_from_client().next().is_some()
    }

    /// Whether a program is started for its sessions.
    pub(super) fn is_program(&self) -> bool {
        self.state().target.remote.is_none()
    }

    /// Which eras it speaks.
    pub(super) fn eras(&self) -> Eras {
        self.state().target.eras.clone()
    }

    /// What a probe needs of it.
    pub(super) fn subject(&self) -> Subject {
        Subject {
            label: Arc::clone(&self.label),
            children: self.children.clone(),
            target: Arc::clone(&self.state().target),
            history: Arc::clone(&self.history),
        }
    }

    /// What visitors of the page see of it.
    pub(super) fn served(&self) -> Served<'_> {
        Served {
            name: &self.name,
            sse: &self.paths.sse,
            messages: &self.paths.messages,
            mcp: self.mcp.as_ref().map(|_| &*self.paths.mcp),
            protection: self.protection.as_ref(),
        }
    }

    /// The server's name or URL, for display.
    pub(super) fn what(&self) -> String {
        let target = Arc::clone(&self.state().target);
        target.what()
    }

    /// A session over this transport begins. `id` is the beginning of its id.
    pub(super) fn enter(self: &Arc<Self>, id: &str, transport: &'static str) -> Entry {
        self.sessions.fetch_add(1, Ordering::AcqRel);
        let calls = (!self.watchers.is_empty() || self.open.is_some())
            .then(|| Arc::new(Calls::new(self.watchers.clone(), Arc::clone(&self.label), transport)));
        // Dropped when the halves are, which tell of calls.
        let entered = calls.as_ref().zip(self.open.as_ref());
        let entered = entered.map(|(calls, sessions)| sessions.enter(id, calls));
        let target = Arc::clone(&self.state().target);
        Entry { named: Arc::clone(self), target, calls, entered, transport }
    }
}

/// A session among those of its server, until this is dropped.
pub(super) struct Entry {
    named: Arc<Named>,
    /// As it was when the session began.
    target: Arc<Target>,
    calls: Option<Arc<Calls>>,
    entered: Option<Entered>,
    transport: &'static str,
}

impl Entry {
    /// Runs the session until it ends, or rests.
    pub(super) async fn run(&self, receiver: impl Receive, reply: impl Reply, begun: Begun) -> Over {
        let Self { named, target, calls, transport, .. } = self;
        let close = self.entered.as_ref().map(|entered| entered.close.clone()).unwrap_or_default();
        let (receiver, reply) = watched(receiver, reply, calls.clone(), close.clone());
        let over = session::run(
            &named.children,
            target,
            receiver,
            reply,
            &named.history,
            target.policy,
            (&*named.label, transport, begun),
        )
        .await;
        if close.is_cancelled() { Over::Ended(CLOSED_BY_OPERATOR) } else { over }
    }

    /// A client, watched as those of its sessions are.
    pub(super) fn watched(&self, receiver: impl Receive, reply: impl Reply) -> (impl Receive, impl Reply) {
        let close = self.entered.as_ref().map(|entered| entered.close.clone()).unwrap_or_default();
        watched(receiver, reply, self.calls.clone(), close)
    }

    /// Nobody runs the session from now on, or somebody does again (`None`).
    pub(super) fn rests(&self, session: Option<SessionHandle>) {
        if let Some(entered) = &self.entered {
            entered.rests(session);
        }
    }

    /// Whether its operator wants it to end.
    pub(super) fn is_closing(&self) -> bool {
        self.entered.as_ref().is_some_and(|entered| entered.close.is_cancelled())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.named.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}
