//! Our own children, and who is left of keepers that were killed: what they kept becomes our child.
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

/// What strays that were killed get to be gone. Who is not is somebody whom we may not kill.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Who is left of keepers that were killed: what they kept becomes our child.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Our own children. Locked while one is started.
    own: Mutex<HashSet<Pid>>,
}

/// From here on it is looked who of our own is gone.
const MANY: usize = 1024;
/// Between two looks at strays.
const LOOK: Duration = Duration::from_millis(5);

impl Strays {
    /// Begins to take them in.
    pub(super) fn take_in() -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            tracing::debug!(%error, "not told of orphans");
        }
        // Whoever started us by `exec` may have had children.
        Self { own: Mutex::new(descendants::own_children().into_iter().collect()) }
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child of our own.
    pub(super) fn start(&self, mut command: tokio::process::Command) -> io::Result<Child> {
        self.list(|| command.spawn(), Child::id)
    }

    /// The same, for a thread of its own.
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
            // Those whose start was given up are not forgotten otherwise.
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

    /// Kills them, and waits until nobody is left.
    pub(super) async fn end(&self) {
        let end = async {
            while self.kill() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(KILL_PATIENCE, end).await.is_err() {
            tracing::warn!("processes that a server started cannot be killed");
        }
    }

    /// Whether there was any.
    fn kill(&self) -> bool {
        let own = self.own();
        let strays = descendants::kill_children(|pid| own.contains(&pid));
        for stray in &strays {
            let _ = rustix::process::waitpid(Some(*stray), rustix::process::WaitOptions::NOHANG);
        }
        !strays.is_empty()
    }
}
