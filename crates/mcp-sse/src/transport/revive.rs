//! Sessions whose replica is gone: found where they were revived, or revived here by their clients.

use std::{sync::Arc, time::Duration};

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
        let Some(record) = keeping.records.get(id).await? else { return Ok(Found::Nowhere) };
        let Some(written) = Written::read(&record.value) else { return Ok(Found::Nowhere) };
        let is_whose = written.principal.as_deref() == principal.map(Principal::as_str);
        let Ok(host) = written.host.parse::<ReplicaId>() else { return Ok(Found::Nowhere) };
        if !is_whose || written.endpoint != endpoint.as_str() {
            return Ok(Found::Nowhere);
        }
        let is_mine = common.replica.as_ref() == Some(&host);
        // One that has closed here, of which that is not written yet.
        if is_mine && !written.left && keeping.marks.has(id) {
            return Ok(Found::Nowhere);
        }
        Ok(match host {
            _ if written.left => Found::Free(Box::new(written), record.revision),
            host if host == *sought && !gone => Found::Nowhere,
            host if host == *sought || (is_mine && common.registry.get(id).is_none()) => {
                Found::Free(Box::new(written), record.revision)
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
        let last = if id.at == Some(&*written.host) { id.sequence } else { 0 };
        let from = std::mem::replace(&mut written.host, me.as_str().to_owned());
        written.left = false;
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
        let _ = session.origin.set(Origin { state: Arc::clone(&state), parts: parts.clone() });
        session.adopt(state, revision);
        self.admit(&session, &owner, parts, opening).map_err(Revival::Refused)?;
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
