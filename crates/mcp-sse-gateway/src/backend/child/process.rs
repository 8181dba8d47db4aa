//! A child from its start until all its processes are gone: the gateway's side of its keeper.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net, process::ExitStatusExt as _},
    },
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::OwnedSemaphorePermit,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tracing::Instrument as _;

use super::{
    all::{Bounds, Inner},
    isolation::Lease,
    keeper::{self, Order, Said},
    stderr::Stderr,
};
use crate::clock;

/// How long killed processes may take to be gone. What is left after that is a process that we may not kill.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// More than the longest line that a keeper writes.
const LINE_BYTES: usize = 4096;

/// A running child. Dropping this ends the child and all its descendants.
pub(super) struct Process {
    /// `None` once it is being ended.
    state: Option<State>,
    status: Option<ExitStatus>,
    bounds: Bounds,
}

struct State {
    keeper: Keeper,
    started: Instant,
    all: Arc<Inner>,
    /// Held until the child is gone.
    _place: OwnedSemaphorePermit,
    lease: Lease,
    span: tracing::Span,
    runtime: tokio::runtime::Handle,
}

pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// Our ends of what a keeper is started with.
pub(super) struct Ends {
    control: net::UnixStream,
    stdin: OwnedFd,
}

/// Sets up a keeper's command: its socket, over which the program's stdin is sent, and the program's other pipes.
pub(super) fn connect(command: &mut tokio::process::Command) -> io::Result<Ends> {
    let (control, theirs) = net::UnixStream::pair()?;
    let (reader, writer) = io::pipe()?;
    keeper::hand_over(&control, reader.as_fd())?;
    control.set_nonblocking(true)?;
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(Ends { control, stdin: writer.into() })
}

