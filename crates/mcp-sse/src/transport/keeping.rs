//! Writing down what has changed of sessions that may be revived at another replica.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::task::JoinSet;

use super::elsewhere::Elsewhere;
use crate::{
    clock,
    principal::Principal,
    records::{Record, RecordsError},
    replica::ReplicaId,
    session::{
        CloseReason,
        driver::{Common, Driver, Keeping},
        kept::Written,
    },
    throttle::Throttle,
};

/// How long changes are gathered before they are written.
const GATHERED: Duration = Duration::from_millis(100);
/// How many sessions are written at once.
const AT_ONCE: usize = 64;
/// The pause after something could not be written.
const PAUSE: Duration = Duration::from_secs(1);
/// How often, within the time that records are kept, each is written again.
const RENEWED: u32 = 3;
/// How long the end of a transport waits until all is written.
const LAST: Duration = Duration::from_secs(5);

/// Lines about records that are refused.
static REFUSED: Throttle = Throttle::new();

/// Has somebody write what changes, if nobody does yet. Needs a tokio runtime.
pub(super) fn ensure_written(common: &Arc<Common>, elsewhere: Option<&Elsewhere>) {
    if let (Some(keeping), Some(elsewhere)) = (&common.keeping, elsewhere)
        && !keeping.is_written.swap(true, Ordering::AcqRel)
    {
        tokio::spawn(write(Arc::downgrade(common), elsewhere.clone()));
    }
}

/// Waits until all that has changed is written, for a while.
pub(super) async fn written(common: &Common) {
    let Some(keeping) = &common.keeping else { return };
    let until = clock::now() + LAST;
    while !keeping.marks.is_empty() && clock::now() < until {
        clock::sleep_until(clock::now() + GATHERED / 10).await;
    }
}

/// Writes what changes, until the transport is gone.
async fn write(common: Weak<Common>, elsewhere: Elsewhere) {
    let unreachable = Throttle::of(1);
    let mut renewed = clock::now();
    let mut was_connected = true;
    loop {
        let Some(common) = common.upgrade() else { return };
        let Some(keeping) = &common.keeping else { return };
        let renew_at = renewed + keeping.records.expiry() / RENEWED;
        // Not for long, so that the transport can go.
        let mut news = Duration::from_secs(1).min(renew_at.saturating_duration_since(clock::now()));
        let is_news = clock::within(&mut news, keeping.marks.some()).await.is_some();
        // Others may have revived sessions meanwhile.
        let is_connected = elsewhere.backplane.is_connected();
        let is_back = is_connected && !was_connected;
        was_connected = is_connected;
        if is_back || clock::now() >= renew_at {
            renewed = clock::now();
            common.registry.all().iter().for_each(|session| session.changed(true));
        }
        if !is_news {
            continue;
        }
        clock::sleep_until(clock::now() + GATHERED).await;
        if let Some(error) = write_all(&common, keeping).await {
            if let Some(left_out) = unreachable.line(clock::now()) {
                tracing::warn!(%error, left_out, "what is kept of sessions cannot be written; trying again");
            }
            clock::sleep_until(clock::now() + PAUSE).await;
        }
    }
}

/// Writes all that has changed so far. What cannot be written stays marked; why, for one of them.
async fn write_all(common: &Arc<Common>, keeping: &Keeping) -> Option<RecordsError> {
    let (mut failed, mut is_unreachable) = (None, false);
    let mut writing = JoinSet::new();
    let mut sessions = keeping.marks.take().into_iter();
    let again = |session: &Arc<Driver>| {
        keeping.marks.mark(session.id, session, session.close_reason().is_none());
    };
    loop {
        while writing.len() < AT_ONCE
            && let Some(session) = sessions.next()
        {
            if is_unreachable {
                // Later: each would wait for as long.
                again(&session);
                keeping.marks.is_written(session.id);
                continue;
            }
            let common = Arc::clone(common);
            writing.spawn(async move { (write_one(&common, &session).await, session) });
        }
        let Some(written) = writing.join_next().await else { return failed };
        // It never panics.
        let Ok((written, session)) = written else { continue };
        if let Err(error) = written {
            is_unreachable |= error == RecordsError::Unavailable;
            failed = Some(error);
            again(&session);
        }
        keeping.marks.is_written(session.id);
    }
}

