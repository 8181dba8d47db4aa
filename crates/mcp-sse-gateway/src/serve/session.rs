//! One session, from the client's first message to the end of its server.

use std::time::Duration;

use mcp_sse::{CloseReason, Incoming, Principal};
use tokio::time::Instant;

use super::{history::History, target::Target};
use crate::{
    backend::{
        Failure, Sink, Source,
        child::{Children, Command, Running},
        greeting::Greeted,
        remote::{self, Remote},
    },
    clock,
    config::Server,
    front::{Receive, Reply},
    relay::{End, relay},
};

/// Runs the session of a server, of which the name in metrics is given, over a transport; returns why it ended.
pub(super) async fn run(
    children: &Children,
    target: &Target,
    mut receiver: impl Receive,
    reply: impl Reply,
    history: &History,
    (server, transport): (&str, &str),
) -> &'static str {
    // The half that is received from may wait for something else than the client.
    let first = tokio::select! {
        biased;
        first = receiver.recv() => first,
        () = reply.closed() => None,
    };
    let Some(first) = first else { return CloseReason::ClientGone.as_str() };
    let principal = first.parts().extensions.get::<Principal>().map(Principal::as_str);
    tracing::info!(server, transport, principal, "session began");
    history.starts();
    let ended = match (&target.server, &target.remote) {
        (Server::Command(command), _) => {
            command_session(children, command, first, &mut receiver, &reply, history).await
        }
        (Server::Remote(_), Some(remote)) => remote_session(remote, first, &mut receiver, &reply).await,
        (Server::Remote(_), None) => Err(Failure::new("there is nothing to connect to")),
    };
    match ended {
        Ok(()) => CloseReason::ClientGone.as_str(),
        Err(failure) => {
            history.failed(&failure);
            CloseReason::AppEnded.as_str()
        }
    }
}

async fn command_session(
    children: &Children,
    command: &Command,
    first: Incoming,
    receiver: &mut impl Receive,
    reply: &impl Reply,
    history: &History,
) -> Result<(), Failure> {
    let until = clock::now() + children.start_timeout();
    let started = tokio::select! {
        started = children.start(command, first.parts()) => started,
        () = reply.closed() => return Ok(()),
    };
    let Running { mut sink, mut source } = match started {
        Ok(running) => running,
        Err(failure) => return fail(reply, failure).await,
    };
    let _runs = history.runs(source.keeper());
    let start = Start { until, timeout: children.start_timeout() };
    let ended = carry(first, receiver, reply, &mut sink, &mut source, start).await;
    if source.skipped() > 0 {
        tracing::warn!(lines = source.skipped(), "the server wrote lines to stdout that were no messages");
    }
    // Closing its stdin tells the server to exit.
    drop(sink);
    source.end();
    ended
}

async fn remote_session(
    remote: &Remote,
    first: Incoming,
    receiver: &mut impl Receive,
    reply: &impl Reply,
) -> Result<(), Failure> {
    let until = clock::now() + remote.start_timeout;
    let opened = tokio::select! {
        opened = remote.open(first.parts()) => opened,
        () = reply.closed() => return Ok(()),
    };
    let (mut sink, mut source) = match opened {
        Ok(halves) => halves,
        Err(failure) => return fail(reply, failure).await,
    };
    tracing::info!(url = remote.name(), "upstream session opened");
    let start = Start { until, timeout: remote.start_timeout };
    let ended = carry(first, receiver, reply, &mut sink, &mut source, start).await;
    remote::end(sink, source).await;
    tracing::info!(url = remote.name(), "upstream session closed");
    ended
}

/// The deadline for the server's answer to `initialize`, and the time between the start and the deadline.
struct Start {
    until: Instant,
    timeout: Duration,
}

/// The one place where a client and its server are connected, whatever their kinds. A layer between them wraps one or
/// both of the server's halves here, as [`Greeted`] does to enforce the deadline.
async fn carry(
    first: Incoming,
    receiver: &mut impl Receive,
    reply: &impl Reply,
    sink: &mut impl Sink,
    source: &mut impl Source,
    start: Start,
) -> Result<(), Failure> {
    let mut source = Greeted::new(source, Some(&first.message), start.until, start.timeout);
    match relay(Some(first), receiver, reply, sink, &mut source).await {
        End::Client => {
            // If the gateway ended the session, the client may still read this.
            reply.fail("the session ended before the answer").await;
            Ok(())
        }
        End::Server(failure) => fail(reply, failure).await,
    }
}

async fn fail(reply: &impl Reply, failure: Failure) -> Result<(), Failure> {
    tracing::warn!("the session ends: {failure}");
    reply.fail(&failure.0).await;
    Err(failure)
}