impl Process {
    /// Waits until the keeper has started the child.
    pub(super) async fn new(
        mut keeper: Child,
        ends: Ends,
        name: &str,
        all: Arc<Inner>,
        place: OwnedSemaphorePermit,
        lease: Lease,
        deadline: Instant,
    ) -> io::Result<(Self, Pipes)> {
        let stdin = ChildStdin::from_std(ends.stdin.into())?;
        let (Some(stdout), Some(stderr)) = (keeper.stdout.take(), keeper.stderr.take()) else {
            return Err(io::Error::other("it has no pipes"));
        };
        let keeper = Keeper {
            pid: keeper.id(),
            process: keeper,
            control: UnixStream::from_std(ends.control)?,
            heard: Vec::new(),
            name: name.to_owned(),
            program: None,
            failed: None,
            exit: None,
            over: false,
        };
        let bounds = all.bounds;
        let state = State {
            keeper,
            started: clock::now(),
            all,
            _place: place,
            lease,
            span: tracing::Span::current(),
            runtime: tokio::runtime::Handle::current(),
        };
        // From here on, dropping `this` ends it: the program may run before the keeper has reported it.
        let mut this = Self { state: Some(state), status: None, bounds };
        let Some(state) = &mut this.state else { return Err(io::ErrorKind::NotFound.into()) };
        timeout_at(deadline, state.keeper.started()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok((this, Pipes { stdin, stdout, stderr }))
    }

    pub(super) fn keeper(&self) -> Option<u32> {
        self.state.as_ref().and_then(|state| state.keeper.pid)
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Resolves when the child has ended. Cancel safe.
    pub(super) async fn exited(&mut self) {
        if self.status.is_none()
            && let Some(state) = &mut self.state
        {
            self.status = Some(state.keeper.exited().await);
        }
    }

    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Ends it; `at_once` does not wait for it to end by itself. Returns a task that is over when it is gone.
    pub(super) fn end(
        mut self,
        stdout: ChildStdout,
        stderr: Stderr,
        at_once: bool,
    ) -> Option<JoinHandle<()>> {
        self.reap(Some((stdout, stderr)), at_once)
    }

    fn reap(&mut self, pipes: Option<(ChildStdout, Stderr)>, at_once: bool) -> Option<JoinHandle<()>> {
        let state = self.state.take()?;
        let (all, span, runtime) = (Arc::clone(&state.all), state.span.clone(), state.runtime.clone());
        // If the runtime is gone, the task is dropped, and with it our end of the socket: the keeper then ends the
        // processes.
        Some(all.ending.spawn_on(state.end(pipes, at_once).instrument(span), &runtime))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.reap(None, false);
    }
}

impl State {
    async fn end(mut self, pipes: Option<(ChildStdout, Stderr)>, at_once: bool) {
        let Self { keeper, all, .. } = &mut self;
        let patience = all.bounds.stop_timeout;
        let by_itself = if at_once { Duration::ZERO } else { patience };
        let hurry = all.hurry.clone();
        let drain = async {
            if let Some((mut stdout, stderr)) = pipes {
                let mut rest = vec![0; 4096];
                while stdout.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                // Held, because dropping it stops the task that reads stderr.
                std::future::pending::<()>().await;
                drop(stderr);
            }
            std::future::pending().await
        };
        let ended = async {
            let mut forced = None;
            // Its stdin is closed already.
            if timeout(by_itself, keeper.exited()).await.is_err() {
                forced = Some("SIGTERM");
                keeper.order(Order::Terminate);
                if timeout(patience, keeper.exited()).await.is_err() {
                    forced = Some("SIGKILL");
                    keeper.order(Order::Kill);
                }
            } else {
                // Descendants that it has left behind.
                keeper.order(Order::Terminate);
            }
            if forced != Some("SIGKILL") && timeout(patience, keeper.gone()).await.is_err() {
                keeper.order(Order::Kill);
            }
            forced
        };
        let forced = tokio::select! {
            forced = ended => forced,
            never = drain => never,
            () = hurry.cancelled() => {
                keeper.order(Order::Kill);
                Some("SIGKILL")
            }
        };
        let gone = timeout(KILL_PATIENCE, keeper.gone()).await.is_ok();
        let status = keeper.exit.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        if let Some(pid) = self.keeper.program {
            let seconds = self.started.elapsed().as_secs_f64();
            tracing::info!(pid, %status, forced, seconds, "server ended");
        }
        if !gone {
            tracing::warn!(
                keeper = self.keeper.pid,
                "processes that this server started could not be killed; its keeper waits for them"
            );
        } else if self.keeper.failed.is_none() && self.keeper.died() {
            tracing::warn!(
                keeper = self.keeper.pid,
                "the keeper of a server was killed; ending the processes that it left"
            );
            self.all.strays.end().await;
        }
        if let Some(pid) = self.keeper.pid {
            self.all.strays.forget(pid);
        }
        self.lease.give_back().await;
    }
}

/// A keeper process.
struct Keeper {
    process: Child,
    pid: Option<u32>,
    control: UnixStream,
    heard: Vec<u8>,
    /// The program's name.
    name: String,
    /// The pid of the program, once the keeper has reported it.
    program: Option<i32>,
    /// Why the program could not be started.
    failed: Option<String>,
    /// The exit status of the program.
    exit: Option<ExitStatus>,
    /// The keeper has ended.
    over: bool,
}

impl Keeper {
    /// The keeper's next line; `None` when it has ended. Cancel safe.
    async fn hear(&mut self) -> Option<Said> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.heard) {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let said = Said::parse(&String::from_utf8_lossy(&line));
                match &said {
                    Some(Said::Started(pid)) => {
                        tracing::info!(pid, command = self.name, "server started");
                        self.program = Some(*pid);
                    }
                    Some(Said::Failed(why)) => self.failed = Some(why.clone()),
                    Some(Said::Exited(_)) | None => {}
                }
                return said;
            }
            if self.heard.len() > LINE_BYTES || self.control.read_buf(&mut self.heard).await.unwrap_or(0) == 0
            {
                return None;
            }
        }
    }

    /// Resolves when the program runs. Cancel safe.
    async fn started(&mut self) -> io::Result<()> {
        match self.hear().await {
            Some(Said::Started(_)) => Ok(()),
            Some(Said::Failed(why)) => Err(io::Error::other(why)),
            Some(Said::Exited(_)) | None => Err(io::Error::other("its keeper ended")),
        }
    }

    /// Resolves when the program has ended. Cancel safe.
    async fn exited(&mut self) -> ExitStatus {
        loop {
            if let Some(exit) = self.exit {
                return exit;
            }
            match self.hear().await {
                Some(Said::Exited(status)) => self.exit = Some(ExitStatus::from_raw(status)),
                Some(_) => {}
                // The keeper was killed, and the program with it.
                None => {
                    let status = self.wait().await;
                    self.exit.get_or_insert(status);
                }
            }
        }
    }

    /// Resolves when the program and all its descendants are gone. Cancel safe.
    async fn gone(&mut self) {
        self.exited().await;
        if !self.over {
            self.wait().await;
        }
    }

    async fn wait(&mut self) -> ExitStatus {
        let status = self.process.wait().await.unwrap_or_default();
        self.over = true;
        status
    }

    /// Whether the keeper did not exit by itself with success.
    fn died(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(Some(status)) if status.success())
    }

    fn order(&self, order: Order) {
        // One byte always fits into the socket's buffer, unless the keeper is gone.
        let _ = self.control.try_write(&[order.byte()]);
    }
}
