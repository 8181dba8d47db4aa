//! What is read again when it changes: keys and certificates.

use std::sync::Arc;

use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};

use crate::{access::Guards, listening::tls::Tls, watched};

/// The files of a server that are read again when they change, and on SIGHUP.
#[derive(Debug)]
pub(crate) struct Reread {
    pub(crate) guards: Arc<Guards>,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl Reread {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        !self.guards.has_files() && self.tls.is_none()
    }

    /// Reads what has changed, every second and for ever.
    pub(crate) async fn every_second(self: Arc<Self>) {
        let mut ticks = interval(watched::EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(false).await;
        }
    }

    /// Reads everything on each signal, for ever.
    pub(crate) async fn on(self: Arc<Self>, mut signal: Signal) {
        while signal.recv().await.is_some() {
            self.look(true).await;
        }
    }

    /// Reads what has changed, or everything.
    pub(crate) async fn look(self: &Arc<Self>, all: bool) {
        let this = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            this.guards.look(all);
            if let Some(tls) = &this.tls {
                tls.look(all);
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "the files could not be looked at");
        }
    }
}
