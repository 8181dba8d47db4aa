//! The descendants of a process, in whatever process group or session they have moved to.
//!
//! The pid of a child is not reused until its parent has waited for it. So a process that signals only its own
//! children, and waits for none of them meanwhile, cannot hit another process.

use rustix::process::{Pid, Signal, kill_process};

/// The children of this process, including zombies.
#[cfg(target_os = "linux")]
pub(super) fn own_children() -> Vec<Pid> {
    match std::fs::read_dir("/proc/self/task") {
        Ok(tasks) => {
            let tasks = tasks.filter_map(Result::ok);
            tasks.flat_map(|task| numbers(task.path().join("children"))).collect()
        }
        Err(_) => Vec::new(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn own_children() -> Vec<Pid> {
    Vec::new()
}

#[cfg(target_os = "linux")]
fn numbers(path: std::path::PathBuf) -> Vec<Pid> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split(' ').filter_map(|number| number.trim().parse().ok().and_then(Pid::from_raw)).collect()
}

/// Kills this process's children, except those for which `but` is true. Their own children are then reparented to
/// us, if we are their subreaper. Returns the children that were signalled.
pub(super) fn kill_children(but: impl Fn(Pid) -> bool) -> Vec<Pid> {
    let mut children = own_children();
    children.retain(|child| !but(*child));
    for child in &children {
        let _ = kill_process(*child, Signal::KILL);
    }
    children
}

/// Sends SIGTERM once to each descendant of this process that is not in this process group.
#[cfg(target_os = "linux")]
pub(super) fn terminate_outside(group: Option<Pid>) {
    use rustix::process::{PidfdFlags, getpid, pidfd_open, pidfd_send_signal};

    /// More than any program has. Bounds the walk, even if processes are started faster than it proceeds.
    const MOST: usize = 10_000;

    let mut seen = std::collections::HashSet::from([getpid()]);
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        let children = if parent == getpid() { own_children() } else { children_of(parent) };
        for child in children {
            if seen.len() >= MOST || !seen.insert(child) {
                continue;
            }
            // The pidfd pins the process. Its parent is checked after that, so a reused pid is never signalled.
            let Ok(held) = pidfd_open(child, PidfdFlags::empty()) else { continue };
            let Some((its_parent, its_group)) = parent_and_group(child) else { continue };
            if !its_parent.is_some_and(|parent| seen.contains(&parent)) {
                continue;
            }
            if its_group.is_none() || its_group != group {
                let _ = pidfd_send_signal(held, Signal::TERM);
            }
            parents.push(child);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn terminate_outside(_: Option<Pid>) {}

#[cfg(target_os = "linux")]
pub(super) fn children_of(parent: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", parent.as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().filter_map(Result::ok);
    tasks.flat_map(|task| numbers(task.path().join("children"))).collect()
}

/// The parent and the process group of a process.
#[cfg(target_os = "linux")]
fn parent_and_group(pid: Pid) -> Option<(Option<Pid>, Option<Pid>)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name is in parentheses, and may itself contain some.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(1).map(|field| field.parse().ok().and_then(Pid::from_raw));
    Some((fields.next()?, fields.next()?))
}
