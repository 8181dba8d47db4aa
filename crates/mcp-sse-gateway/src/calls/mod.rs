//! What clients ask for, and what becomes of it: each session is watched as its messages pass, and what is seen goes to
//! the metrics, the audit log, the traces and the list of sessions.
//!
//! | room | what lives there |
//! |---|---|
//! | here | who is told of calls, and how a call ended |
//! | `kinds` | what a session asks for again and again |
//! | `pending` | the calls of a session that have no answer yet |
//! | `halves` | the two halves of a client, watched |
//! | `sessions` | all sessions, for their operator |

mod halves;
mod kinds;
mod pending;
mod sessions;

use std::sync::Arc;

pub(crate) use self::{
    halves::watched,
    pending::Calls,
    sessions::{Entered, Listed, NotClosed, Sessions},
};
use crate::{audit::Audit, metrics::Metrics, traces::Traces};

/// Who is told of calls. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers {
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) audit: Option<Audit>,
    pub(crate) traces: Option<Traces>,
}

impl Watchers {
    /// Whether nobody is.
    pub(crate) fn is_empty(&self) -> bool {
        self.metrics.is_none() && self.audit.is_none() && self.traces.is_none()
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With a result.
    Ok,
    /// With a result that says that the tool has failed.
    ToolError,
    /// With an error.
    Error,
    /// Its client did not want it any more.
    Cancelled,
    /// Its session ended before.
    Ended,
    /// Not at all: it had no id, so its server was not asked for an answer.
    Notification,
}

impl Outcome {
    /// How many there are.
    pub(crate) const ALL: usize = 6;

    /// Whether its server says that it went wrong.
    pub(crate) fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::ToolError)
    }

    /// As `error.type` of the conventions has it.
    pub(crate) fn error_type(self) -> Option<&'static str> {
        match self {
            Self::Ok | Self::Notification => None,
            Self::ToolError => Some("tool_error"),
            Self::Error => Some("error"),
            Self::Cancelled => Some("cancelled"),
            Self::Ended => Some("session_ended"),
        }
    }

    /// As the audit log has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            other => other.error_type().unwrap_or("ok"),
        }
    }
}
