//! `mcp-sse connect`: a stdio MCP server in front of a remote one. If the connection breaks, pending requests get
//! errors, and the session is opened again with the client's own `initialize`; the client notices nothing else.

use std::{pin::pin, time::Duration};

use mcp_sse::{Incoming, Message, MessageKind};
use tokio::time::timeout;

use crate::{
    args::{self, Exit},
    backend::{
        Failure, Sink, Source,
        greeting::Greeted,
        remote::{self, Found, Remote, RemoteSink, RemoteSource, client},
    },
    clock,
    front::{Gone, Receive, Reply, stdio::stdio},
    relay::{End, relay},
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
    let (receiver, reply) = stdio(args.max_message_bytes);
    let mut client = Client { inner: receiver, handshake: Handshake::default() };
    {
        let mut bridge = pin!(bridge(&remote, &mut client, &reply));
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
    if client.inner.has_failed() { Err(Exit::Failed) } else { Ok(()) }
}

/// The messages with which the client opened its session.
#[derive(Default)]
struct Handshake {
    initialize: Option<Incoming>,
    initialized: Option<Incoming>,
}

/// The client's messages; remembers the handshake.
struct Client<R> {
    inner: R,
    handshake: Handshake,
}

impl<R: Receive> Receive for Client<R> {
    async fn recv(&mut self) -> Option<Incoming> {
        let incoming = self.inner.recv().await?;
        match incoming.message.method() {
            Some("initialize") => {
                self.handshake = Handshake { initialize: Some(incoming.clone()), initialized: None };
            }
            Some("notifications/initialized") => self.handshake.initialized = Some(incoming.clone()),
            _ => {}
        }
        Some(incoming)
    }
}

async fn bridge(remote: &Remote, client: &mut Client<impl Receive>, reply: &impl Reply) {
    let mut pause = FIRST_PAUSE;
    let mut broken = false;
    loop {
        // After a break, the session is reopened even if the client sends nothing, since the server may have messages
        // for it. Until the client has opened its first session, only the client's messages start one.
        let pause_or_ever =
            if broken && client.handshake.initialized.is_some() { pause } else { Duration::MAX };
        let first = tokio::select! {
            first = timeout(pause_or_ever, client.recv()) => match first {
                Ok(Some(incoming)) => Some(incoming),
                Ok(None) => return,
                Err(_) => None,
            },
            () = reply.closed() => return,
        };
        let ended = match session(remote, client, reply, first).await {
            Ok(End::Client) => return,
            Ok(End::Server(failure)) => {
                pause = FIRST_PAUSE;
                failure
            }
            Err(failure) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                failure
            }
        };
        broken = true;
        tracing::warn!("{failure}; trying again", failure = ended);
        reply.fail(&ended.0).await;
    }
}

/// Runs one session with the server; an error if it could not be opened.
async fn session(
    remote: &Remote,
    client: &mut Client<impl Receive>,
    reply: &impl Reply,
    first: Option<Incoming>,
) -> Result<End, Failure> {
    let until = clock::now() + remote.start_timeout;
    let head = http::Request::new(()).into_parts().0;
    let (mut sink, mut source) = tokio::select! {
        opened = remote.open(&head) => opened?,
        () = reply.closed() => return Ok(End::Client),
    };
    let begins = first.as_ref().is_some_and(|first| first.message.method() == Some("initialize"));
    let begun_before = !begins && client.handshake.initialize.is_some();
    if begun_before {
        let again = again(&client.handshake, &mut sink, &mut source, reply);
        let again = async {
            let slow = || Failure::new("the server did not answer initialize in time");
            timeout(remote.start_timeout, again).await.map_err(|_| slow())?
        };
        tokio::select! {
            again = again => again?,
            () = reply.closed() => return Ok(End::Client),
        }
        tracing::info!(url = remote.name(), "session opened again");
    } else {
        tracing::info!(url = remote.name(), "session opened");
    }
    // If the server has just answered the repeated `initialize`, there is no further deadline.
    let said = first.as_ref().filter(|_| !begun_before).map(|first| first.message.clone());
    let mut greeted = Greeted::new(&mut source, said.as_ref(), until, remote.start_timeout);
    let end = relay(first, client, reply, &mut sink, &mut greeted).await;
    remote::end(sink, source).await;
    Ok(end)
}

/// Repeats the handshake, for a client that already has a session.
async fn again(
    handshake: &Handshake,
    sink: &mut RemoteSink,
    source: &mut RemoteSource,
    reply: &impl Reply,
) -> Result<(), Failure> {
    let Some(initialize) = &handshake.initialize else { return Ok(()) };
    sink.send(initialize.clone()).await?;
    let wanted = initialize.message.id();
    loop {
        let message: Message = source.recv().await?;
        match message.kind() {
            // Not passed on: the client has the answer to its own `initialize`.
            MessageKind::Response { id, is_error } if id.as_ref() == wanted => {
                if *is_error {
                    source.greeted(false);
                    // Truncated, since every pending request gets it.
                    let said: String = message.as_str().chars().take(1_000).collect();
                    return Err(Failure::new(format!("the server refused initialize: {said}")));
                }
                source.greeted(true);
                break;
            }
            _ => reply.send(message).await.map_err(|Gone| Failure::new("the client is gone"))?,
        }
    }
    if let Some(initialized) = &handshake.initialized {
        sink.send(initialized.clone()).await?;
    }
    Ok(())
}
