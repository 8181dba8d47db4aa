//! A child process for each session: its start, its two halves, its end.
//!
//! Invariants:
//! - Whoever holds a [`Process`] holds a running child. Dropping it ends the child and whatever the child
//!   started: end of input, then SIGTERM, then SIGKILL, each with its deadline.
//! - All children are started by one thread that lives as long as we do, because the parent-death signal
//!   comes when the thread dies that started the child.

pub(crate) mod command;
mod group;
pub(crate) mod guard;
pub(crate) mod launch;
pub(crate) mod lines;
mod process;
mod stderr;
mod turns;

use std::{process::Stdio, sync::Arc, time::Duration};

use http::request::Parts;
use mcp_sse::{ClientIp, Incoming, Message};
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, ChildStdout},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::command::Command;
use self::{
    group::Group,
    guard::Guard,
    lines::{End, Lines},
    process::Process,
    stderr::Tail,
    turns::{NoTurn, Turns},
};
use super::{Failure, Sink, Source};
use crate::clock;

/// What may still come from a child that has ended, if something that it started holds its pipes open.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The bounds of all children together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Children that run at the same time.
    pub(crate) children: usize,
    /// Starts a second; as many may come at once.
    pub(crate) starts_per_second: u32,
    /// From the start to the answer to `initialize`, waiting for a place included.
    pub(crate) start_timeout: Duration,
    /// What a child gets to end by itself, and again after SIGTERM.
    pub(crate) stop_timeout: Duration,
    /// Bytes of a line on stdout.
    pub(crate) message_bytes: usize,
}

/// All children of this program.
#[derive(Clone, Debug)]
pub(crate) struct Children(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    places: Arc<Semaphore>,
    turns: Turns,
    starter: mpsc::Sender<Start>,
    guard: Guard,
    /// What is still being done for children that nobody holds any more.
    ending: TaskTracker,
    /// No more patience with any of them.
    hurry: CancellationToken,
}

/// A child to be started, and where to put it.
struct Start {
    command: tokio::process::Command,
    reply: oneshot::Sender<std::io::Result<tokio::process::Child>>,
}

/// A running child: its two halves.
pub(crate) struct Running {
    pub(crate) sink: Stdin,
    pub(crate) source: Stdout,
}

impl Children {
    pub(crate) fn new(bounds: Bounds) -> std::io::Result<Self> {
        let (starter, mut starts) = mpsc::channel::<Start>(64);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("starter".into()).spawn(move || {
            let _inside = runtime.enter();
            while let Some(Start { mut command, reply }) = starts.blocking_recv() {
                // If nobody waits for it any more, it goes.
                if let Err(Ok(child)) = reply.send(command.spawn()) {
                    Group::of_child(&child).inspect(|group| group.kill());
                }
            }
        })?;
        let places = Arc::new(Semaphore::new(bounds.children.min(Semaphore::MAX_PERMITS)));
        Ok(Self(Arc::new(Inner {
            bounds,
            turns: Turns::new(Arc::clone(&places), bounds.starts_per_second, bounds.start_timeout),
            places,
            starter,
            guard: Guard::start(),
            ending: TaskTracker::new(),
            hurry: CancellationToken::new(),
        })))
    }

    /// Whether one more could be started now.
    pub(crate) fn has_room(&self) -> bool {
        self.0.places.available_permits() > 0
    }

    /// Waits until every child is gone. To be called when no session is open any more.
    pub(crate) async fn ended(&self) {
        let running = self.0.bounds.children.saturating_sub(self.0.places.available_permits());
        if running > 0 {
            tracing::info!(running, "waiting for servers to end");
        }
        let all = u32::try_from(self.0.bounds.children).unwrap_or(u32::MAX);
        let _ = self.0.places.acquire_many(all).await;
    }

    /// Kills those that are ending; to be followed by [`ended`](Self::ended).
    pub(crate) fn hurry(&self) {
        self.0.hurry.cancel();
    }

    /// How long a child may take from its start to its answer.
    pub(crate) fn start_timeout(&self) -> Duration {
        self.0.bounds.start_timeout
    }

