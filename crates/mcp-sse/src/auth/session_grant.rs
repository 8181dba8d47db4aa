//! What the client of a session has shown, and when the session has to end because of that.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use tokio::sync::Notify;

use super::{Grant, grant::Holder};
use crate::clock;

/// The grants that the client of a session has shown, for sessions of other kinds than those of this transport, such as
/// Streamable HTTP. Clones are the same session.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use mcp_sse::{Grant, GrantEnd, Principal, SessionGrant};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let alice = |seconds| {
///     Grant::new(Principal::new("alice")).expires(SystemTime::now() + Duration::from_secs(seconds))
/// };
/// let session = SessionGrant::new(&alice(60));
/// // With each of its requests.
/// session.show(&alice(120));
/// // Two minutes later, and the grace time after that.
/// assert_eq!(session.over().await, GrantEnd::Expired);
/// # }
/// ```
#[derive(Clone)]
pub struct SessionGrant(Arc<State>);

struct State {
    grant: Mutex<Grant>,
    changed: Notify,
}

/// Why a session has to end, as far as its client's grants are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantEnd {
    /// The grant was revoked.
    Revoked,
    /// The newest grant has expired, and the grace time is over.
    Expired,
}

impl SessionGrant {
    /// A session whose client has shown this grant when it opened it.
    pub fn new(grant: &Grant) -> Self {
        let this = Self(Arc::new(State { grant: Mutex::new(grant.clone()), changed: Notify::new() }));
        this.hold(grant);
        this
    }

    /// Notes a grant of the same client. The session depends on the one that lasts longest.
    pub fn show(&self, grant: &Grant) {
        let is_held = {
            let mut before = self.0.lock();
            if !grant.replaces(&before) {
                return;
            }
            std::mem::replace(&mut *before, grant.clone()).is_revoked_with(grant)
        };
        if !is_held {
            self.hold(grant);
        }
        self.0.changed.notify_one();
    }

    /// Resolves when the session has to end. One future at a time may wait for that. Cancel safe.
    pub async fn over(&self) -> GrantEnd {
        loop {
            let (is_revoked, until) = {
                let grant = self.0.lock();
                (grant.is_revoked(), grant.session_until())
            };
            if is_revoked {
                return GrantEnd::Revoked;
            }
            // It keeps a notification that comes before the wait.
            let changed = self.0.changed.notified();
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => return GrantEnd::Expired,
            }
        }
    }

    fn hold(&self, grant: &Grant) {
        let holder: Weak<dyn Holder> = Arc::downgrade(&(Arc::clone(&self.0) as Arc<dyn Holder>));
        grant.hold(&holder);
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => clock::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Grant> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder for State {
    fn revoked(&self) {
        self.changed.notify_one();
    }
}

impl fmt::Debug for SessionGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionGrant").field("grant", &*self.0.lock()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{auth::Revocation, principal::Principal};

    fn grant(seconds: u64) -> Grant {
        let alice = Grant::new(Principal::new("alice"));
        alice.expires(clock::wall() + Duration::from_secs(seconds)).with_grace(Duration::from_secs(10))
    }

    #[tokio::test(start_paused = true)]
    async fn a_revocation_ends_it_whenever_it_comes() {
        let key = Revocation::default();
        let session = SessionGrant::new(&grant(60).revocable(&key));
        let waits = session.clone();
        let before = tokio::spawn(async move { waits.over().await });
        tokio::task::yield_now().await;
        key.suspend();
        key.revoke();
        assert_eq!(before.await.unwrap(), GrantEnd::Revoked);
        assert_eq!(session.over().await, GrantEnd::Revoked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_grant_prolongs_it_also_while_somebody_waits() {
        let session = SessionGrant::new(&grant(4));
        let waits = session.clone();
        let start = clock::now();
        let over = tokio::spawn(async move { (waits.over().await, clock::now()) });
        // It has expired, but not the grace time.
        tokio::time::sleep(Duration::from_secs(12)).await;
        session.show(&grant(30));
        session.show(&grant(20));
        let (end, at) = over.await.unwrap();
        assert_eq!(end, GrantEnd::Expired);
        let lived = at.duration_since(start).as_secs();
        assert!((51..=52).contains(&lived), "{lived}");
    }
}
