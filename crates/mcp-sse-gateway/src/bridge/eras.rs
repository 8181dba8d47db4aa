//! Which eras a server speaks: what is set, and what was found out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcp_sse::Message;
use tokio::time::Instant;

use crate::{
    clock,
    message::{
        members::Members,
        modern::{VERSION, code},
    },
};

/// How long it is believed that a server that refuses a client's `initialize` does not speak the modern era either.
const BELIEVED: Duration = Duration::from_secs(60);

/// After so many sessions in a row that it has refused, it is not asked whether it takes the next.
const DOUBTED: u32 = 3;

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
    /// How many sessions in a row it has refused for a reason that may be the client's own.
    doubtful: u32,
    /// It is asked when it is started next.
    is_doubted: bool,
    /// It keeps no sessions for legacy clients, so that it can ask and tell them nothing.
    is_poor: bool,
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

    /// Whether it speaks the modern era; `None` if that is not known.
    pub(crate) fn modern(&self) -> Option<bool> {
        match self.set {
            Era::Auto => self.found().modern,
            Era::Legacy => Some(false),
            Era::Modern => Some(true),
        }
    }

    /// Whether it speaks the legacy era and the modern one, as far as that is known.
    pub(crate) fn known(&self) -> (Option<bool>, Option<bool>) {
        let found = self.found();
        match self.set {
            Era::Auto => (found.legacy, found.modern),
            Era::Legacy => (Some(true), Some(false)),
            Era::Modern => (Some(false), Some(true)),
        }
    }

    /// It was found out whether it answers requests of the modern era; returns whether that is new.
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
            Era::Auto => {
                let mut found = self.found();
                if std::mem::take(&mut found.is_doubted) {
                    return Plan::Ask;
                }
                match (found.legacy, found.modern) {
                    (Some(false), Some(true)) => Plan::Translated,
                    _ => Plan::Watched,
                }
            }
        }
    }

    /// It has answered an `initialize` with a result.
    pub(crate) fn takes_initialize(&self) {
        let mut found = self.found();
        (found.legacy, found.doubtful) = (Some(true), 0);
    }

    /// It has answered an `initialize` with a result, but keeps no session: whether it is started again to be spoken to in the other
    /// era, in which it can ask its client and tell it of changes.
    pub(crate) fn prefers_modern(&self) -> bool {
        let mut found = self.found();
        if self.set != Era::Auto || found.modern == Some(false) {
            return false;
        }
        (found.is_poor, found.is_doubted) = (true, true);
        true
    }

    /// It has refused an `initialize` with this error; whether it is started again to be spoken to in the other era.
    pub(crate) fn refuses_initialize(&self, error: &Message) -> bool {
        if self.set != Era::Auto {
            return false;
        }
        let mut found = self.found();
        let (code, supported) = refusal(error);
        let was_asked = found.asked.is_some_and(|asked| clock::now() < asked + BELIEVED);
        if found.modern == Some(false) && was_asked {
            return false;
        }
        let is_of_eras = matches!(code, Some(code::UNSUPPORTED_PROTOCOL_VERSION | code::METHOD_NOT_FOUND));
        if is_of_eras && supported == Some(true) {
            // It says so itself.
            (found.legacy, found.modern) = (Some(false), Some(true));
            return true;
        }
        if found.legacy == Some(true) && !is_of_eras {
            return false;
        }
        found.is_doubted = true;
        true
    }

    /// Asked after it has refused an `initialize`, it has answered as a modern server does; returns whether that is new.
    pub(crate) fn is_modern(&self) -> bool {
        let mut found = self.found();
        let is_new = found.modern.replace(true) != Some(true);
        if found.is_poor {
            found.legacy = Some(false);
        } else if found.legacy != Some(false) {
            // The next session may tell whether its client was to blame.
            found.doubtful += 1;
            if found.doubtful >= DOUBTED {
                found.legacy = Some(false);
            }
        }
        is_new
    }

    /// What was known may not be so any more: it is found out again.
    pub(crate) fn forget(&self) {
        *self.found() = Found::default();
    }

    /// Whether it makes sense to ask whether it speaks the modern era.
    pub(crate) fn is_worth_asking(&self) -> bool {
        let found = self.found();
        let was_asked = found.asked.is_some_and(|asked| clock::now() < asked + BELIEVED);
        self.set == Era::Auto && (found.modern.is_none() || (found.modern == Some(false) && !was_asked))
    }

    /// It does not speak the modern era, whatever was known before: it is spoken to as its clients speak.
    pub(crate) fn is_legacy(&self) {
        let mut found = self.found();
        *found = Found { modern: Some(false), asked: Some(clock::now()), ..Found::default() };
    }
}

