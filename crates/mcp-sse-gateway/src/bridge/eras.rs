//! Which eras a server speaks: what is set, and what was found out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock;

/// How long it is believed that a server that refuses a client's `initialize` does not speak the modern era either.
const BELIEVED: Duration = Duration::from_secs(60);

/// Which era is spoken to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Era {
    /// Find it out
    #[default]
    Auto,
    /// The protocol with a handshake, up to revision 2025-11-25
    Legacy,
    /// The stateless protocol, from revision 2026-07-28 on
    Modern,
}

/// What is known of one server, by all its sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Eras {
    set: Era,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    /// Whether it answers `initialize`.
    legacy: Option<bool>,
    /// Whether it answers requests of the modern era.
    modern: Option<bool>,
    /// When it was last seen that it does not.
    asked: Option<Instant>,
}

/// How a server is spoken to for a client that begins with `initialize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// As the client speaks, whatever comes of it.
    AsItIs,
    /// As the client speaks; if the server refuses that, it is asked for the other era.
    Watched,
    /// It has refused, and is asked for the other era first.
    Ask,
    /// In the other era.
    Translated,
}

impl Eras {
    pub(crate) fn new(set: Era) -> Self {
        Self { set, ..Self::default() }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is set.
    pub(crate) fn is(&self, era: Era) -> bool {
        self.set == era
    }

    /// Whether it is set that it speaks the modern era.
    pub(crate) fn is_set_modern(&self) -> bool {
        self.set == Era::Modern
    }

    /// Whether it speaks the modern era; `None` if that is not known.
    pub(crate) fn modern(&self) -> Option<bool> {
        match self.set {
            Era::Auto => self.found().modern,
            Era::Legacy => Some(false),
            Era::Modern => Some(true),
        }
    }

    /// It was found out whether it speaks the modern era; returns whether that is new.
    pub(crate) fn set_modern(&self, modern: bool) -> bool {
        let mut found = self.found();
        if !modern {
            found.asked = Some(clock::now());
        }
        found.modern.replace(modern) != Some(modern)
    }

    /// How it is spoken to for a client that begins with `initialize`.
    pub(crate) fn plan(&self) -> Plan {
        match self.set {
            Era::Legacy => Plan::AsItIs,
            Era::Modern => Plan::Translated,
            Era::Auto => match *self.found() {
                Found { legacy: Some(false), modern: Some(true), .. } => Plan::Translated,
                Found { legacy: Some(false), .. } => Plan::Ask,
                _ => Plan::Watched,
            },
        }
    }

    /// It has refused an `initialize`; whether it is worth asking for the other era.
    pub(crate) fn refuses_initialize(&self) -> bool {
        let mut found = self.found();
        let was_asked = found.asked.is_some_and(|asked| clock::now() < asked + BELIEVED);
        if self.set != Era::Auto || (found.modern == Some(false) && was_asked) {
            return false;
        }
        found.legacy = Some(false);
        true
    }

    /// It does not speak the modern era, whatever was known before: it is spoken to as its clients speak.
    pub(crate) fn is_legacy(&self) {
        let mut found = self.found();
        *found = Found { legacy: None, modern: Some(false), asked: Some(clock::now()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_not_found_out() {
        for (set, plan, modern) in
            [(Era::Legacy, Plan::AsItIs, Some(false)), (Era::Modern, Plan::Translated, Some(true))]
        {
            let eras = Eras::new(set);
            assert!(!eras.refuses_initialize());
            assert_eq!((eras.plan(), eras.modern()), (plan, modern));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_is_asked_once_in_a_while() {
        let eras = Eras::new(Era::Auto);
        assert_eq!(eras.plan(), Plan::Watched);
        assert!(eras.refuses_initialize());
        assert_eq!(eras.plan(), Plan::Ask);
        eras.is_legacy();
        assert_eq!(eras.plan(), Plan::Watched);
        assert!(!eras.refuses_initialize(), "it was asked just now");
        tokio::time::advance(BELIEVED).await;
        assert!(eras.refuses_initialize());
        assert!(eras.set_modern(true));
        assert_eq!(eras.plan(), Plan::Translated);
        // A server that speaks both is spoken to as its client speaks.
        let both = Eras::new(Era::Auto);
        both.set_modern(true);
        assert_eq!(both.plan(), Plan::Watched);
    }
}
