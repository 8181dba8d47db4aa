//! A process group: a child and whatever it started.

use std::{collections::HashSet, fmt, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// How often a group that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The group that a child leads. As long as anybody is in it, the system gives its number to nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(Pid);

impl Group {
    pub(super) fn of(leader: Pid) -> Self {
        Self(leader)
    }

    pub(super) fn of_child(leader: &tokio::process::Child) -> Option<Self> {
        leader.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).map(Self)
    }

    /// Whether anybody is in it.
    pub(super) fn is_there(self) -> bool {
        test_kill_process_group(self.0).is_ok()
    }

    pub(super) fn terminate(self) {
        let _ = kill_process_group(self.0, Signal::TERM);
    }

    pub(super) fn kill(self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }

    /// Waits until nobody is in it, at most `time`; whether that is so.
    pub(super) async fn gone_within(self, time: Duration) -> bool {
        tokio::time::timeout(time, async {
            while self.is_there() {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
        .is_ok()
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_raw_nonzero().fmt(f)
    }
}

/// Ends groups whose leaders are somebody else's children: SIGTERM, then SIGKILL.
#[allow(clippy::disallowed_methods, reason = "the guard is a process of its own that has nothing else to do")]
pub(super) fn end_all(mut groups: HashSet<Group>, grace: Duration) {
    groups.iter().for_each(|group| group.terminate());
    let mut waited = Duration::ZERO;
    while waited < grace {
        groups.retain(|group| group.is_there());
        if groups.is_empty() {
            return;
        }
        std::thread::sleep(LOOK);
        waited += LOOK;
    }
    groups.iter().for_each(|group| group.kill());
}
