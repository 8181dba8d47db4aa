//! A process of its own that outlives us by a moment: when we die, by whatever, it ends the process groups
//! of our children. The parent-death signal reaches a child, but not what the child has started.
//!
//! Invariant: when [`Guard::born`] returns, the group's number is in the pipe to a running guard, where our
//! death cannot take it back. Only then a child may start something.

use std::{
    collections::HashSet,
    io::{BufRead as _, ErrorKind},
    process::{ExitCode, Stdio},
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::group::{self, Group};

pub(crate) const WORD: &str = "__guard";
/// What groups get between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// What it gets to read what it is told; one that is stopped does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells the guard which groups there are.
#[derive(Clone, Debug)]
pub(crate) struct Guard(mpsc::Sender<Change>);

#[derive(Debug)]
enum Change {
    /// And where to say that the guard knows.
    Born(Group, oneshot::Sender<()>),
    Gone(Group),
}

impl Guard {
    /// Starts the task that keeps the process informed; the process starts with the first group, and anew
    /// should it die.
    pub(crate) fn start() -> Self {
        let (changes, mut receiver) = mpsc::channel(256);
        tokio::spawn(async move {
            let mut groups = HashSet::new();
            let mut running: Option<Running> = None;
            while let Some(change) = receiver.recv().await {
                let (line, known) = match change {
                    Change::Born(group, known) => {
                        groups.insert(group);
                        (born(group), Some(known))
                    }
                    Change::Gone(group) => {
                        groups.remove(&group);
                        (gone(group), None)
                    }
                };
                let told = match &mut running {
                    Some(guard) => guard.tell(&line).await,
                    None => false,
                };
                if !told {
                    running = Running::start(&groups).await;
                }
                if let Some(known) = known {
                    let _ = known.send(());
                }
            }
        });
        Self(changes)
    }

    /// Returns when the guard knows, or when there can be none.
    pub(super) async fn born(&self, group: Group) {
        let (known, answer) = oneshot::channel();
        if self.0.send(Change::Born(group, known)).await.is_ok() {
            let _ = answer.await;
        }
    }

    pub(super) async fn gone(&self, group: Group) {
        let _ = self.0.send(Change::Gone(group)).await;
    }
}

fn born(group: Group) -> String {
    format!("+{group}\n")
}

fn gone(group: Group) -> String {
    format!("-{group}\n")
}

/// The guard process, seen from us.
struct Running {
    process: Child,
    stdin: ChildStdin,
}

impl Running {
    async fn start(groups: &HashSet<Group>) -> Option<Self> {
        let exe =
            if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
        let spawned = exe.and_then(|exe| {
            tokio::process::Command::new(exe)
                .arg0("mcp-sse")
                .arg(WORD)
                // It would only be there for others to read.
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // The terminal's Ctrl-C is for us, not for it.
                .process_group(0)
                .current_dir("/")
                .spawn()
        });
        let told = match spawned {
            Ok(mut process) => match process.stdin.take() {
                Some(stdin) => {
                    let mut guard = Self { process, stdin };
                    let lines: String = groups.iter().copied().map(born).collect();
                    if guard.tell(&lines).await { Ok(guard) } else { Err(ErrorKind::TimedOut.into()) }
                }
                None => Err(ErrorKind::BrokenPipe.into()),
            },
            Err(error) => Err(error),
        };
        told.inspect_err(|error: &std::io::Error| {
            tracing::warn!(%error, "no guard process: if this program is killed, processes that its servers started may stay");
        })
        .ok()
    }

    /// Whether it was told. One that was not is dead: it must not take the end of its input for our death.
    async fn tell(&mut self, lines: &str) -> bool {
        let told = timeout(PATIENCE, self.stdin.write_all(lines.as_bytes())).await;
        if matches!(told, Ok(Ok(()))) {
            return true;
        }
        let _ = self.process.start_kill();
        false
    }
}

/// The guard process: reads who is there until we are gone, then ends them.
pub(crate) fn run() -> ExitCode {
    let mut groups = HashSet::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let (sign, number) = line.split_at_checked(1).unwrap_or_default();
        let Some(group) = number.parse().ok().and_then(Pid::from_raw).map(Group::of) else { continue };
        match sign {
            "+" => groups.insert(group),
            _ => groups.remove(&group),
        };
    }
    group::end_all(groups, GRACE);
    ExitCode::SUCCESS
}
