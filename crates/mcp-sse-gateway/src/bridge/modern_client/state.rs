//! What stands for a request that its client has to send again.

use std::fmt;

/// What stands for a request that its client has to send again, with the answers to what it was asked. Whoever knows it can
/// answer in the client's place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State(Box<str>);

impl State {
    pub(crate) fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// All of it; not for a log.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State(…)")
    }
}
