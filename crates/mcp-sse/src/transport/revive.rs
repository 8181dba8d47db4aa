//! Sessions whose replica is gone: found where they were revived, or revived here by their clients.

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::Full;

use super::{Inner, SseServerTransport, get::Opening, keeping};
use crate::{
    admission::{Admitted, Rejection},
    body::Body,
    clock,
    forwarded::Forwarded,
    id::{EventId, SessionId},
    principal::Principal,
    records::RecordsError,
    replica::ReplicaId,
    session::{
        CloseReason,
        driver::{Driver, Keeping, Origin},
        facts::SessionFact,
        kept::Written,
        registry::Owner,
    },
};

/// How long a message waits until its session is revived, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);
/// How often a request follows a session that moves meanwhile.
const FOLLOWED: usize = 4;

/// What is known of a session that is not where its client thinks.
enum Found {
    /// At this replica.
    At(ReplicaId),
    /// Nowhere, and it may be revived; its record, and the revision of that.
    Free(Box<Written>, u64),
    /// There is none.
    Nowhere,
}

impl SseServerTransport {
    /// Where sessions are kept, if they are.
    pub(super) fn keeping(&self) -> Option<&Keeping> {
        self.inner.common.keeping.as_ref()
    }

    /// Where a session is that is not at `sought`; `gone`: that replica is not there any more, rather than without the session.
    async fn find(
        &self,
        keeping: &Keeping,
        id: SessionId,
        principal: Option<&Principal>,
        sought: &ReplicaId,
        gone: bool,
    ) -> Result<Found, RecordsError> {
        let Inner { common, endpoint, .. } = &*self.inner;
        let record = keeping.records.get(id).await?;
        let Some((written, revision)) = keeping::read(record)? else { return Ok(Found::Nowhere) };
        let is_whose = written.principal.as_deref() == principal.map(Principal::as_str);
        let Ok(host) = written.host.parse::<ReplicaId>() else { return Ok(Found::Nowhere) };
        if !is_whose || written.endpoint != endpoint.as_str() {
            return Ok(Found::Nowhere);
        }
        let is_mine = common.replica.as_ref() == Some(&host);
        // One that has closed here, of which that is not written yet.
        let closed = || keeping.marks.get(id).and_then(|session| session.close_reason());
        if is_mine
            && !written.left
            && let Some(reason) = closed()
        {
            let is_leaving = reason == CloseReason::Shutdown;
            return if is_leaving { Err(RecordsError::Unavailable) } else { Ok(Found::Nowhere) };
        }
        Ok(match host {
            _ if written.left => Found::Free(Box::new(written), revision),
            // It has claimed the session, and has not got it after all.
            host if host == *sought && !gone && !written.settled => Found::Free(Box::new(written), revision),
            host if host == *sought && !gone => Found::Nowhere,
            host if host == *sought || (is_mine && common.registry.get(id).is_none()) => {
                Found::Free(Box::new(written), revision)
            }
            host => Found::At(host),
        })
    }

    // ---- GET ----------------------------------------------------------------------------------------

    /// Resumes a stream that is at another replica by what its client says.
    pub(super) async fn resume_elsewhere(
        &self,
        replica: ReplicaId,
        admitted: Admitted,
        id: EventId<'_>,
        opening: Opening<'_>,
    ) -> Result<(Response<Body>, Option<Arc<Driver>>), Rejection> {
        let (mut at, mut answered) = (replica, Err(Rejection::SessionNotFound));
        let Some(_place) = self.place(&at, admitted.parts()) else { return Ok((self.later(), None)) };
        for _ in 0..FOLLOWED {
            let mut gone = true;
            if self.inner.common.replica.as_ref() != Some(&at) {
                answered = self.forward_get(&at, admitted.parts()).await;
                let Some(is_gone) = is_nowhere(&answered) else { break };
                gone = is_gone;
            }
            let Some(keeping) = self.keeping().filter(|_| !opening.resume_only) else { break };
            let principal = admitted.parts().extensions.get::<Principal>();
            let found = self.find(keeping, id.session, principal, &at, gone).await;
            match found {
                Ok(Found::Nowhere) => break,
                Ok(Found::At(host)) if host == at => break,
                Ok(Found::At(host)) => at = host,
                Ok(Found::Free(written, revision)) => {
                    // One request at a time.
                    let Some(_alone) = Alone::new(keeping, id.session) else {
                        return Ok((self.later(), None));
                    };
                    if self.own(id.session, principal).is_some() {
                        continue;
                    }
                    match self.revive(keeping, &admitted, id, *written, revision, opening).await {
                        Ok(Some((response, session))) => return Ok((response, Some(session))),
                        // Another one was faster.
                        Ok(None) => {}
                        Err(Revival::Unknown) => return Ok((self.later(), None)),
                        Err(Revival::Refused(rejection)) => return Err(rejection),
                    }
                }
                Err(_) => return Ok((self.later(), None)),
            }
            // It may be here by now, as another request has revived it.
            if let Some(session) = self.own(id.session, principal) {
                return self.attach(&admitted, &session, id).map(|response| (response, None));
            }
        }
        answered.map(|response| (response, None))
    }

    /// The session, if it is here and this client's.
    fn own(&self, id: SessionId, principal: Option<&Principal>) -> Option<Arc<Driver>> {
        let Inner { common, endpoint, .. } = &*self.inner;
        common.registry.get(id).filter(|session| {
            Arc::ptr_eq(&session.endpoint, endpoint) && session.principal.as_ref() == principal
        })
    }

