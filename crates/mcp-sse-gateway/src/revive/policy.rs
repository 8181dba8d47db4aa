//! When a server is started again, and how often that is tried.

use std::time::Duration;

use crate::backend::How;

/// When a server is started again after it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    /// Never: its session ends with it
    Never,
    /// When it has failed: not when it has ended by itself with exit status 0
    #[default]
    OnFailure,
    /// Whenever it has ended
    Always,
}

/// What is set for one server, instead of what is set for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) restart: Option<Restart>,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) idle_stop: Option<Duration>,
    /// Whether another replica may revive its sessions.
    pub(crate) revive: Option<bool>,
}

impl Keep {
    /// With what is set for all where nothing is set for the server.
    pub(crate) fn or(self, all: Self) -> Self {
        Self {
            restart: self.restart.or(all.restart),
            ping_interval: self.ping_interval.or(all.ping_interval),
            idle_stop: self.idle_stop.or(all.idle_stop),
            revive: self.revive.or(all.revive),
        }
    }

    /// The policy, or why there cannot be one.
    pub(crate) fn policy(self, start_timeout: Duration, keeps_heads: bool) -> Result<Policy, String> {
        let Self { restart, ping_interval, idle_stop, revive } = self;
        let (restart, revive) = (restart.unwrap_or_default(), revive.unwrap_or_default());
        if revive && restart == Restart::Never {
            return Err(
                "sessions of a server that is never started again cannot be revived (revive, restart)"
                    .to_owned(),
            );
        }
        if idle_stop.is_some() && restart == Restart::Never {
            return Err(
                "a server that is never started again cannot be ended when it is idle (idle-stop, restart)"
                    .to_owned(),
            );
        }
        if [ping_interval, idle_stop].into_iter().flatten().any(|time| time.is_zero() || time > LONGEST) {
            return Err(
                "the ping interval and the time for idle-stop must be more than zero, and at most a year"
                    .to_owned(),
            );
        }
        Ok(Policy {
            restart,
            start_timeout,
            first_pause: Policy::FIRST_PAUSE,
            longest_pause: Policy::LONGEST_PAUSE,
            attempts: Some(Policy::ATTEMPTS),
            longest_away: Some(Policy::LONGEST_AWAY),
            ping_interval,
            idle_stop,
            revive,
            keeps_heads,
        })
    }
}

/// How one server is kept alive for its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    /// How long a start may take, to the answer to `initialize`; and a request may wait for a server that is away.
    pub(crate) start_timeout: Duration,
    /// The pause before the first attempt; doubled each time.
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    /// How many servers in a row may die before they were asked anything; `None`: any number.
    pub(crate) attempts: Option<u32>,
    /// How long a server may be away; `None`: for ever.
    pub(crate) longest_away: Option<Duration>,
    /// How long the server may say nothing before it is pinged; and how long it may take to answer.
    pub(crate) ping_interval: Option<Duration>,
    /// After how long without a message of its client a server is ended until there is one.
    pub(crate) idle_stop: Option<Duration>,
    /// Whether another replica may revive its sessions, so that they are kept for it.
    pub(crate) revive: bool,
    /// Whether the server gets headers of its client, of which the last ones count.
    pub(crate) keeps_heads: bool,
}

/// The longest time that can be set.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A server that lives for so long is not one that dies again and again.
pub(super) const STABLE: Duration = Duration::from_secs(60);
/// Nor is one that nobody has asked anything, if it has lived for so long after it has begun.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// How many attempts may fail before a client has begun, which does not wait for long.
pub(super) const FIRST_ATTEMPTS: u32 = 3;

impl Policy {
    const FIRST_PAUSE: Duration = Duration::from_millis(100);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);
    const ATTEMPTS: u32 = 5;
    const LONGEST_AWAY: Duration = Duration::from_secs(5 * 60);

    /// Whether a server that has ended like this is started again, for a client that has begun or not.
    pub(super) fn restarts(&self, how: How, begun: bool) -> bool {
        match (self.restart, how) {
            (_, How::Idle | How::OtherEra)
            | (Restart::OnFailure | Restart::Always, How::Failed | How::Stuck)
            | (Restart::Always, How::Ended) => true,
            (Restart::OnFailure | Restart::Always, How::NotStarted | How::Busy) => begun,
            (Restart::Never | Restart::OnFailure, _) | (_, How::Impossible) => false,
        }
    }

    /// The pause before another attempt, after so many that have failed in a row.
    pub(super) fn pause(&self, failed: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(2_u32.saturating_pow(failed.min(16)));
        doubled.min(self.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let policy = Keep::default().policy(Duration::from_secs(60), false).unwrap();
        let pauses: Vec<_> = (0..9).map(|failed| policy.pause(failed).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(policy.pause(u32::MAX), Policy::LONGEST_PAUSE);
    }
}
