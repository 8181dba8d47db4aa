//! Places among the sessions for sessions of other kinds.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Full, Holder, Owner, Registry, order::Standing};
use crate::{SessionId, clock, limits::Limits};

/// A place that is taken among a transport's sessions, for a session of another kind, until it is dropped;
/// see [`SseServerTransport::take_place`](crate::SseServerTransport::take_place).
///
/// It is in use at first, and stays so unless it is told otherwise: whoever holds it says with
/// [`set_in_use`](Self::set_in_use) when its session has no request open, and ends its session when
/// [`evicted`](Self::evicted) resolves.
///
/// ```
/// use mcp_sse::SessionPlace;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let window = std::time::Duration::ZERO;
/// let sse = mcp_sse::SseServerTransport::builder("/messages/").max_sessions(1).resume_window(window).build()?;
/// let place: SessionPlace = sse.take_place().expect("nobody is there");
///
/// place.set_in_use(false);
/// let get = http::Request::get("http://localhost/sse").body(())?;
/// let (_stream, _session) = sse.connect(&get); // needs the place
/// place.evicted().await;
/// assert!(!place.set_in_use(true));
/// # Ok(())
/// # }
/// ```
pub struct SessionPlace {
    registry: Arc<Registry>,
    id: SessionId,
    /// How long it may be out of use before its client counts as away.
    patience: Duration,
    given_away: watch::Sender<bool>,
}

impl SessionPlace {
    /// Says whether the session has a request open. One that had none for as long as sessions wait for their
    /// clients ([`Builder::resume_window`](crate::Builder::resume_window)) gives way when another session
    /// needs the place: from then on its client counts as away.
    ///
    /// `false`: the place was given away already, and the session is to end.
    pub fn set_in_use(&self, in_use: bool) -> bool {
        self.registry.set_away(self.id, (!in_use).then(|| clock::now() + self.patience));
        !*self.given_away.borrow()
    }

    /// Resolves when the place was given to another session. Cancel safe; does not borrow the place, and
    /// stays pending if the place is dropped first.
    pub fn evicted(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut given_away = self.given_away.subscribe();
        async move {
            if given_away.wait_for(|given_away| *given_away).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for SessionPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPlace").finish_non_exhaustive()
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        // Nothing, if it was given away.
        self.registry.remove(self.id);
    }
}

impl Registry {
    /// Takes a place for a session of another kind, as `open` does for one of ours.
    pub(crate) fn take_place(self: &Arc<Self>, owner: &Owner, limits: &Limits) -> Result<SessionPlace, Full> {
        let Ok(id) = SessionId::generate() else { return Err(Full::Sessions) };
        let given_away = watch::Sender::new(false);
        let standing = Standing { id, opened: clock::now(), silent: false, away: None };
        self.add(&Holder::Place(given_away.clone()), standing, owner, limits)?;
        Ok(SessionPlace { registry: Arc::clone(self), id, patience: limits.resume_window, given_away })
    }
}
