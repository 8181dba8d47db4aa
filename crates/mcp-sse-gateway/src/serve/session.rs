//! One session, from the client's first message to the end of its server.

use super::servers::Target;
use crate::{
    backend::{
        Failure, Sink, Source,
        child::{Children, Command, Running},
        remote::Remote,
    },
    config::Server,
    front::{Receive, Reply},
    relay::{End, relay},
};
use mcp_sse::Incoming;

pub(super) async fn run(children: &Children, target: &Target, mut receiver: impl Receive, reply: impl Reply) {
    let Some(first) = receiver.recv().await else { return };
    match (&target.server, &target.remote) {
        (Server::Command(command), _) => {
            command_session(children, command, first, &mut receiver, &reply).await;
        }
        (Server::Remote(_), Some(remote)) => remote_session(remote, first, &mut receiver, &reply).await,
        (Server::Remote(_), None) => {}
    }
}

async fn command_session(
    children: &Children,
    command: &Command,
    first: Incoming,
    receiver: &mut impl Receive,
    reply: &impl Reply,
) {
    let started = tokio::select! {
        started = children.start(command, first.parts()) => started,
        () = reply.closed() => return,
    };
    let Running { mut sink, mut source } = match started {
        Ok(running) => running,
        Err(failure) => return fail(reply, &failure).await,
    };
    carry(first, receiver, reply, &mut sink, &mut source).await;
    if source.skipped() > 0 {
        tracing::warn!(lines = source.skipped(), "the server wrote lines to stdout that were no messages");
    }
    // The end of its input is what tells a server to end.
    drop(sink);
    source.end();
}

async fn remote_session(remote: &Remote, first: Incoming, receiver: &mut impl Receive, reply: &impl Reply) {
    let opened = tokio::select! {
        opened = remote.open(first.parts()) => opened,
        () = reply.closed() => return,
    };
    let (mut sink, mut source) = match opened {
        Ok(halves) => halves,
        Err(failure) => return fail(reply, &failure).await,
    };
    tracing::info!(url = remote.name(), "upstream session opened");
    carry(first, receiver, reply, &mut sink, &mut source).await;
    drop(sink);
    source.end().await;
    tracing::info!(url = remote.name(), "upstream session closed");
}

async fn carry(
    first: Incoming,
    receiver: &mut impl Receive,
    reply: &impl Reply,
    sink: &mut impl Sink,
    source: &mut impl Source,
) {
    match relay(Some(first), receiver, reply, sink, source).await {
        End::Client => {}
        End::Server(failure) => fail(reply, &failure).await,
    }
}

async fn fail(reply: &impl Reply, failure: &Failure) {
    tracing::warn!("the session ends: {failure}");
    reply.fail(&failure.0).await;
}
