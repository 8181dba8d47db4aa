//! Writing down what has changed of sessions that may be revived at another replica.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    clock,
    principal::Principal,
    records::{Record, RecordsError},
    replica::ReplicaId,
    session::{
        CloseReason,
        driver::{Common, Driver, Keeping, Kept},
        kept::Written,
    },
    throttle::Throttle,
};

/// How long changes are gathered before they are written.
const GATHERED: Duration = Duration::from_millis(100);
/// How many sessions are written at once.
const AT_ONCE: usize = 16;
/// The pause after records could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// How often, within the time that records are kept, each is written again.
const RENEWED: u32 = 3;
/// How long the end of a transport waits until all is written.
const LAST: Duration = Duration::from_secs(2);

/// Has somebody write what changes, if nobody does yet. Needs a tokio runtime.
pub(super) fn ensure_written(common: &Arc<Common>) {
    if let Some(keeping) = &common.keeping
        && !keeping.is_written.swap(true, Ordering::AcqRel)
    {
        tokio::spawn(write(Arc::downgrade(common)));
    }
}

/// Waits until all that has changed is written, for a while.
pub(super) async fn written(common: &Common) {
    let Some(keeping) = &common.keeping else { return };
    let until = clock::now() + LAST;
    while (!keeping.marks.is_empty() || keeping.is_writing.load(Ordering::Acquire)) && clock::now() < until {
        clock::sleep_until(clock::now() + GATHERED / 10).await;
    }
}

/// Writes what changes, until the transport is gone.
async fn write(common: Weak<Common>) {
    let unreachable = Throttle::of(1);
    let mut renewed = clock::now();
    loop {
        let Some(common) = common.upgrade() else { return };
        let Some(keeping) = &common.keeping else { return };
        let renew_at = renewed + keeping.records.expiry() / RENEWED;
        // Not held meanwhile, so that the transport can go.
        let mut news = Duration::from_secs(1).min(renew_at.saturating_duration_since(clock::now()));
        let is_news = clock::within(&mut news, keeping.marks.some()).await.is_some();
        if clock::now() >= renew_at {
            renewed = clock::now();
            common.registry.all().iter().for_each(|session| session.changed(true));
        }
        if !is_news {
            drop(common);
            continue;
        }
        clock::sleep_until(clock::now() + GATHERED).await;
        keeping.is_writing.store(true, Ordering::Release);
        let failed = write_all(&common, keeping).await;
        keeping.is_writing.store(false, Ordering::Release);
        if let Some(error) = failed {
            if let Some(left_out) = unreachable.line(clock::now()) {
                tracing::warn!(%error, left_out, "what is kept of sessions cannot be written; trying again");
            }
            clock::sleep_until(clock::now() + PAUSE).await;
        }
    }
}

/// Writes all that has changed so far. What cannot be written stays marked.
async fn write_all(common: &Arc<Common>, keeping: &Keeping) -> Option<RecordsError> {
    let mut failed = None;
    let mut writing = JoinSet::new();
    let mut sessions = keeping.marks.take().into_iter();
    loop {
        while writing.len() < AT_ONCE
            && let Some(session) = sessions.next()
        {
            if failed.is_some() {
                // Later: each would wait for as long.
                keeping.marks.mark(session.id, &session, session.close_reason().is_none());
                continue;
            }
            let common = Arc::clone(common);
            writing.spawn(async move { (write_one(&common, &session).await, session) });
        }
        match writing.join_next().await {
            None => return failed,
            Some(Ok((Err(error), session))) => {
                keeping.marks.mark(session.id, &session, session.close_reason().is_none());
                failed = Some(error);
            }
            Some(Ok((Ok(()), _)) | Err(_)) => {}
        }
    }
}

async fn write_one(common: &Common, session: &Driver) -> Result<(), RecordsError> {
    let (Some(keeping), Some(host)) = (&common.keeping, &common.replica) else { return Ok(()) };
    let records = &*keeping.records;
    let (closed, remembered) = session.with(|core, _| (core.close_reason(), core.remembered()));
    let Some((state, revision)) = session.kept().as_ref().map(|kept| (kept.state.clone(), kept.revision))
    else {
        return Ok(());
    };
    let Some(state) = state else {
        session.forget();
        if let Some(revision) = revision {
            records.remove(session.id, revision).await?;
        }
        return Ok(());
    };
    match closed {
        // It is another's now.
        Some(CloseReason::Moved) => return Ok(()),
        None | Some(CloseReason::Shutdown) => {}
        Some(_) => {
            if let Some(revision) = revision {
                records.remove(session.id, revision).await?;
            }
            return Ok(());
        }
    }
    let principal = session.principal.as_ref().map(Principal::as_str);
    let written = Written::new(host.as_str(), session.endpoint.as_str(), principal, &state, remembered);
    let Ok(value) = written.into_record() else {
        tracing::warn!(session = %session.id, "this session ends with its replica: there is too much to keep of it");
        session.unkeep();
        return Ok(());
    };
    match records.put(session.id, revision, value).await {
        Ok(Some(revision)) => set_revision(session, Some(revision)),
        Ok(None) => lost(common, session, host).await?,
        Err(RecordsError::Refused(why)) => {
            tracing::error!(session = %session.id, "this session ends with its replica: it cannot be kept: {why}");
            session.forget();
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn set_revision(session: &Driver, revision: Option<u64>) {
    if let Some(Kept { revision: known, .. }) = &mut *session.kept() {
        *known = revision;
    }
}

/// The record is not the one that was written last.
async fn lost(common: &Common, session: &Driver, me: &ReplicaId) -> Result<(), RecordsError> {
    let Some(keeping) = &common.keeping else { return Ok(()) };
    match read(keeping.records.get(session.id).await?) {
        Some((written, _)) if written.host != me.as_str() => moved(session, &written),
        // Of ours the answer was lost; or it has expired.
        found => {
            set_revision(session, found.map(|(_, revision)| revision));
            session.changed(session.close_reason().is_none());
        }
    }
    Ok(())
}

fn read(record: Option<Record>) -> Option<(Written, u64)> {
    let record = record?;
    Some((Written::read(&record.value)?, record.revision))
}

fn moved(session: &Driver, written: &Written) {
    tracing::info!(session = %session.id, to = written.host, "the session was revived at another replica");
    session.close(CloseReason::Moved);
}

/// Whether a session whose client is away is still here: it may have been revived elsewhere. An error: nobody knows now.
pub(super) async fn is_here(session: &Driver) -> Result<bool, RecordsError> {
    let common = &session.common;
    let (Some(keeping), Some(me)) = (&common.keeping, &common.replica) else { return Ok(true) };
    match read(keeping.records.get(session.id).await?) {
        Some((written, _)) if written.host != me.as_str() => {
            moved(session, &written);
            Ok(false)
        }
        _ => Ok(session.close_reason().is_none()),
    }
}
