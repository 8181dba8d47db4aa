//! What a process has started: its children and theirs, whatever group or session they have put themselves into.
//!
//! A child that its parent has not waited for keeps its number. So whoever signals only its own children, and
//! waits for none of them meanwhile, signals nobody else.

use rustix::process::{Pid, Signal, kill_process};

/// The children of this process, ended ones that nobody has waited for included.
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

/// Kills this process's children but for these. What they have started comes to us, if we are its next reaper.
/// Returns who was there.
pub(super) fn kill_children(but: impl Fn(Pid) -> bool) -> Vec<Pid> {
    let mut children = own_children();
    children.retain(|child| !but(*child));
    for child in &children {
        let _ = kill_process(*child, Signal::KILL);
    }
    children
}

/// Sends SIGTERM to all descendants of this process that are not in this group, each once.
#[cfg(target_os = "linux")]
pub(super) fn terminate_outside(group: Option<Pid>) {
    use rustix::process::{PidfdFlags, getpid, pidfd_open, pidfd_send_signal};

    /// More than anybody has; a walk that never ended would be worse than one that misses some.
    const MOST: usize = 10_000;

    let mut seen = std::collections::HashSet::from([getpid()]);
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        let children = if parent == getpid() { own_children() } else { children_of(parent) };
        for child in children {
            if seen.len() >= MOST || !seen.insert(child) {
                continue;
            }
            // Held, so that the number stays its own; then looked at, and only then signalled.
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
fn children_of(parent: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", parent.as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().filter_map(Result::ok);
    tasks.flat_map(|task| numbers(task.path().join("children"))).collect()
}

/// Of a process: its parent and its process group.
#[cfg(target_os = "linux")]
fn parent_and_group(pid: Pid) -> Option<(Option<Pid>, Option<Pid>)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name stands in parentheses, and may have any of its own.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(1).map(|field| field.parse().ok().and_then(Pid::from_raw));
    Some((fields.next()?, fields.next()?))
}