    /// Takes a session over from a replica that is gone; `None` if another one has.
    async fn revive(
        &self,
        keeping: &Keeping,
        admitted: &Admitted,
        id: EventId<'_>,
        mut written: Written,
        revision: u64,
        opening: Opening<'_>,
    ) -> Result<Option<(Response<Body>, Arc<Driver>)>, Revival> {
        let Inner { common, endpoint, .. } = &*self.inner;
        let Some(me) = &common.replica else { return Ok(None) };
        if common.registry.is_draining() {
            return Err(Revival::Unknown);
        }
        // What the client has seen last counts if it was there.
        let last = if id.at == Some(&*written.numbered) { id.sequence } else { 0 };
        if last < written.forgotten {
            return Err(Revival::Refused(Rejection::SessionNotFound));
        }
        let from = std::mem::replace(&mut written.host, me.as_str().to_owned());
        (written.left, written.settled) = (false, false);
        // What the client has missed stays in the record until it is in a log here.
        let value = written.as_record().map_err(|_| Revival::Refused(Rejection::SessionNotFound))?;
        let claimed = keeping.records.put(id.session, Some(revision), value).await;
        let Some(revision) = claimed.map_err(|_| Revival::Unknown)? else { return Ok(None) };
        let parts = admitted.parts();
        let owner = Owner::of(&parts.extensions);
        let session = Driver::new(
            id.session,
            owner.principal().cloned(),
            Arc::clone(endpoint),
            Arc::clone(common),
            opening.start_app.cloned(),
        );
        let state: Arc<str> = written.state.as_str().into();
        let _ = session.origin.set(Box::new(Origin { state: Arc::clone(&state), parts: parts.clone() }));
        session.adopt(state, revision);
        self.admit(&session, &owner, parts, opening, false).map_err(Revival::Refused)?;
        tracing::info!(session = %session.id, from, "a session of a replica that is gone was revived");
        session.show(admitted.grant());
        session.tell(SessionFact::Resumed { after: last });
        for message in written.missed(last) {
            // There are fewer than fit, or their client is told by the end of the stream.
            if session.try_send(message).is_err() {
                session.close_with_error("there is more to be told than there is room for");
            }
        }
        session.changed(true);
        let response = self.first_stream(parts, &session);
        session.start_app_if_due();
        Ok(Some((response, session)))
    }

    // ---- POST ---------------------------------------------------------------------------------------

    /// Whether there is a record of a session for this client, before the body of a message for it is read.
    pub(super) async fn is_known(&self, id: SessionId, parts: &Parts) -> Result<(), Rejection> {
        let (Some(keeping), Some(me)) = (self.keeping(), &self.inner.common.replica) else {
            return Err(Rejection::SessionNotFound);
        };
        match self.find(keeping, id, parts.extensions.get::<Principal>(), me, true).await {
            Ok(Found::At(_) | Found::Free(..)) => Ok(()),
            Ok(Found::Nowhere) => Err(Rejection::SessionNotFound),
            Err(_) => Err(Rejection::ReplicaAway),
        }
    }

    /// Whether a session whose client is away is still here. It may have been revived elsewhere.
    pub(super) async fn is_here(&self, session: &Driver) -> Result<bool, Rejection> {
        keeping::is_here(session).await.map_err(|error| {
            tracing::debug!(session = %session.id, %error, "it cannot be known where a session is");
            Rejection::ReplicaAway
        })
    }

    /// Brings a message to a session that is not at the replica that its client names; waits for a while until it is
    /// revived. `None` if there is no such session.
    pub(super) async fn follow(
        &self,
        sought: &ReplicaId,
        gone: bool,
        id: SessionId,
        parts: &Parts,
        body: &Bytes,
    ) -> Option<Result<Response<Body>, Rejection>> {
        let keeping = self.keeping()?;
        let principal = parts.extensions.get::<Principal>();
        let until = clock::now() + PATIENCE;
        let (mut sought, mut gone) = (sought.clone(), gone);
        let Some(_place) = self.place(&sought, parts) else { return Some(Err(Rejection::ReplicaBusy)) };
        loop {
            if self.own(id, principal).is_some() {
                let mut request = Request::from_parts(parts.clone(), ());
                // It goes no further.
                request.extensions_mut().insert(Forwarded::new());
                let (parts, ()) = request.into_parts();
                return Some(Box::pin(self.try_post(parts, Full::new(body.clone()))).await);
            }
            match self.find(keeping, id, principal, &sought, gone).await {
                Ok(Found::Nowhere) => return None,
                Ok(Found::At(host)) if host != sought => {
                    let answered = self.forward_message(&host, parts.clone(), body.clone()).await;
                    let Some(is_gone) = is_nowhere(&answered) else { return Some(answered) };
                    (sought, gone) = (host, is_gone);
                }
                Ok(Found::At(_) | Found::Free(..)) => {}
                Err(_) => return Some(Err(Rejection::ReplicaAway)),
            }
            if clock::now() >= until {
                return None;
            }
            clock::sleep_until(clock::now() + LOOK).await;
        }
    }
}

/// A request that is about to revive a session here, as the only one.
struct Alone<'a>(&'a Keeping, SessionId);

impl<'a> Alone<'a> {
    fn new(keeping: &'a Keeping, id: SessionId) -> Option<Self> {
        let is_alone = lock(keeping).insert(id);
        is_alone.then(|| Self(keeping, id))
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}

fn lock(keeping: &Keeping) -> MutexGuard<'_, HashSet<SessionId>> {
    keeping.reviving.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a session was not revived.
enum Revival {
    /// It may be, later.
    Unknown,
    Refused(Rejection),
}

/// Whether a replica has answered that it does not have the session, or is gone; `None`: it has answered something else.
pub(super) fn is_nowhere(answered: &Result<Response<Body>, Rejection>) -> Option<bool> {
    match answered {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => Some(false),
        Err(Rejection::SessionNotFound) => Some(true),
        Ok(_) | Err(_) => None,
    }
}
