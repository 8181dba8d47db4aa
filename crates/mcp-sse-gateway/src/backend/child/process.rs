//! A child from its start until it is reaped.

use std::{io, process::ExitStatus, sync::Arc};

use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tracing::Instrument as _;

use super::{Bounds, Inner, Stderr, group::Group, isolation::Lease};
use crate::clock;

/// A running child. Dropping it ends it.
pub(super) struct Process {
    /// Until it is ended.
    state: Option<State>,
    status: Option<ExitStatus>,
    bounds: Bounds,
}

struct State {
    child: Child,
    group: Group,
    started: Instant,
    all: Arc<Inner>,
    /// Until the child is gone.
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

impl Process {
    pub(super) fn new(
        mut child: Child,
        name: &str,
        all: Arc<Inner>,
        place: OwnedSemaphorePermit,
        lease: Lease,
    ) -> io::Result<(Self, Pipes)> {
        let group = Group::of_child(&child);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(group), (Some(stdin), Some(stdout), Some(stderr))) = (group, pipes) else {
            return Err(io::Error::other("it has no pipes"));
        };
        tracing::info!(pid = %group, command = name, "server started");
        let bounds = all.bounds;
        let state = State {
            child,
            group,
            started: clock::now(),
            all,
            _place: place,
            lease,
            span: tracing::Span::current(),
            runtime: tokio::runtime::Handle::current(),
        };
        Ok((Self { state: Some(state), status: None, bounds }, Pipes { stdin, stdout, stderr }))
    }

    /// Lets the guard know.
    pub(super) async fn announce(&self) {
        if let Some(state) = &self.state {
            state.all.guard.born(state.group).await;
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Resolves when the child has ended. Cancel safe.
    pub(super) async fn exited(&mut self) {
        if self.status.is_none()
            && let Some(state) = &mut self.state
        {
            self.status = state.child.wait().await.ok();
        }
    }

    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    pub(super) fn end(mut self, stdout: ChildStdout, stderr: Stderr) {
        self.reap(Some((stdout, stderr)));
    }

    fn reap(&mut self, pipes: Option<(ChildStdout, Stderr)>) {
        let Some(state) = self.state.take() else { return };
        let (all, span, runtime) = (Arc::clone(&state.all), state.span.clone(), state.runtime.clone());
        // If the runtime is gone, so is the task, and with it the child (`kill_on_drop`).
        all.ending.spawn_on(state.end(pipes).instrument(span), &runtime);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap(None);
    }
}

impl State {
    async fn end(mut self, pipes: Option<(ChildStdout, Stderr)>) {
        let Self { child, group, all, .. } = &mut self;
        let (group, patience) = (*group, all.bounds.stop_timeout);
        let hurry = all.hurry.clone();
        let drain = async {
            if let Some((mut stdout, stderr)) = pipes {
                let mut rest = vec![0; 4096];
                while stdout.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                // It is read by its own task until it is dropped.
                std::future::pending::<()>().await;
                drop(stderr);
            }
            std::future::pending().await
        };
        let ended = async {
            let mut forced = None;
            // Its input is at its end.
            if timeout(patience, child.wait()).await.is_err() {
                forced = Some("SIGTERM");
                group.terminate();
                if timeout(patience, child.wait()).await.is_err() {
                    forced = Some("SIGKILL");
                    group.kill();
                }
            }
            let status = child.wait().await;
            // Others that it started and left behind.
            if group.is_there() {
                group.terminate();
                if !group.gone_within(patience).await {
                    group.kill();
                }
            }
            (status, forced)
        };
        let (status, forced) = tokio::select! {
            ended = ended => ended,
            never = drain => never,
            () = hurry.cancelled() => {
                group.kill();
                (child.wait().await, Some("SIGKILL"))
            }
        };
        all.guard.gone(group).await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::info!(
            pid = %group,
            %status,
            forced,
            seconds = self.started.elapsed().as_secs_f64(),
            "server ended"
        );
        self.lease.give_back().await;
    }
}
