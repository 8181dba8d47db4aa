//! How far a session is with its server.

use tokio::time::Instant;

use crate::bridge::modern_client::words::Greeted;

/// How the server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// It is asked whether it speaks the modern era.
    Ask,
    Legacy,
    Modern,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The server has heard nothing.
    Begins(Plan),
    /// It was asked for the modern era.
    Probes {
        until: Instant,
    },
    /// It was greeted in the other one.
    Greets {
        /// Whether it has answered that it speaks the modern era.
        modern: bool,
        until: Option<Instant>,
    },
    Legacy(Greeted),
    Modern,
    Over,
}

impl Stage {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Probes { until } => Some(*until),
            Self::Greets { until, .. } => *until,
            Self::Begins(_) | Self::Legacy(_) | Self::Modern | Self::Over => None,
        }
    }
}
