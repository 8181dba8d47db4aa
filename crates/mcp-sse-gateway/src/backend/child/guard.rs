//! A process of its own that outlives us by a moment: when we die, by whatever, it ends the process groups
//! of our children. The parent-death signal reaches a child, but not what the child has started.

use std::{
    collections::HashSet,
    io::BufRead as _,
    process::{ExitCode, Stdio},
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin},
    sync::mpsc,
};

use super::group::{self, Group};

pub(crate) const WORD: &str = "__guard";
/// What groups get between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Tells the guard which groups there are.
#[derive(Clone, Debug)]
pub(crate) struct Guard(mpsc::Sender<Change>);

#[derive(Clone, Copy, Debug)]
enum Change {
    Born(Group),
    Gone(Group),
}

impl Guard {
    /// Starts the process and the task that keeps it informed, and starts another should it die.
    pub(crate) fn start() -> Self {
        let (changes, mut receiver) = mpsc::channel(256);
        tokio::spawn(async move {
            let mut groups = HashSet::new();
            let mut running: Option<(Child, ChildStdin)> = None;
            while let Some(change) = receiver.recv().await {
                match change {
                    Change::Born(group) => groups.insert(group),
                    Change::Gone(group) => groups.remove(&group),
                };
                let told = match &mut running {
                    Some((_, stdin)) => stdin.write_all(line(change).as_bytes()).await.is_ok(),
                    None => false,
                };
                if !told {
                    running = start(&groups).await;
                }
            }
        });
        Self(changes)
    }

    pub(super) async fn born(&self, group: Group) {
        let _ = self.0.send(Change::Born(group)).await;
    }

    pub(super) async fn gone(&self, group: Group) {
        let _ = self.0.send(Change::Gone(group)).await;
    }
}

fn line(change: Change) -> String {
    match change {
        Change::Born(group) => format!("+{group}\n"),
        Change::Gone(group) => format!("-{group}\n"),
    }
}

async fn start(groups: &HashSet<Group>) -> Option<(Child, ChildStdin)> {
    let exe = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    let spawned = exe.and_then(|exe| {
        tokio::process::Command::new(exe)
            .arg0("mcp-sse")
            .arg(WORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The terminal's Ctrl-C is for us, not for it.
            .process_group(0)
            .current_dir("/")
            .spawn()
    });
    let told = match spawned {
        Ok(mut child) => match child.stdin.take() {
            Some(mut stdin) => {
                let lines: String = groups.iter().map(|group| line(Change::Born(*group))).collect();
                stdin.write_all(lines.as_bytes()).await.map(|()| (child, stdin))
            }
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        },
        Err(error) => Err(error),
    };
    told.inspect_err(|error| {
        tracing::warn!(%error, "no guard process: if this program is killed, processes that its servers started may stay");
    })
    .ok()
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
