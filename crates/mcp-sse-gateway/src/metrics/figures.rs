//! What one session has done, or all of them.

use std::ops::AddAssign;

/// The transports.
pub(crate) const SSE: &str = "sse";
pub(crate) const STREAMABLE_HTTP: &str = "streamable_http";

/// What passed, and what was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    /// Of these, how many went wrong as their server says.
    pub(crate) errors: u64,
    pub(crate) from_client: Passed,
    pub(crate) to_client: Passed,
}

/// The messages in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) messages: u64,
    /// Their size as JSON.
    pub(crate) bytes: u64,
}

impl Passed {
    pub(crate) fn message(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

impl AddAssign for Passed {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.from_client += other.from_client;
        self.to_client += other.to_client;
    }
}

/// What all sessions have done, by their transport.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) sse: Figures,
    pub(crate) streamable_http: Figures,
    /// How many sessions have begun.
    pub(crate) sessions: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, transport: &'static str, figures: Figures) {
        match transport {
            SSE => self.sse += figures,
            STREAMABLE_HTTP => self.streamable_http += figures,
            _ => {}
        }
    }

    pub(crate) fn all(&self) -> Figures {
        let mut all = self.sse;
        all += self.streamable_http;
        all
    }
}
