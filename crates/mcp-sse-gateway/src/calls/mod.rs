//! What clients ask for, and what becomes of it: each session is watched as its messages pass, and what is seen goes to
//! the metrics and the audit log.
//!
//! | room | what lives there |
//! |---|---|
//! | here | one call, and how it ended |
//! | `pending` | the calls of a session that have no answer yet |
//! | `halves` | the two halves of a client, watched |

mod halves;
mod pending;

use std::sync::Arc;

use mcp_sse::{ClientIp, Principal};
use tokio::time::Instant;

pub(crate) use self::{halves::watched, pending::Calls};
use crate::{
    audit::{Audit, Permit},
    metrics::Metrics,
};

/// Who is told of calls. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers {
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) audit: Option<Audit>,
}

impl Watchers {
    /// Whether nobody is.
    pub(crate) fn is_empty(&self) -> bool {
        self.metrics.is_none() && self.audit.is_none()
    }
}

/// A request of a client, or a notification that asks for what a request would.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Box<str>,
    /// The tool, if it is a call of one.
    pub(crate) tool: Option<Box<str>>,
    pub(crate) began: Instant,
    pub(crate) principal: Option<Principal>,
    pub(crate) address: Option<ClientIp>,
    /// Its size, in bytes.
    pub(crate) bytes: usize,
    /// The place of its line in the audit log.
    pub(crate) permit: Option<Permit>,
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
