//! That a request comes from a principal, until this is revoked or expires.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{clock, limits::GRACE, principal::Principal};

/// An authenticator's word that a request comes from a principal.
///
/// When it is revoked, requests are refused at once, and the sessions that depend on it end
/// ([`CloseReason::Unauthorized`](crate::CloseReason::Unauthorized)). When it [expires](Self::expires), requests are
/// refused at once too, but sessions go on for a while, in which their clients can show a newer one. It is in the
/// extensions of the requests that pass, beside the [`Principal`].
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
    expiry: Option<Expiry>,
    grace: Duration,
}

/// When a grant expires, by both clocks: the system's may be set, the other one stands still while the machine sleeps.
#[derive(Clone, Copy)]
struct Expiry {
    at: SystemTime,
    instant: Instant,
}

impl Expiry {
    fn is_over(&self) -> bool {
        clock::now() >= self.instant || clock::wall() >= self.at
    }
}

impl Grant {
    /// A grant for a principal that is never revoked and does not expire.
    pub fn new(principal: Principal) -> Self {
        Self { principal, revocation: None, expiry: None, grace: GRACE }
    }

    /// Ties the grant to a revocation; replaces one that it was tied to before.
    #[must_use]
    pub fn revocable(mut self, revocation: &Revocation) -> Self {
        self.revocation = Some(revocation.clone());
        self
    }

    /// Ends the grant at this time, such as the `exp` of a token: from then on, requests with it are refused. More than
    /// a year from now counts as a year.
    ///
    /// A session goes on until the newest grant that its client has shown in it has expired, and then for the time that
    /// [`with_grace`](Self::with_grace) says; it ends with
    /// [`CloseReason::Expired`](crate::CloseReason::Expired). Ending a stream with the token would cut off clients that
    /// renew theirs with the next request, and some clients do not survive that.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use mcp_sse::{Grant, Principal};
    ///
    /// let now = SystemTime::now();
    /// let grant = Grant::new(Principal::new("alice")).expires(now + Duration::from_secs(60));
    /// assert!(grant.is_valid());
    /// assert!(!grant.expires(now).is_valid());
    /// ```
    #[must_use]
    pub fn expires(mut self, at: SystemTime) -> Self {
        let left = at.duration_since(clock::wall()).unwrap_or_default();
        self.expiry = Some(Expiry { at, instant: clock::after(clock::now(), left) });
        self
    }

    /// How long sessions go on after the grant has expired. Default: 5 minutes; a year at most; with zero they end with
    /// it.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Who it is for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether requests with it may pass: it has not expired, and has been neither suspended nor revoked.
    pub fn is_valid(&self) -> bool {
        self.revocation.as_ref().is_none_or(|revocation| revocation.level() == VALID)
            && self.expiry.is_none_or(|expiry| !expiry.is_over())
    }

