//! One session, from the client's first message to the end of its server.

use http::request::Parts;
use mcp_sse::{CloseReason, Message, Principal};
use tokio::task::JoinHandle;

use super::{
    history::{History, Runs},
    target::Target,
};
use crate::{
    backend::{
        Backend, Failure, How,
        child::{Children, Command, Running, Stdin, Stdout},
    },
    bridged::Bridged,
    config::Server,
    front::{Receive, Reply},
    revive::{self, Begin, Event, Policy, Upstream},
};

/// How a session has begun.
#[derive(Debug)]
pub(super) enum Begun {
    /// It begins now, and stays until it ends.
    Now,
    /// The same, and when its server is not needed it may rest.
    AndMayRest,
    /// It has rested with this state, and may rest again.
    Before(String),
}

/// What has become of it.
#[derive(Debug)]
pub(super) enum Over {
    /// It has ended, for this reason.
    Ended(&'static str),
    /// It rests until there is a message, with this state.
    Resting(String),
}

/// Runs the session of a server, of which the name in metrics is given, over a transport; returns why it ended.
pub(super) async fn run(
    children: &Children,
    target: &Target,
    mut receiver: impl Receive,
    reply: impl Reply,
    history: &History,
    policy: Policy,
    (server, transport, begun): (&str, &str, Begun),
) -> Over {
    let may_rest = !matches!(begun, Begun::Now);
    let revived = match begun {
        Begun::Before(_) => None,
        Begun::Now | Begun::AndMayRest => reply.revived(),
    };
    let begin = match revived {
        Some((state, parts)) => Begin::Revived(Box::new((state.to_owned(), parts.clone()))),
        None => {
            // The half that is received from may wait for something else than the client.
            let first = tokio::select! {
                biased;
                first = receiver.recv() => first,
                () = reply.closed() => None,
            };
            let Some(first) = first else { return Over::Ended(CloseReason::ClientGone.as_str()) };
            match begun {
                Begun::Before(state) => Begin::Woken(Box::new((state, first))),
                Begun::Now | Begun::AndMayRest => Begin::First(Box::new(first)),
            }
        }
    };
    let principal = begin.parts().extensions.get::<Principal>().map(Principal::as_str);
    match &begin {
        Begin::First(_) => tracing::info!(server, transport, principal, "session began"),
        Begin::Revived(_) => tracing::info!(server, transport, principal, "session goes on here"),
        Begin::Woken(_) => {}
    }
    let tell = |event: Event<'_>| match event {
        Event::Starts => history.starts(),
        Event::Dies(failure) => history.failed(failure),
        Event::Revived => history.revived(),
    };

    // Each has a place of its own, so that a session takes no more than it needs.
    let ended = match (&target.server, &target.remote) {
        (Server::Command(command), _) => {
            let programs = Programs { children, command, history, runs: None, ending: None };
            let mut programs = Bridged::new(programs, &target.eras, policy.start_timeout, begin.is_modern());
            let run = revive::run(&mut programs, policy, begin, &mut receiver, &reply, tell, may_rest);
            let ended = Box::pin(run).await;
            if let (Ok(revive::Over::Resting(_)), Some(ending)) = (&ended, programs.inner().ending.take()) {
                // As before the next one.
                let _ = ending.await;
            }
            ended
        }
        (Server::Remote(_), Some(remote)) => {
            let is_modern = begin.is_modern();
            let mut upstream = Bridged::new(Upstream(remote), &target.eras, policy.start_timeout, is_modern);
            Box::pin(revive::run(&mut upstream, policy, begin, &mut receiver, &reply, tell, may_rest)).await
        }
        (Server::Remote(_), None) => Err(Failure::new("there is nothing to connect to")),
    };
    match ended {
        Ok(revive::Over::Resting(state)) => Over::Resting(state),
        Ok(revive::Over::Gone) => Over::Ended(CloseReason::ClientGone.as_str()),
        Err(_) => Over::Ended(CloseReason::AppEnded.as_str()),
    }
}

/// Programs of a session, one after another.
struct Programs<'a> {
    children: &'a Children,
    command: &'a Command,
    history: &'a History,
    /// The one that runs now.
    runs: Option<Runs<'a>>,
    /// Over when the one before is gone.
    ending: Option<JoinHandle<()>>,
}

impl Backend for Programs<'_> {
    type Sink = Stdin;
    type Source = Stdout;

    async fn open(&mut self, head: &Parts) -> Result<(Stdin, Stdout), Failure> {
        // It may hold what the next one needs: a port, a lock, a profile.
        if let Some(ending) = self.ending.take() {
            let _ = ending.await;
        }
        let Running { sink, source } = self.children.start(self.command, head).await?;
        self.runs = Some(self.history.runs(source.keeper()));
        Ok((sink, source))
    }

    async fn untaken(&mut self, _: &mut Stdin, _: &mut Stdout) -> Vec<Message> {
        // What a program has read of its input nobody knows.
        Vec::new()
    }

    async fn close(&mut self, sink: Stdin, source: Stdout, how: How) {
        if source.skipped() > 0 {
            tracing::warn!(
                lines = source.skipped(),
                "the server wrote lines to stdout that were no messages"
            );
        }
        // Closing its stdin tells the server to exit.
        drop(sink);
        self.ending = source.end(how == How::Stuck);
        self.runs = None;
    }
}
