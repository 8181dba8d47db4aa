//! What is due when nobody says anything: a ping, and the end of a server that nobody needs or that is stuck.

use std::time::Duration;

use mcp_sse::Message;
use tokio::time::Instant;

use super::{Core, Pending};
use crate::backend::{Failure, How};

impl Core {
    /// When something is due if nobody says anything until then.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let ping = self.pings().map(|interval| self.pinged.unwrap_or(self.heard) + interval);
        // It may become idle without a word of the server.
        let idle = self.policy.idle_stop.map(|idle| self.idle_since().unwrap_or(now) + idle);
        ping.into_iter().chain(idle).min()
    }

    /// After how long it is pinged. One that has not begun has a deadline of its own.
    fn pings(&self) -> Option<Duration> {
        let begins = || self.pending.values().any(|pending| matches!(pending, Pending::Initialize(_)));
        self.policy.ping_interval.filter(|_| self.is_open && !begins())
    }

    /// Since when nobody needs the server, if that is so.
    fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.pending.is_empty()
            && !self.kept.has_subscriptions()
            && (self.kept.initialized || self.stateless)
            && self.has_begun()
            && !self.asked.values().any(|asked| asked.generation == self.generation);
        is_idle.then_some(self.spoken)
    }

    /// What is due now: a ping to send, or why the server does not count as alive any more.
    pub(crate) fn due(&mut self, now: Instant) -> Result<Option<Message>, Failure> {
        if let Some((since, idle)) = self.idle_since().zip(self.policy.idle_stop)
            && now >= since + idle
        {
            return Err(Failure::of(How::Idle, format!("nobody has used the server for {idle:?}")));
        }
        let Some(interval) = self.pings() else { return Ok(None) };
        match self.pinged {
            Some(pinged) if now >= pinged + interval => {
                Err(Failure::of(How::Stuck, format!("the server did not answer a ping within {interval:?}")))
            }
            None if now >= self.heard + interval => {
                let id = self.own_id();
                let ping = Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));

                self.pinged = Some(now);
                Ok(ping.ok())
            }
            _ => Ok(None),
        }
    }
}
