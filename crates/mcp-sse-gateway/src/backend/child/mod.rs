//! A child process for each session: its start, its two halves, its end.
//!
//! Invariants:
//! - Whoever holds a [`Process`] holds a running child. Dropping it ends the child and whatever the child
//!   started: end of input, then SIGTERM, then SIGKILL, each with its deadline.
//! - Between us and each child stands its keeper, which outlives us if need be. We have no other children.

mod all;
pub(crate) mod command;
mod descendants;
pub(crate) mod isolation;
pub(crate) mod keeper;
pub(crate) mod launch;
pub(crate) mod memory;
mod process;
mod stderr;
mod strays;
mod turns;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use mcp_sse::{ClientIp, Incoming, Message};
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, ChildStdout},
    sync::{Mutex, Semaphore, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{all::Bounds, command::Command};
use self::{
    all::{Inner, Start},
    isolation::Apart,
    process::Process,
    stderr::{Stderr, Tail},
    strays::Strays,
    turns::{NoTurn, Turns},
};
use super::{Failure, How, Sink, Source};
use crate::{
    clock,
    message::{
        lines::{End, Lines, Read},
        oversized::{self, Instead},
    },
};

/// Answers to a child's requests over the limit that wait for it to read; further ones are not answered.
const REFUSALS: usize = 8;
/// What may still come from a child that has ended, if something that it started holds its pipes open.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// All children of this program.
#[derive(Clone, Debug)]
pub(crate) struct Children(Arc<Inner>);

/// A running child: its two halves.
pub(crate) struct Running {
    pub(crate) sink: Stdin,
    pub(crate) source: Stdout,
}

impl Children {
    pub(crate) fn new(bounds: Bounds) -> std::io::Result<Self> {
        let (starter, mut starts) = mpsc::channel::<Start>(64);
        let runtime = tokio::runtime::Handle::current();
        let strays = Arc::new(Strays::take_in());
        let known = Arc::clone(&strays);
        std::thread::Builder::new().name("starter".into()).spawn(move || {
            let _inside = runtime.enter();
            while let Some(Start { command, reply }) = starts.blocking_recv() {
                let keeper = known.start(command);
                // If nobody waits for it any more, the program is at its end, and with it the keeper.
                let _ = reply.send(keeper);
            }
        })?;
        let places = Arc::new(Semaphore::new(bounds.children.min(Semaphore::MAX_PERMITS)));
        Ok(Self(Arc::new(Inner {
            bounds,
            turns: Turns::new(Arc::clone(&places), bounds.starts_per_second, bounds.start_timeout),
            places,
            starter,
            apart: Apart::new(bounds.users, Arc::clone(&strays)),
            strays,
            ending: TaskTracker::new(),
            hurry: CancellationToken::new(),
        })))
    }

    /// Whether one more could be started now.
    pub(crate) fn has_room(&self) -> bool {
        self.0.places.available_permits() > 0
    }

    /// How many there are, with those that are ending, and how many wait to be started.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let running = self.0.bounds.children.saturating_sub(self.0.places.available_permits());
        (running, self.0.turns.waiting())
    }

    /// Waits until every child is gone. To be called when no session is open any more.
    pub(crate) async fn ended(&self) {
        let running = self.0.bounds.children.saturating_sub(self.0.places.available_permits());
        if running > 0 {
            tracing::info!(running, "waiting for servers to end");
        }
        let all = u32::try_from(self.0.bounds.children).unwrap_or(u32::MAX);
        let _ = self.0.places.acquire_many(all).await;
        self.0.apart.close();
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
                return Err(busy(format!(
                    "{children} servers are running, which is the limit; try again later"
                )));
            }
            Err(NoTurn::TooMany) => {
                tracing::warn!(
                    "no server was started: too many start at once; raise --start-rate if this load is expected"
                );
                return Err(busy("too many servers are being started; try again later"));
            }
        };
        let cannot = |error: &dyn std::fmt::Display| not_started(format!("cannot start {name:?}: {error}"));
        let lease = self.0.apart.lease(command, deadline).await.map_err(|error| {
            tracing::warn!("no server was started: {error}");
            cannot(&error)
        })?;
        let prepared = launch::command(&command.program, &command.args, &lease);
        let mut prepared = prepared.map_err(|error| cannot(&error))?;
        command.apply(&mut prepared, parts);
        lease.apply(command, &mut prepared);
        // The terminal's Ctrl-C is for us.
        prepared.process_group(0);
        let ends = process::connect(&mut prepared).map_err(|error| cannot(&error))?;
        let (label, cwd, all) = (command.label(), command.cwd.clone(), Arc::clone(&self.0));
        // Whoever waits for it may go at any time. What the child has of us stays taken until it is gone.
        let starting = async move {
            let (reply, started) = oneshot::channel();
            let sent = all.starter.send(Start { command: prepared, reply }).await;
            let keeper = match sent {
                Ok(()) => started.await.map_err(|error| error.to_string())?,
                Err(error) => return Err(error.to_string()),
            };
            let keeper = keeper.map_err(|error| {
                // Of a working directory that is not there it says no more than "not found".
                match cwd.filter(|cwd| !cwd.is_dir()) {
                    Some(cwd) => format!("the working directory {cwd:?} is not there"),
                    None => error.to_string(),
                }
            })?;
            let process = Process::new(keeper, ends, &label, Arc::clone(&all), place, lease, deadline).await;
            process.map_err(|error| error.to_string())
        };
        let starting = tracing::Instrument::instrument(starting, tracing::Span::current());
        let process = self.0.ending.spawn(starting).await.unwrap_or_else(|error| Err(error.to_string()));
        let (process, pipes) = process.map_err(|error| cannot(&error))?;
        let process::Pipes { stdin, stdout, stderr } = pipes;
        let tail = Tail::default();
        let reading = tokio::spawn({
            let span = tracing::Span::current();
            let tail = tail.clone();
            tracing::Instrument::instrument(async move { stderr::read(stderr, tail).await }, span)
        });
        let stderr = Stderr { reading, tail };
        let stdout = Lines::new("server", stdout, message_bytes);
        let stdin = Arc::new(Mutex::new(stdin));
        Ok(Running {
            sink: Stdin { stdin: Arc::clone(&stdin) },
            source: Stdout {
                stdout,
                instead: VecDeque::new(),
                stdin,
                refusals: JoinSet::new(),
                stderr,
                process,
                last_words: None,
            },
        })
    }
}

