//! Facts about sessions, reported as they happen, when no lock is held.
//!
//! They all go through [`Observers`]: to the log, and to the [`Observer`] of the transport's user, if there is one. They
//! only listen; nothing else knows of them.

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

pub use super::core::SessionFigures;
use super::{
    error::CloseReason,
    registry::{Full, Owner},
};
use crate::{clock, id::SessionId, limits::Limits, principal::Principal, throttle::Throttle};

/// Who is told what happens to sessions, and of refused requests; given to a transport with
/// [`Builder::observe`](crate::Builder::observe).
///
/// It is called by whoever has caused what it is told, and must not block. It is told as often as things happen: a
/// stranger can cause refusals without end, so it counts them rather than writing lines.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
///
/// use mcp_sse::{ObservedSession, Observer, Refusal, SessionFact, SseServerTransport};
///
/// #[derive(Clone, Default)]
/// struct Counts(Arc<[AtomicUsize; 2]>);
///
/// impl Observer for Counts {
///     fn session(&self, _session: &ObservedSession<'_>, fact: &SessionFact) {
///         if matches!(fact, SessionFact::Opened) {
///             self.0[0].fetch_add(1, Ordering::Relaxed);
///         }
///     }
///
///     fn refused(&self, refusal: &Refusal) {
///         assert_eq!(refusal.reason, "invalid_host");
///         self.0[1].fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let counts = Counts::default();
/// let sse = SseServerTransport::builder("/messages/").observe(counts.clone()).build()?;
/// for host in ["localhost", "evil.example"] {
///     let _ = sse.connect(&http::Request::get("/sse").header("host", host).body(())?).await;
/// }
/// assert_eq!(counts.0.each_ref().map(|count| count.load(Ordering::Relaxed)), [1, 1]);
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something has happened to a session.
    fn session(&self, session: &ObservedSession<'_>, fact: &SessionFact) {
        let _ = (session, fact);
    }

    /// A request was refused.
    fn refused(&self, refusal: &Refusal) {
        let _ = refusal;
    }
}

/// The session that something has happened to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ObservedSession<'a> {
    /// Its id. Shown, it is shortened.
    pub id: SessionId,
    /// Whom it belongs to, if that is known.
    pub principal: Option<&'a Principal>,
    /// The path that its client posts to, without a prefix.
    pub endpoint: &'a str,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum SessionFact {
    /// Its client has opened it.
    Opened,
    /// Its client has disconnected and may resume.
    Left,
    /// Its client has resumed.
    #[non_exhaustive]
    Resumed {
        /// The number of the last event that it has.
        after: u64,
    },
    /// A message was refused because the session is at a bound. Told for the first one of a session.
    #[non_exhaustive]
    Busy {
        /// Messages that wait for the app.
        inbound: usize,
        /// Requests that are not answered.
        in_flight: usize,
        /// Messages that wait for the client.
        outbound: usize,
    },
    /// It is closed.
    #[non_exhaustive]
    Closed {
        /// Why.
        reason: CloseReason,
        /// How long ago it was opened.
        age: Duration,
        /// What came and went in it.
        figures: SessionFigures,
    },
}

/// A request that was refused.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// Why, as one word of a fixed set, such as `invalid_host`, `unauthorized` or `too_many_sessions`.
    pub reason: &'static str,
}

/// All who are told.
pub(crate) struct Observers {
    log: Log,
    other: Option<Arc<dyn Observer>>,
}

impl Observers {
    pub(crate) fn new(other: Option<Arc<dyn Observer>>) -> Self {
        Self { log: Log::new(), other }
    }

    pub(crate) fn session(&self, session: &ObservedSession<'_>, fact: &SessionFact) {
        self.log.session(session, fact);
        if let Some(other) = &self.other {
            other.session(session, fact);
        }
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(other) = &self.other {
            other.refused(refusal);
        }
    }

    /// There was no room for a new session of this owner, or for the first message of a silent one. The observer is told
    /// of the refusal that follows.
    pub(crate) fn no_room(&self, full: Full, owner: &Owner, limits: &Limits) {
        self.log.no_room(full, owner, limits);
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}

/// Writes each fact as a log line. Untrusted clients can cause the lines about refused sessions, so the first
/// ones are written and those of a flood only counted.
#[derive(Debug)]
struct Log {
    full: Throttle,
    /// A limit of its own, so that one address cannot suppress the other lines.
    of_address: Throttle,
}

impl Log {
    fn new() -> Self {
        Self { full: Throttle::new(), of_address: Throttle::new() }
    }

    fn session(&self, session: &ObservedSession<'_>, fact: &SessionFact) {
        let ObservedSession { id, endpoint, .. } = *session;
        match *fact {
            SessionFact::Opened => tracing::info!(session = %id, endpoint, "session opened"),
            SessionFact::Left => {
                tracing::info!(session = %id, "the client has left; its session waits for it");
            }
            SessionFact::Resumed { after } => tracing::info!(session = %id, after, "session resumed"),
            SessionFact::Busy { inbound, in_flight, outbound } => tracing::warn!(
                session = %id,
                inbound,
                in_flight,
                outbound,
                "message refused: the session is at a bound; its client sends faster than it reads, or its app is slow"
            ),
            SessionFact::Closed { reason, age, figures } => tracing::info!(
                session = %id,
                reason = reason.as_str(),
                seconds = age.as_secs_f64(),
                messages_in = figures.messages_in,
                bytes_in = figures.bytes_in,
                messages_out = figures.messages_out,
                bytes_out = figures.bytes_out,
                refused = figures.refused,
                resumed = figures.resumed,
                "session closed"
            ),
        }
    }

    fn no_room(&self, full: Full, owner: &Owner, limits: &Limits) {
        let lines = match full {
            Full::Draining => return,
            Full::SessionsOfAddress | Full::RateOfAddress => &self.of_address,
            Full::Sessions | Full::SilentSessions | Full::SessionsOfPrincipal => &self.full,
        };
        let Some(left_out) = lines.line(clock::now()) else { return };
        let address = owner.bounded().map(tracing::field::display);
        match full {
            Full::Draining => {}
            Full::Sessions => {
                tracing::warn!(
                    limit = limits.max_sessions,
                    left_out,
                    "session refused: too many sessions; raise max_sessions if this load is expected"
                );
            }
            Full::SilentSessions => {
                tracing::warn!(
                    limit = limits.max_silent_sessions,
                    left_out,
                    "session refused: too many silent sessions, whose clients have posted no message; raise max_silent_sessions if this is expected"
                );
            }
            Full::SessionsOfPrincipal => {
                tracing::warn!(
                    limit = limits.max_sessions_per_principal,
                    left_out,
                    "session refused: too many sessions of one principal; raise max_sessions_per_principal if this is expected"
                );
            }
            Full::SessionsOfAddress => {
                tracing::warn!(
                    address,
                    limit = limits.max_sessions_per_address,
                    left_out,
                    "session refused: too many sessions of one address; if it is a proxy, set trust_forwarded_for, else raise max_sessions_per_address if this is expected"
                );
            }
            Full::RateOfAddress => {
                tracing::warn!(
                    address,
                    limit = limits.sessions_per_second_per_address,
                    left_out,
                    "session refused: one address opens too many sessions a second; if it is a proxy, set trust_forwarded_for, else raise sessions_per_second_per_address if this is expected"
                );
            }
        }
    }
}
