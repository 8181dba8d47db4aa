//! Systems without a launch step: children are not isolated. Settings that ask for it were refused at startup.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::{command::Command, strays::Strays},
    parse::Range,
};

#[derive(Debug)]
pub(in super::super) struct Apart;

#[derive(Debug)]
pub(in super::super) struct Lease {
    pub(in super::super) confinement: Confinement,
}

/// Of nothing.
#[derive(Debug)]
pub(in super::super) struct Confinement;

impl Confinement {
    pub(in super::super) fn word(&self) -> Result<String, String> {
        Ok(String::new())
    }
}

impl Apart {
    pub(in super::super) fn new(_: Option<Range>, _: Arc<Strays>) -> Arc<Self> {
        Arc::new(Self)
    }

    pub(in super::super) fn close(&self) {}

    pub(in super::super) async fn lease(self: &Arc<Self>, _: &Command, _: Instant) -> Result<Lease, String> {
        Ok(Lease { confinement: Confinement })
    }
}

impl Lease {
    pub(in super::super) fn apply(&self, _: &Command, _: &mut tokio::process::Command) {}

    pub(in super::super) async fn give_back(self) {}
}
