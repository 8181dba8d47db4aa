//! Tracks which sessions over Streamable HTTP are in use: a session is while its client waits for an answer or has a
//! stream open. rmcp's own timer sees only messages, and would end a session in the middle of a long call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use http::Extensions;
use mcp_sse::{Grant, GrantEnd, Principal, SessionGrant, SessionPermit};
use rmcp::transport::streamable_http_server::session::SessionId;
use tokio::time::{Instant, sleep_until};

use super::{bodies::Share, session::Inlet};
use crate::clock;

/// The open sessions.
#[derive(Clone, Default)]
pub(super) struct Usages(Arc<Mutex<HashMap<SessionId, Arc<Usage>>>>);

/// A session's entry, until it is dropped.
pub(super) struct Listed {
    all: Usages,
    id: SessionId,
    usage: Arc<Usage>,
}

struct Usage {
    state: Mutex<State>,
    inlet: Inlet,
    share: Share,
    /// Who opened it.
    principal: Option<Principal>,
    /// What its client has shown, if there is an authenticator.
    grant: Option<SessionGrant>,
}

struct State {
    /// How many streams are open and requests are being answered.
    open: usize,
    /// When it was last in use.
    last: Instant,
    /// Whether the client has ended it.
    deleted: bool,
    /// Its place under the caps, until it is over.
    place: Option<SessionPermit>,
}

/// Keeps a session in use until it is dropped.
pub(super) struct InUse(Option<Arc<Usage>>);

impl Usages {
    pub(super) fn list(
        &self,
        id: SessionId,
        client: &Extensions,
        inlet: Inlet,
        place: SessionPermit,
    ) -> Listed {
        // The next request most likely uses it. Until then it may make room for others.
        place.set_in_use(false);
        let state = State { open: 0, last: clock::now(), deleted: false, place: Some(place) };
        let usage = Arc::new(Usage {
            state: Mutex::new(state),
            inlet,
            share: Share::default(),
            principal: client.get().cloned(),
            grant: client.get().map(SessionGrant::new),
        });
        self.lock().insert(Arc::clone(&id), Arc::clone(&usage));
        Listed { all: self.clone(), id, usage }
    }

    /// Marks a session as in use until the returned value is dropped.
    pub(super) fn use_it(&self, id: &SessionId) -> InUse {
        let usage = self.lock().get(id).cloned();
        if let Some(usage) = &usage {
            let mut state = usage.lock();
            state.open += 1;
            state.tell_place();
        }
        InUse(usage)
    }

    /// The session with this id, if it is open.
    pub(super) fn find(&self, id: &str) -> Option<Found> {
        self.lock().get(id).cloned().map(Found)
    }

    /// The same for a request, whose grant the session depends on from now on, if it lasts longest; `None` also if
    /// another principal opened it.
    pub(super) fn find_for(&self, id: &str, extensions: &Extensions) -> Option<Found> {
        let found = self.find(id)?;
        if found.0.principal.as_ref() != extensions.get::<Principal>() {
            return None;
        }
        if let (Some(session), Some(shown)) = (&found.0.grant, extensions.get::<Grant>()) {
            session.show(shown);
        }
        Some(found)
    }

    /// Whether it belongs to this principal.
    pub(super) fn is_of(&self, id: &str, principal: Option<&Principal>) -> bool {
        self.find(id).is_some_and(|found| found.0.principal.as_ref() == principal)
    }

    pub(super) fn deleted(&self, id: &SessionId) {
        if let Some(usage) = self.lock().get(id) {
            usage.lock().deleted = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Usage>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_place(&self) {
        if let Some(place) = &self.place {
            place.set_in_use(self.open > 0);
        }
    }
}

/// A session that was open when it was looked up.
pub(super) struct Found(Arc<Usage>);

impl Found {
    /// The memory that bodies of its requests take.
    pub(super) fn share(&self) -> Share {
        self.0.share.clone()
    }
}

impl std::ops::Deref for Found {
    type Target = Inlet;

    fn deref(&self) -> &Inlet {
        &self.0.inlet
    }
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Resolves when the session has not been in use for `time`; never, if that is zero.
    pub(super) async fn idle_for(&self, time: Duration) {
        if time.is_zero() {
            return std::future::pending().await;
        }
        let mut since = clock::now();
        loop {
            sleep_until(since + time).await;
            let now = clock::now();
            let last = {
                let state = self.usage.lock();
                if state.open > 0 { now } else { state.last }
            };
            if last + time <= now {
                return;
            }
            since = last;
        }
    }

    /// Resolves when its client is not authorized any more.
    pub(super) async fn unauthorized(&self) -> GrantEnd {
        match &self.usage.grant {
            Some(grant) => grant.over().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.usage.lock().deleted
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
        // Streams that are still open keep the entry alive, but not the place.
        self.usage.lock().place = None;
    }
}

impl InUse {
    /// Wraps a stream so that the session is in use until the stream is dropped.
    pub(super) fn with<S: Stream>(self, stream: S) -> impl Stream<Item = S::Item> {
        stream.map(move |item| {
            let _ = &self;
            item
        })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(usage) = &self.0 {
            let mut state = usage.lock();
            state.open -= 1;
            state.last = clock::now();
            state.tell_place();
        }
    }
}