/// The code of an error, and whether its data say that the modern revision is supported, if they say anything.
pub(super) fn refusal(error: &Message) -> (Option<i32>, Option<bool>) {
    let whole = Members::read(error.as_str()).unwrap_or_default();
    let members = whole.get("error").and_then(Members::read).unwrap_or_default();
    of_error(&members)
}

/// The same of the error alone.
pub(super) fn of_error(error: &Members<'_>) -> (Option<i32>, Option<bool>) {
    let code = error.get("code").and_then(|json| serde_json::from_str(json).ok());
    let data = error.get("data").and_then(Members::read);
    let supported = data.and_then(|data| serde_json::from_str::<Vec<String>>(data.get("supported")?).ok());
    (code, supported.map(|versions| versions.iter().any(|version| version == VERSION)))
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
            assert!(!eras.refuses_initialize(&error(-32601, "")));
            assert_eq!((eras.plan(), eras.modern()), (plan, modern));
        }
    }

    fn error(code: i32, supported: &str) -> Message {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m","data":{{"supported":[{supported}]}}}}}}"#
        );
        Message::parse(json).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_is_asked_once_in_a_while() {
        let eras = Eras::new(Era::Auto);
        let refused = error(-32601, "");
        assert_eq!(eras.plan(), Plan::Watched);
        assert!(eras.refuses_initialize(&refused));
        assert_eq!(eras.plan(), Plan::Ask);
        eras.is_legacy();
        assert_eq!(eras.plan(), Plan::Watched);
        assert!(!eras.refuses_initialize(&refused), "it was asked just now");
        let says_so = error(-32022, r#""2026-07-28""#);
        assert!(!eras.refuses_initialize(&says_so), "nor does what it says itself help");
        tokio::time::advance(BELIEVED).await;
        assert!(eras.refuses_initialize(&says_so));
        assert_eq!(eras.plan(), Plan::Translated);
    }

    #[test]
    fn a_server_without_sessions_is_spoken_to_in_the_other_era_if_it_can() {
        let eras = Eras::new(Era::Auto);
        assert!(eras.prefers_modern());
        assert_eq!(eras.plan(), Plan::Ask);
        eras.is_modern();
        assert_eq!(eras.plan(), Plan::Translated);
        let other = Eras::new(Era::Auto);
        assert!(other.prefers_modern());
        assert_eq!(other.plan(), Plan::Ask);
        other.is_legacy();
        assert_eq!(other.plan(), Plan::Watched);
        assert!(!other.prefers_modern());
        assert!(!Eras::new(Era::Legacy).prefers_modern());
    }

    #[test]
    fn one_client_does_not_decide_for_all() {
        let eras = Eras::new(Era::Auto);
        let bad = error(-32602, "");
        for _ in 0..DOUBTED {
            assert_eq!(eras.plan(), Plan::Watched);
            assert!(eras.refuses_initialize(&bad));
            assert_eq!(eras.plan(), Plan::Ask);
            eras.is_modern();
        }
        assert_eq!(eras.plan(), Plan::Translated);
        let both = Eras::new(Era::Auto);
        assert!(both.refuses_initialize(&bad));
        assert_eq!(both.plan(), Plan::Ask);
        both.is_modern();
        assert_eq!(both.plan(), Plan::Watched);
        both.takes_initialize();
        assert!(!both.refuses_initialize(&bad), "it takes others");
        assert!(both.refuses_initialize(&error(-32601, "")), "it may be another one now");
    }
}
