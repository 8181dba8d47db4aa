//! That a request comes from a principal, until this is revoked.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::principal::Principal;

/// An authenticator's word that a request comes from a principal.
///
/// When it is revoked, requests are refused at once, and the sessions that depend on it end
/// ([`CloseReason::Unauthorized`](crate::CloseReason::Unauthorized)). It is in the extensions of the requests that
/// pass, beside the [`Principal`].
///
/// ```
/// use mcp_sse::{Grant, Principal, Revocation};
///
/// let key = Revocation::default();
/// let grant = Grant::new(Principal::new("alice")).revocable(&key);
/// assert!(grant.is_valid());
/// key.revoke();
/// assert!(!grant.is_valid());
/// ```
#[derive(Clone)]
pub struct Grant {
    principal: Principal,
    revocation: Option<Revocation>,
}

impl Grant {
    /// A grant for a principal that is never revoked.
    pub fn new(principal: Principal) -> Self {
        Self { principal, revocation: None }
    }

    /// Ties the grant to a revocation; replaces one that it was tied to before.
    #[must_use]
    pub fn revocable(mut self, revocation: &Revocation) -> Self {
        self.revocation = Some(revocation.clone());
        self
    }

    /// Who it is for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether it has not been revoked.
    pub fn is_valid(&self) -> bool {
        self.revocation.as_ref().is_none_or(|revocation| !revocation.is_revoked())
    }

    /// Resolves when it is revoked, for what goes on after the request: a stream, a session of another kind. Cancel
    /// safe.
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let notified = Arc::new(Notified::default());
        let grant = self.clone();
        async move {
            if grant.revocation.is_none() {
                std::future::pending::<()>().await;
            }
            let holder: Arc<dyn Holder> = Arc::clone(&notified) as Arc<dyn Holder>;
            grant.hold(&Arc::downgrade(&holder));
            // It keeps a notification that comes before the wait.
            if grant.is_valid() {
                notified.0.notified().await;
            }
        }
    }

    /// Notes who is to be told of the revocation. It may have come already.
    pub(crate) fn hold(&self, holder: &Weak<dyn Holder>) {
        if let Some(revocation) = &self.revocation {
            revocation.hold(holder);
        }
    }

    /// Whether both are the same word of the same authenticator.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let revocations = match (&self.revocation, &other.revocation) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(&one.0, &other.0),
            _ => false,
        };
        revocations && self.principal == other.principal
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("is_valid", &self.is_valid()).finish_non_exhaustive()
    }
}

/// Who is told that a grant is revoked.
pub(crate) trait Holder: Send + Sync {
    fn revoked(&self);
}

#[derive(Default)]
struct Notified(Notify);

impl Holder for Notified {
    fn revoked(&self) {
        self.0.notify_one();
    }
}

/// Revokes all grants that are tied to it, such as those of one key. Clones are the same revocation. See [`Grant`]
/// for an example.
#[derive(Clone, Default)]
pub struct Revocation(Arc<State>);

#[derive(Default)]
struct State {
    revoked: AtomicBool,
    holders: Mutex<Holders>,
}

#[derive(Default)]
struct Holders {
    list: Vec<Weak<dyn Holder>>,
    /// The length at which those that are gone are removed.
    full_at: usize,
}

/// The shortest list of holders that is searched for those that are gone.
const MANY: usize = 64;

impl Revocation {
    /// Revokes the grants, and ends the sessions that still depend on one of them.
    pub fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
        let holders = std::mem::take(&mut *self.holders());
        for holder in holders.list {
            if let Some(holder) = holder.upgrade() {
                holder.revoked();
            }
        }
    }

    /// Whether they are revoked.
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.load(Ordering::Acquire)
    }

    fn hold(&self, holder: &Weak<dyn Holder>) {
        let mut holders = self.holders();
        if holders.list.len() >= holders.full_at.max(MANY) {
            holders.list.retain(|holder| holder.strong_count() > 0);
            holders.full_at = 2 * holders.list.len();
        }
        holders.list.push(Weak::clone(holder));
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation").field("is_revoked", &self.is_revoked()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_the_end_of_a_grant_is_told_whenever_it_began_to_wait() {
        let key = Revocation::default();
        let grant = Grant::new(Principal::new("alice")).revocable(&key);
        let before = tokio::spawn(grant.revoked());
        tokio::task::yield_now().await;
        key.revoke();
        before.await.unwrap();
        grant.revoked().await;
    }

    #[test]
    fn holders_that_are_gone_are_forgotten() {
        let key = Revocation::default();
        let grant = Grant::new(Principal::new("alice")).revocable(&key);
        let stays: Arc<dyn Holder> = Arc::new(Notified::default());
        grant.hold(&Arc::downgrade(&stays));
        for _ in 0..10_000 {
            let goes: Arc<dyn Holder> = Arc::new(Notified::default());
            grant.hold(&Arc::downgrade(&goes));
        }
        let length = key.holders().list.len();
        assert!(length <= MANY, "{length}");
        assert!(key.holders().list[0].upgrade().is_some());
    }
}
