//! All limits and timeouts of a transport, with their defaults. Their ranges and costs are documented at the
//! setters of [`Builder`](crate::Builder).

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How long sessions go on after their clients' grants have expired.
pub(crate) const GRACE: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_sessions: usize,
    pub(crate) max_sessions_per_principal: usize,
    pub(crate) max_sessions_per_address: usize,
    pub(crate) sessions_per_second_per_address: u32,
    /// `None`: silent sessions count with the others.
    pub(crate) max_silent_sessions: Option<usize>,
    pub(crate) silent_grace: Duration,
    pub(crate) body_bytes: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) queue_timeout: Duration,
    pub(crate) inbound_messages: usize,
    pub(crate) inbound_bytes: usize,
    /// With this many messages waiting for its app, a session's next message waits for its turn.
    pub(crate) inbound_turn: usize,
    pub(crate) in_flight_requests: usize,
    pub(crate) in_flight_bytes: usize,
    /// Cancelled requests that the app may still be working on.
    pub(crate) cancelled_requests: usize,
    pub(crate) outbound_messages: usize,
    pub(crate) outbound_bytes: usize,
    pub(crate) backlog_messages: usize,
    pub(crate) backlog_bytes: usize,
    pub(crate) outbound_message_bytes: usize,
    pub(crate) replay_events: usize,
    pub(crate) replay_bytes: usize,
    pub(crate) resume_window: Duration,
    pub(crate) reconnect_delay: Duration,
    /// `None`: no keep-alive.
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) stall_timeout: Duration,
    pub(crate) app_grace: Duration,
    pub(crate) shutdown_spread: Duration,
    pub(crate) synthesize_initialize: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            max_sessions_per_principal: 1_000,
            max_sessions_per_address: 1_000,
            sessions_per_second_per_address: 50,
            max_silent_sessions: None,
            silent_grace: Duration::from_secs(5),
            body_bytes: 4 * MIB,
            body_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(1),
            inbound_messages: 256,
            inbound_bytes: MIB,
            inbound_turn: 16,
            in_flight_requests: 256,
            in_flight_bytes: MIB,
            cancelled_requests: 256,
            outbound_messages: 1_024,
            outbound_bytes: 512 * KIB,
            backlog_messages: 1_024,
            backlog_bytes: 16 * MIB,
            outbound_message_bytes: 16 * MIB,
            replay_events: 1_024,
            replay_bytes: 256 * KIB,
            resume_window: Duration::from_secs(30),
            reconnect_delay: Duration::from_secs(1),
            keep_alive: Some(Duration::from_secs(15)),
            stall_timeout: Duration::from_secs(30),
            app_grace: Duration::from_secs(30),
            shutdown_spread: Duration::from_secs(1),
            synthesize_initialize: true,
        }
    }
}

impl Limits {
    pub(crate) fn resumes(&self) -> bool {
        !self.resume_window.is_zero()
    }
}
