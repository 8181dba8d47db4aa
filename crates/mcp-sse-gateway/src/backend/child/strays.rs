//! Our own children, and strays: processes that a killed keeper leaves behind, which are reparented to us.
//!
//! Invariant: every child of ours is started here, so that none of them is taken for a stray.

use std::{
    collections::HashSet,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Pid;
use tokio::{process::Child, time::timeout};

use super::descendants;

/// How long killed strays may take to be gone. What is left after that is a process that we may not kill.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Tells strays from our own children, and ends them.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Our own children. Locked while one is started.
    own: Mutex<HashSet<Pid>>,
}

/// With this many entries, those of children that are gone are removed.
const MANY: usize = 1024;
/// The pause between two checks for strays.
const LOOK: Duration = Duration::from_millis(5);

impl Strays {
    /// Makes this process the subreaper, so that strays are reparented to it.
    pub(super) fn take_in() -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::debug!(%error, "cannot become a subreaper");
        }
        // A process that became us by `exec` may have had children before.
        Self { own: Mutex::new(descendants::own_children().into_iter().collect()) }
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child of our own.
    pub(super) fn start(&self, mut command: tokio::process::Command) -> io::Result<Child> {
        self.list(|| command.spawn(), Child::id)
    }

    /// The same with the standard library's process, for callers that block.
    #[cfg(target_os = "linux")]
    pub(super) fn start_std(&self, mut command: std::process::Command) -> io::Result<std::process::Child> {
        self.list(|| command.spawn(), |child| Some(child.id()))
    }

    fn list<C>(
        &self,
        spawn: impl FnOnce() -> io::Result<C>,
        id: impl FnOnce(&C) -> Option<u32>,
    ) -> io::Result<C> {
        let mut own = self.own();
        if own.len() >= MANY {
            // Nothing else forgets children whose start was cancelled.
            let children: HashSet<Pid> = descendants::own_children().into_iter().collect();
            own.retain(|pid| children.contains(pid));
        }
        let child = spawn()?;
        own.extend(id(&child).and_then(|pid| Pid::from_raw(pid.try_into().ok()?)));
        Ok(child)
    }

    pub(super) fn forget(&self, pid: u32) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            self.own().remove(&pid);
        }
    }

    /// Kills all strays, and waits until none is left.
    pub(super) async fn end(&self) {
        let end = async {
            while self.kill() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(KILL_PATIENCE, end).await.is_err() {
            tracing::warn!("processes that a server started could not be killed");
        }
    }

    /// Kills all strays once; whether there were any.
    fn kill(&self) -> bool {
        let own = self.own();
        let strays = descendants::kill_children(|pid| own.contains(&pid));
        for stray in &strays {
            let _ = rustix::process::waitpid(Some(*stray), rustix::process::WaitOptions::NOHANG);
        }
        !strays.is_empty()
    }
}