fn busy(text: impl Into<String>) -> Failure {
    Failure::of(How::Busy, text)
}

fn not_started(text: impl Into<String>) -> Failure {
    Failure::of(How::NotStarted, text)
}

/// The client's messages, one a line.
pub(crate) struct Stdin {
    /// Shared with those who refuse the child's messages. A line is written whole.
    stdin: Arc<Mutex<ChildStdin>>,
}

impl Sink for Stdin {
    const AT_ONCE: usize = 64 * 1024;

    async fn send(&mut self, incoming: Incoming) -> Result<(), Failure> {
        self.send_all(vec![incoming]).await
    }

    async fn send_all(&mut self, incoming: Vec<Incoming>) -> Result<(), Failure> {
        let written = write(&self.stdin, incoming.into_iter().map(|incoming| incoming.message)).await;
        written.map_err(|error| Failure::new(format!("the server takes no more input ({error})")))
    }
}

/// In one write as far as that goes: each one may wake the child, and half a line wakes it for nothing.
async fn write(
    stdin: &Mutex<ChildStdin>,
    messages: impl IntoIterator<Item = Message>,
) -> std::io::Result<()> {
    let mut stdin = stdin.lock().await;
    let mut lines = BytesMut::new();
    for message in messages {
        let json = on_one_line(message.into_bytes());
        if json.len() > Stdin::AT_ONCE {
            // Not copied.
            stdin.write_all_buf(&mut lines.split()).await?;
            stdin.write_all_buf(&mut json.chain(&b"\n"[..])).await?;
        } else {
            lines.reserve(json.len() + 1);
            lines.put(json);
            lines.put_u8(b'\n');
        }
    }
    stdin.write_all_buf(&mut lines).await
}

/// Between the tokens of JSON a line end is a space like others, and inside them there is none.
fn on_one_line(json: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &json).is_none() {
        return json;
    }
    json.iter().map(|&b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }).collect()
}

