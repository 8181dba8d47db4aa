//! Ids of our own requests, which nobody who has not seen one can guess.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use mcp_sse::RequestId;

#[derive(Debug)]
pub(super) struct OwnIds(u64);

impl Default for OwnIds {
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }
}

impl OwnIds {
    /// The one with this number.
    pub(super) fn id(&self, number: u64) -> RequestId {
        RequestId::from(&*format!("{}{number}", self.prefix()))
    }

    /// What all of them begin with.
    pub(super) fn prefix(&self) -> String {
        format!("mcp-sse-bridge-{:016x}-", self.0)
    }
}
