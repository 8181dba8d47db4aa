//! Places under the caps for sessions of other kinds.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{SseServerTransport, get::generate_id, room};
use crate::{
    clock,
    id::SessionId,
    session::{
        driver::Driver,
        registry::{Holder, Owner, Registry, Standing},
    },
};

/// Counts a session of another kind among a transport's sessions until it is dropped; created by
/// [`SseServerTransport::reserve_session`](crate::SseServerTransport::reserve_session).
///
/// It starts in use. Call [`set_in_use`](Self::set_in_use) when the session has no open request and when it
/// has one again, and end the session when [`evicted`](Self::evicted) resolves.
///
/// ```
/// use mcp_sse::SessionPermit;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let window = std::time::Duration::ZERO;
/// let sse = mcp_sse::SseServerTransport::builder("/messages/").max_sessions(1).resume_window(window).build()?;
/// let get = http::Request::get("http://localhost/sse").body(())?;
/// let permit: SessionPermit = sse.reserve_session(get.extensions()).expect("it is the first");
///
/// permit.set_in_use(false);
/// let (_stream, _session) = sse.connect(&get).await; // evicts it
/// permit.evicted().await;
/// assert!(!permit.set_in_use(true));
/// # Ok(())
/// # }
/// ```
pub struct SessionPermit {
    registry: Arc<Registry<Driver>>,
    id: SessionId,
    /// How long it may be out of use before its client is considered away.
    patience: Duration,
    given_away: watch::Sender<bool>,
}

impl SseServerTransport {
    /// Counts a session of another kind, such as one over Streamable HTTP, against
    /// [`max_sessions`](crate::Builder::max_sessions). `None` if there is no room, or the transport is shut
    /// down.
    ///
    /// `client` are the extensions of the client's request. Its [`ClientIp`](crate::ClientIp) and
    /// [`Principal`](crate::Principal) are used for the limits per address and per principal.
    ///
    /// At a limit it evicts another session, as a new session over SSE does; it may be evicted itself after
    /// it was out of use (see [`SessionPermit::set_in_use`]).
    ///
    /// ```
    /// # use mcp_sse::{ClientIp, SseServerTransport};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = SseServerTransport::builder("/messages/").max_sessions_per_address(1).build()?;
    /// let mut request = http::Request::new(());
    /// request.extensions_mut().insert(ClientIp("192.0.2.7".parse()?));
    ///
    /// let permit = sse.reserve_session(request.extensions());
    /// assert!(permit.is_some() && sse.reserve_session(request.extensions()).is_none());
    /// drop(permit);
    /// assert!(sse.reserve_session(request.extensions()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn reserve_session(&self, client: &http::Extensions) -> Option<SessionPermit> {
        let common = &self.inner.common;
        let id = generate_id().ok()?;
        let given_away = watch::Sender::new(false);
        let standing = Standing { id, opened: clock::now(), silent: false, away: None };
        room::open(common, &Holder::Place(given_away.clone()), standing, &Owner::of(client)).ok()?;
        let patience = common.limits.resume_window;
        Some(SessionPermit { registry: Arc::clone(&common.registry), id, patience, given_away })
    }

    /// Whether a new session of this client would be accepted now: the transport is not shut down, and no
    /// limit is reached or another session can be evicted.
    ///
    /// `client` are the extensions of the client's request, as in [`reserve_session`](Self::reserve_session).
    /// With empty extensions, only the limits that do not depend on the client are checked.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sse = mcp_sse::SseServerTransport::new("/messages/")?;
    /// // For a health check.
    /// let is_ready = || sse.has_room(&http::Extensions::new());
    /// assert!(is_ready());
    /// sse.shutdown(std::time::Duration::ZERO).await;
    /// assert!(!is_ready());
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_room(&self, client: &http::Extensions) -> bool {
        let common = &self.inner.common;
        common.registry.has_room(&Owner::of(client), &common.limits)
    }
}

impl SessionPermit {
    /// Sets whether the session has an open request. If it has none for
    /// [`Builder::resume_window`](crate::Builder::resume_window), its client is considered away, and the
    /// session may be evicted.
    ///
    /// Returns `false` if it was evicted already; then end the session.
    pub fn set_in_use(&self, in_use: bool) -> bool {
        self.registry.set_away(self.id, (!in_use).then(|| clock::now() + self.patience));
        !*self.given_away.borrow()
    }

    /// Resolves when the session is evicted because another one needs its place. Cancel safe. The future does
    /// not borrow the permit, and stays pending if the permit is dropped first.
    pub fn evicted(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut given_away = self.given_away.subscribe();
        async move {
            if given_away.wait_for(|given_away| *given_away).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for SessionPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPermit").finish_non_exhaustive()
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        // Does nothing if it was evicted.
        self.registry.remove(self.id);
    }
}