    /// Starts a child for a session. `parts` is the head of its first request.
    pub(crate) async fn start(&self, command: &Command, parts: &Parts) -> Result<Running, Failure> {
        let Bounds { children, start_timeout, message_bytes, .. } = self.0.bounds;
        let deadline = clock::now() + start_timeout;
        let name = command.name();
        let address = parts.extensions.get::<ClientIp>().map(|client| client.network());
        let place = match self.0.turns.take(address, deadline).await {
            Ok(place) => place,
            Err(NoTurn::NoPlace) => {
                tracing::warn!(
                    limit = children,
                    "no server was started: all places are taken; raise --max-sessions if this load is expected"
                );
                return Err(Failure::new(format!(
                    "{children} servers are running, which is the limit; try again later"
                )));
            }
            Err(NoTurn::TooMany) => {
                tracing::warn!(
                    "no server was started: too many start at once; raise --start-rate if this load is expected"
                );
                return Err(Failure::new("too many servers are being started; try again later"));
            }
        };
        let mut prepared = launch::command(&command.program, &command.args);
        command.apply(&mut prepared, parts);
        prepared
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let (reply, started) = oneshot::channel();
        let cannot = |error: &dyn std::fmt::Display| Failure::new(format!("cannot start {name:?}: {error}"));
        let sent = self.0.starter.send(Start { command: prepared, reply }).await;
        let child = match sent {
            Ok(()) => started.await.map_err(|error| cannot(&error))?,
            Err(error) => return Err(cannot(&error)),
        };
        let child = child.map_err(|error| {
            // Of a working directory that is not there it says no more than "not found".
            match command.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
                Some(cwd) => cannot(&format_args!("the working directory {cwd:?} is not there")),
                None => cannot(&error),
            }
        })?;
        let (process, pipes) = Process::new(child, &command.label(), Arc::clone(&self.0), place)
            .map_err(|error| cannot(&error))?;
        let process::Pipes { mut stdin, stdout, stderr } = pipes;
        process.announce().await;
        // If it is gone already, its end says more than this error.
        let _ = launch::go(&mut stdin).await;
        let tail = Tail::default();
        let reading = tokio::spawn({
            let span = tracing::Span::current();
            let tail = tail.clone();
            tracing::Instrument::instrument(async move { stderr::read(stderr, tail).await }, span)
        });
        let stderr = Stderr { reading, tail };
        let stdout = Lines::new("server", stdout, message_bytes);
        Ok(Running { sink: Stdin { stdin }, source: Stdout { stdout, stderr, process, last_words: None } })
    }
}

/// The client's messages, one a line.
pub(crate) struct Stdin {
    stdin: ChildStdin,
}

impl Sink for Stdin {
    async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        let json = incoming.message.into_bytes();
        let closed =
            |error: std::io::Error| Failure::new(format!("the server takes no more input ({error})"));
        // Between the tokens of JSON a line end is a space like others, and inside them there is none.
        if memchr::memchr2(b'\n', b'\r', &json).is_some() {
            let line: Vec<u8> =
                json.iter().map(|&b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }).collect();
            self.stdin.write_all(&line).await.map_err(closed)?;
        } else {
            self.stdin.write_all(&json).await.map_err(closed)?;
        }
        self.stdin.write_all(b"\n").await.map_err(closed)
    }
}

/// The child's messages, and the child.
pub(crate) struct Stdout {
    stdout: Lines<ChildStdout>,
    stderr: Stderr,
    process: Process,
    /// From its end on: until when something may still come.
    last_words: Option<Instant>,
}

struct Stderr {
    reading: tokio::task::JoinHandle<()>,
    tail: Tail,
}

impl Stderr {
    /// The end of what it wrote, if it ends; what is there now, if something holds it open.
    async fn end(&mut self, until: Instant) -> Vec<String> {
        let _ = timeout_at(until, &mut self.reading).await;
        self.tail.lines()
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Source for Stdout {
    async fn recv(&mut self) -> Result<Message, Failure> {
        match self.next().await {
            Ok(message) => Ok(message),
            Err(end) => Err(self.ended(&end).await),
        }
    }

    fn silent(&self, time: Duration) -> Failure {
        let said = said(&self.stderr.tail.lines());
        let text = format!("the server gave no answer within {time:?} after its start{said}");
        tracing::warn!("{text}");
        Failure(text)
    }
}

impl Stdout {
    /// Lines that were no message.
    pub(crate) fn skipped(&self) -> u64 {
        self.stdout.skipped()
    }

    async fn next(&mut self) -> Result<Message, End> {
        tokio::select! {
            biased;
            next = self.stdout.next() => next,
            () = self.process.exited() => {
                // What it wrote before is still to be read; who holds the pipe now will not write more.
                let until = *self.last_words.get_or_insert_with(|| clock::now() + LAST_WORDS);
                timeout_at(until, self.stdout.next()).await.unwrap_or(Err(End::Closed))
            }
        }
    }

    async fn ended(&mut self, end: &End) -> Failure {
        if *end == End::TooLong {
            let text = format!(
                "the server wrote a message of more than {} bytes; raise --max-message-bytes if it should",
                self.process.bounds().message_bytes
            );
            tracing::warn!("{text}");
            return Failure(text);
        }
        // It closed its output, which most do by ending.
        let exited = timeout(LAST_WORDS, self.process.exited()).await.is_ok();
        let until = *self.last_words.get_or_insert_with(|| clock::now() + LAST_WORDS);
        let lines = self.stderr.end(until).await;
        let Some(status) = self.process.status().filter(|_| exited) else {
            return Failure(format!("the server closed its output{}", said(&lines)));
        };
        if status.code() == Some(launch::CANNOT_START)
            && let Some(why) = lines.last().and_then(|line| line.strip_prefix(launch::CANNOT_START_TEXT))
        {
            return Failure(format!("cannot start {why}"));
        }
        Failure(format!("the server ended ({status}){}", said(&lines)))
    }

    /// Ends the child. What it still writes is read and dropped, so that it does not wait for that.
    pub(crate) fn end(self) {
        let Self { stdout, process, stderr, .. } = self;
        process.end(stdout.into_reader(), stderr);
    }
}

/// The end of a child's stderr as a part of a sentence.
fn said(lines: &[String]) -> String {
    match lines {
        [] => "; it wrote nothing to stderr".to_owned(),
        lines => format!("; its stderr ends: {}", lines.join(" | ")),
    }
}