    /// Whether sessions that depend on it have to end, apart from the time.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revocation.as_ref().is_some_and(Revocation::is_revoked)
    }

    /// Until when sessions that depend on it may go on.
    pub(crate) fn session_until(&self) -> Option<Instant> {
        self.expiry.map(|expiry| clock::after(expiry.instant, self.grace))
    }

    /// Whether a session depends on this one from now on, of which another one was shown before.
    pub(crate) fn replaces(&self, before: &Self) -> bool {
        // By the dates that were given, as the same one is some nanoseconds later each time that it is converted.
        let end = |grant: &Self| grant.expiry.map(|expiry| (expiry.at, grant.grace));
        let is_later = match (end(self), end(before)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some((this, grace)), Some((before, grace_before))) => {
                this.checked_add(grace) > before.checked_add(grace_before)
            }
        };
        is_later || (!self.is_same(before) && !before.is_valid())
    }

    /// Notes who is to be told of the revocation. It may have come already.
    pub(crate) fn hold(&self, holder: &Weak<dyn Holder>) {
        if let Some(revocation) = &self.revocation {
            revocation.hold(holder);
        }
    }

    /// Whether who is told of the revocation of one is told of that of the other.
    pub(crate) fn is_revoked_with(&self, other: &Self) -> bool {
        match (&self.revocation, &other.revocation) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(&one.0, &other.0),
            _ => false,
        }
    }

    /// Whether both are the same word of the same authenticator.
    fn is_same(&self, other: &Self) -> bool {
        let revocations = self.is_revoked_with(other);
        let expiries = self.expiry.map(|expiry| expiry.at) == other.expiry.map(|expiry| expiry.at);
        revocations && expiries && self.principal == other.principal
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

/// Revokes all grants that are tied to it, such as those of one key. Clones are the same revocation. See [`Grant`]
/// for an example.
#[derive(Clone, Default)]
pub struct Revocation(Arc<State>);

#[derive(Default)]
struct State {
    level: AtomicU8,
    holders: Mutex<Holders>,
}

/// Requests pass.
const VALID: u8 = 0;
/// Requests are refused, sessions go on.
const SUSPENDED: u8 = 1;
/// Requests are refused, sessions end.
const REVOKED: u8 = 2;

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
        self.0.level.fetch_max(REVOKED, Ordering::AcqRel);
        let holders = std::mem::take(&mut *self.holders());
        for holder in holders.list {
            if let Some(holder) = holder.upgrade() {
                holder.revoked();
            }
        }
    }

    /// Refuses requests with the grants from now on, but leaves the sessions that depend on them, so that their clients
    /// can show others. What suspends them [revokes](Self::revoke) them some time later.
    pub fn suspend(&self) {
        self.0.level.fetch_max(SUSPENDED, Ordering::AcqRel);
    }

    /// Takes a [`suspend`](Self::suspend) back. What is revoked stays so.
    pub fn resume(&self) {
        let _ = self.0.level.compare_exchange(SUSPENDED, VALID, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether they are revoked.
    pub fn is_revoked(&self) -> bool {
        self.level() == REVOKED
    }

    fn level(&self) -> u8 {
        self.0.level.load(Ordering::Acquire)
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

    fn grant() -> Grant {
        Grant::new(Principal::new("alice"))
    }

    struct Counts;

    impl Holder for Counts {
        fn revoked(&self) {}
    }

    #[test]
    fn holders_that_are_gone_are_forgotten() {
        let key = Revocation::default();
        let grant = grant().revocable(&key);
        let stays: Arc<dyn Holder> = Arc::new(Counts);
        grant.hold(&Arc::downgrade(&stays));
        for _ in 0..10_000 {
            let goes: Arc<dyn Holder> = Arc::new(Counts);
            grant.hold(&Arc::downgrade(&goes));
        }
        let length = key.holders().list.len();
        assert!(length <= MANY, "{length}");
        assert!(key.holders().list[0].upgrade().is_some());
    }

    #[test]
    fn what_is_suspended_is_not_valid_and_is_revoked_later_if_at_all() {
        let key = Revocation::default();
        let grant = grant().revocable(&key);
        key.suspend();
        assert!(!grant.is_valid() && !grant.is_revoked());
        key.resume();
        assert!(grant.is_valid());
        key.revoke();
        key.suspend();
        key.resume();
        assert!(!grant.is_valid() && grant.is_revoked());
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_expires_by_either_clock() {
        let soon = clock::wall() + Duration::from_secs(4);
        let grant = grant().expires(soon);
        assert!(grant.is_valid());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!grant.is_valid() && !grant.is_revoked());
        let was_set = Expiry { at: clock::wall(), instant: clock::after(clock::now(), clock::FAR) };
        assert!(was_set.is_over());
        assert!(grant.expires(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX / 4)).is_valid());
    }

    #[test]
    fn the_newest_grant_counts_unless_the_older_one_lasts_longer() {
        let at = |seconds| grant().expires(clock::wall() + Duration::from_secs(seconds));
        let (short, long) = (at(60), at(120));
        assert!(long.replaces(&short) && !short.replaces(&long) && !short.replaces(&short.clone()));
        assert!(grant().replaces(&long) && !long.replaces(&grant()));
        assert!(short.replaces(&at(0)) && !at(0).replaces(&short));
        let key = Revocation::default();
        let suspended = long.revocable(&key);
        assert!(!short.replaces(&suspended));
        key.suspend();
        assert!(short.replaces(&suspended));
    }
}
