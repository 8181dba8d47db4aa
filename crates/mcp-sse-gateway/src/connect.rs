//! `mcp-sse connect`: a stdio MCP server in front of a remote one. If the connection breaks, pending requests get
//! errors, and the session is opened again with the client's own `initialize`; the client notices nothing else.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

use crate::{
    args::{self, Exit},
    backend::remote::{Found, Remote, client},
    bridge::Eras,
    bridged::Bridged,
    front::{Receive, Reply, stdio::stdio},
    message::modern::names_its_version,
    revive::{self, Policy, Restart, Upstream},
    signals::Signals,
};

/// The pause between attempts to reach the server; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the end of a session may take after a signal.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: &args::Connect) -> Result<(), Exit> {
    let remote = Remote {
        url: args.url().map_err(Exit::Usage)?,
        kind: args.transport,
        headers: args.headers().map_err(Exit::Usage)?,
        headers_from_client: Vec::new(),
        client: client(&args.tls()).map_err(Exit::Usage)?,
        message_bytes: args.max_message_bytes,
        requests_in_flight: 256,
        start_timeout: args.start_timeout,
        found: Found::default(),
    };
    let mut signals =
        Signals::new().map_err(|error| Exit::Usage(format!("cannot wait for signals: {error}")))?;
    let policy = Policy {
        restart: Restart::Always,
        start_timeout: args.start_timeout,
        first_pause: FIRST_PAUSE,
        longest_pause: LONGEST_PAUSE,
        attempts: None,
        longest_away: None,
        ping_interval: None,
        idle_stop: None,
        revive: false,
        keeps_heads: false,
    };
    let eras = Eras::new(args.era);
    let (mut receiver, reply) = stdio(args.max_message_bytes);
    {
        let mut bridge = pin!(bridge(&remote, &eras, policy, &mut receiver, &reply));
        tokio::select! {
            () = &mut bridge => {}
            () = signals.next() => {
                // Leaves time to tell the server.
                reply.close();
                tokio::select! {
                    _ = timeout(LAST_PATIENCE, bridge) => {}
                    () = signals.next() => {}
                }
            }
        }
    }
    if receiver.has_failed() { Err(Exit::Failed) } else { Ok(()) }
}

async fn bridge(
    remote: &Remote,
    eras: &Eras,
    policy: Policy,
    receiver: &mut impl Receive,
    reply: &impl Reply,
) {
    loop {
        let first = tokio::select! {
            first = receiver.recv() => first,
            () = reply.closed() => None,
        };
        let Some(first) = first else { return };
        let is_modern = names_its_version(&first.message);
        let mut sessions = Bridged::new(Upstream(remote), eras, policy.start_timeout, is_modern);
        // Ends before the client only if the client has not begun; then its next message begins again.
        if revive::run(
            &mut sessions,
            policy,
            revive::Begin::First(Box::new(first)),
            receiver,
            reply,
            |_| {},
            false,
        )
        .await
        .is_ok()
        {
            return;
        }
    }
}