async fn write_one(common: &Common, session: &Driver) -> Result<(), RecordsError> {
    let (Some(keeping), Some(host)) = (&common.keeping, &common.replica) else { return Ok(()) };
    let (closed, remembered) = session.with(|core, _| (core.close_reason(), core.remembered()));
    let Some((state, revision)) = session.kept().as_ref().map(|kept| (kept.state.clone(), kept.revision))
    else {
        return Ok(());
    };
    match closed {
        // It is another's now.
        Some(CloseReason::Moved) => return Ok(()),
        None | Some(CloseReason::Shutdown) => {}
        Some(_) => return remove(keeping, session, host, revision).await,
    }
    let Some(state) = state else { return remove(keeping, session, host, revision).await };
    let principal = session.principal.as_ref().map(Principal::as_str);
    let written = Written::new(host.as_str(), session.endpoint.as_str(), principal, &state, remembered);
    let Ok(value) = written.into_record() else {
        tracing::warn!(session = %session.id, "this session ends with its replica: there is too much to keep of it");
        return remove(keeping, session, host, revision).await;
    };
    match keeping.records.put(session.id, revision, value).await {
        Ok(Some(revision)) => set_revision(session, Some(revision)),
        Ok(None) => lost(common, session, host).await?,
        Err(RecordsError::Refused(why)) => {
            if let Some(left_out) = REFUSED.line(clock::now()) {
                tracing::error!(session = %session.id, left_out, "a session cannot be kept now: {why}");
            }
            return Err(RecordsError::Refused(why));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Removes the record, whatever is known of it, unless it is another replica's; then nothing is kept of the session any more.
async fn remove(
    keeping: &Keeping,
    session: &Driver,
    me: &ReplicaId,
    revision: Option<u64>,
) -> Result<(), RecordsError> {
    let is_removed = match revision {
        Some(revision) => keeping.records.remove(session.id, revision).await?,
        None => false,
    };
    // The answer to the last write may have been lost.
    if !is_removed
        && let Some((written, revision)) = read(keeping.records.get(session.id).await?)?
        && written.host == me.as_str()
        && !keeping.records.remove(session.id, revision).await?
    {
        return Err(RecordsError::Unavailable);
    }
    session.forget();
    Ok(())
}

fn set_revision(session: &Driver, revision: Option<u64>) {
    if let Some(kept) = &mut *session.kept() {
        kept.revision = revision;
    }
}

/// The record is not the one that was written last.
async fn lost(common: &Common, session: &Driver, me: &ReplicaId) -> Result<(), RecordsError> {
    let Some(keeping) = &common.keeping else { return Ok(()) };
    match read(keeping.records.get(session.id).await?)? {
        Some((written, _)) if written.host != me.as_str() => moved(session, &written),
        // Of ours the answer was lost; or it has expired.
        found => {
            set_revision(session, found.map(|(_, revision)| revision));
            session.changed(session.close_reason().is_none());
        }
    }
    Ok(())
}

/// What is in a record. An error: it cannot be read, so that it is of a replica that is not like this one.
pub(super) fn read(record: Option<Record>) -> Result<Option<(Written, u64)>, RecordsError> {
    let Some(record) = record else { return Ok(None) };
    let unreadable = || RecordsError::Refused("a record is of another version".to_owned());
    let written = Written::read(&record.value).ok_or_else(unreadable)?;
    Ok(Some((written, record.revision)))
}

fn moved(session: &Driver, written: &Written) {
    tracing::info!(session = %session.id, to = written.host, "the session was revived at another replica");
    session.close(CloseReason::Moved);
}

/// Whether a session whose client is away is still here: it may have been revived elsewhere. An error: nobody knows now.
pub(super) async fn is_here(session: &Driver) -> Result<bool, RecordsError> {
    let common = &session.common;
    let (Some(keeping), Some(me)) = (&common.keeping, &common.replica) else { return Ok(true) };
    match read(keeping.records.get(session.id).await?)? {
        Some((written, _)) if written.host != me.as_str() => {
            moved(session, &written);
            Ok(false)
        }
        _ => Ok(session.close_reason().is_none()),
    }
}