/// The child's messages, and the child.
pub(crate) struct Stdout {
    stdout: Lines<ChildStdout>,
    /// What stands in the place of messages over the limit.
    instead: VecDeque<Message>,
    stdin: Arc<Mutex<ChildStdin>>,
    /// Answers to requests over the limit. They end with the source, so that the child's input does.
    refusals: JoinSet<()>,
    stderr: Stderr,
    process: Process,
    /// From its end on: until when something may still come.
    last_words: Option<Instant>,
}

impl Source for Stdout {
    async fn recv(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.instead.pop_front() {
                return Ok(message);
            }
            match self.next().await {
                Ok(Read::Message(message)) => return Ok(message),
                Ok(Read::Oversized(message)) => {
                    let Instead { forward, back } =
                        message.instead("server", self.process.bounds().message_bytes);
                    self.instead = forward.into();
                    self.refuse(back);
                }
                Err(end) => return Err(self.ended(&end).await),
            }
        }
    }

    fn silent(&self, time: Duration) -> Failure {
        let said = self.said(&self.stderr.tail.lines());
        let text = format!("the server gave no answer within {time:?} after its start{said}");
        tracing::warn!("{text}");
        not_started(text)
    }
}

impl Stdout {
    /// Lines that were no message.
    pub(crate) fn skipped(&self) -> u64 {
        self.stdout.skipped()
    }

    /// The process that keeps the child.
    pub(crate) fn keeper(&self) -> Option<u32> {
        self.process.keeper()
    }

    fn refuse(&mut self, answers: Vec<Message>) {
        while self.refusals.try_join_next().is_some() {}
        for answer in answers {
            if self.refusals.len() >= REFUSALS {
                return;
            }
            let stdin = Arc::clone(&self.stdin);
            // One that does not read must not stop what it writes.
            self.refusals.spawn(async move { drop(write(&stdin, [answer]).await) });
        }
    }

    async fn next(&mut self) -> Result<Read, End> {
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
        if *end == End::Endless {
            let bytes = oversized::endless(self.process.bounds().message_bytes);
            return Failure::new(format!(
                "the server wrote more than {bytes} bytes without the end of a line"
            ));
        }
        if *end == End::Flood {
            return Failure::of(
                How::Impossible,
                "the server writes a great many lines that are not messages to stdout, and nothing else; what is not for the client belongs on stderr",
            );
        }
        // It closed its output, which most do by ending.
        let exited = timeout(LAST_WORDS, self.process.exited()).await.is_ok();
        let until = *self.last_words.get_or_insert_with(|| clock::now() + LAST_WORDS);
        let lines = self.stderr.end(until).await;
        let Some(status) = self.process.status().filter(|_| exited) else {
            return Failure::new(format!("the server closed its output{}", self.said(&lines)));
        };
        if status.code() == Some(launch::CANNOT_START)
            && let Some(why) = lines.last().and_then(|line| line.strip_prefix(launch::CANNOT_START_TEXT))
        {
            if !self.process.bounds().stderr_to_client {
                tracing::warn!("cannot start {why}");
                return not_started("the server could not be started; see this gateway's log");
            }
            return not_started(format!("cannot start {why}"));
        }
        let how = if status.success() { How::Ended } else { How::Failed };
        Failure::of(how, format!("the server ended ({status}){}", self.said(&lines)))
    }

    /// The end of a child's stderr as a part of a sentence; or where that is, if it is not for clients.
    fn said(&self, lines: &[String]) -> String {
        match lines {
            [] => "; it wrote nothing to stderr".to_owned(),
            lines if self.process.bounds().stderr_to_client => {
                format!("; its stderr ends: {}", lines.join(" | "))
            }
            _ => "; what it wrote to stderr is in this gateway's log".to_owned(),
        }
    }

    /// Ends the child. What it still writes is read and dropped, so that it does not wait for that.
    /// Returns a task that is over when the child is gone; `at_once` does not wait for it to end by itself.
    pub(crate) fn end(self, at_once: bool) -> Option<JoinHandle<()>> {
        let Self { stdout, process, stderr, .. } = self;
        process.end(stdout.into_reader(), stderr, at_once)
    }
}
