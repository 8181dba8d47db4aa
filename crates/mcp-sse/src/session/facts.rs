//! Facts about sessions, reported as they happen, when no lock is held.
//!
//! They all go to the [`Observer`] of the transport, which only listens. Nothing else knows which one it is;
//! today it is the log.

use std::{fmt, time::Duration};

use super::{
    core::Figures,
    error::CloseReason,
    registry::{Full, Owner},
};
use crate::{clock, id::SessionId, limits::Limits, throttle::Throttle};

/// What happened to a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact<'a> {
    Opened {
        endpoint: &'a str,
    },
    /// Its client has disconnected and may resume.
    Left,
    /// Its client has resumed; it has all events up to this one.
    Resumed {
        after: u64,
    },
    /// A message was refused because the session is at a limit.
    Busy {
        inbound: usize,
        in_flight: usize,
        outbound: usize,
    },
    Closed {
        reason: CloseReason,
        lived: Duration,
        figures: Figures,
    },
}

/// Who facts are reported to.
pub(crate) trait Observer: fmt::Debug + Send + Sync {
    fn session(&self, id: SessionId, fact: Fact<'_>);

    /// There was no room for a new session of this owner, or for the first message of a silent one.
    fn no_room(&self, full: Full, owner: &Owner, limits: &Limits);
}

/// Writes each fact as a log line. Untrusted clients can cause the lines about refused sessions, so the first
/// ones are written and those of a flood only counted.
#[derive(Debug)]
pub(crate) struct Log {
    full: Throttle,
    /// A limit of its own, so that one address cannot suppress the other lines.
    of_address: Throttle,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { full: Throttle::new(), of_address: Throttle::new() }
    }
}

impl Observer for Log {
    fn session(&self, id: SessionId, fact: Fact<'_>) {
        match fact {
            Fact::Opened { endpoint } => tracing::info!(session = %id, endpoint, "session opened"),
            Fact::Left => tracing::info!(session = %id, "the client has left; its session waits for it"),
            Fact::Resumed { after } => tracing::info!(session = %id, after, "session resumed"),
            Fact::Busy { inbound, in_flight, outbound } => tracing::warn!(
                session = %id,
                inbound,
                in_flight,
                outbound,
                "message refused: the session is at a bound; its client sends faster than it reads, or its app is slow"
            ),
            Fact::Closed { reason, lived, figures } => tracing::info!(
                session = %id,
                %reason,
                seconds = lived.as_secs_f64(),
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
