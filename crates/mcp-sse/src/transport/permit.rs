//! Places among the sessions for sessions of other kinds.

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

/// A place among a transport's sessions, held for a session of another kind until it is dropped; made by
/// [`SseServerTransport::reserve_session`](crate::SseServerTransport::reserve_session).
///
/// It is in use at first, and stays so unless it is told otherwise: whoever holds it says with
/// [`set_in_use`](Self::set_in_use) when its session has no request open, and ends its session when
/// [`evicted`](Self::evicted) resolves.
///
/// ```
/// use mcp_sse::SessionPermit;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let window = std::time::Duration::ZERO;
/// let sse = mcp_sse::SseServerTransport::builder("/messages/").max_sessions(1).resume_window(window).build()?;
/// let get = http::Request::get("http://localhost/sse").body(())?;
/// let permit: SessionPermit = sse.reserve_session(get.extensions()).expect("nobody is there");
///
/// permit.set_in_use(false);
/// let (_stream, _session) = sse.connect(&get).await; // needs the place
/// permit.evicted().await;
/// assert!(!permit.set_in_use(true));
/// # Ok(())
/// # }
/// ```
pub struct SessionPermit {
    registry: Arc<Registry<Driver>>,
    id: SessionId,
    /// How long it may be out of use before its client counts as away.
    patience: Duration,
    given_away: watch::Sender<bool>,
}

impl SseServerTransport {
    /// Reserves a place among [`max_sessions`](crate::Builder::max_sessions) for a session of another kind, over
    /// Streamable HTTP say, of the client whose request has these extensions: its
    /// [`ClientIp`](crate::ClientIp) and its [`Principal`](crate::Principal) say whose session it is, for the
    /// bounds per address and per principal. `None`: there is no room, or the transport is shut down.
    ///
    /// Others make room for it as for a new session of ours; see [`SessionPermit`] for how it makes room itself.
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

    /// Whether a new session of the client whose request has these extensions would be taken now: the transport is
    /// not shut down, and at no cap, or another session would make room. Empty extensions ask for a client of whom
    /// nothing is known.
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
    /// Says whether the session has a request open. One that had none for as long as sessions wait for their
    /// clients ([`Builder::resume_window`](crate::Builder::resume_window)) gives way when another session
    /// needs the place: from then on its client counts as away.
    ///
    /// `false`: the place was given away already, and the session is to end.
    pub fn set_in_use(&self, in_use: bool) -> bool {
        self.registry.set_away(self.id, (!in_use).then(|| clock::now() + self.patience));
        !*self.given_away.borrow()
    }

    /// Resolves when the place was given to another session. Cancel safe; does not borrow the permit, and
    /// stays pending if the permit is dropped first.
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
        // Nothing, if it was given away.
        self.registry.remove(self.id);
    }
}
