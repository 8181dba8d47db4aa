//! A user for each session: a user id of its own, from a range that nobody else uses.
//!
//! Invariants:
//! - A user is given to one session at a time, and to none while any process runs as that user, whoever started it.
//! - The ids are used in rotation, so that files which a session leaves in a public folder do not soon belong to
//!   another one.

use std::{collections::HashSet, fs, io, sync::Mutex, time::Duration};

use rustix::process::geteuid;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{super::strays::Strays, clear, parse::Range};

/// The pause before the next check for a user's processes; doubled each time, up to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Users {
    range: Range,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// Where the search for the next free id begins.
    next: u32,
    taken: HashSet<u32>,
}

impl Users {
    pub(super) fn new(range: Range) -> Self {
        let state = State { next: range.from, taken: HashSet::new() };
        Self { range, state: Mutex::new(state), freed: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a user that no session has and no process runs as.
    pub(super) async fn take(&self, deadline: Instant) -> Result<u32, String> {
        let Range { from, to } = self.range;
        loop {
            let freed = self.freed.notified();
            let range = self.range;
            let living = tokio::task::spawn_blocking(move || living(range)).await;
            let living = living.unwrap_or_else(|error| Err(io::Error::other(error)));
            let living = living.map_err(|error| format!("cannot see which users have processes: {error}"))?;
            if let Some(user) = self.state().take(range, &living) {
                return Ok(user);
            }
            if timeout_at(deadline, freed).await.is_err() {
                return Err(format!("no user of --user-range {from}-{to} is free"));
            }
        }
    }

    /// Kills all processes of a user, and makes its id free when the last one is gone.
    pub(super) async fn give_back(&self, user: u32, strays: &Strays) {
        let only = Range { from: user, to: user };
        let (mut look, mut said) = (FIRST_LOOK, false);
        loop {
            let living = tokio::task::spawn_blocking(move || living(only)).await;
            if matches!(living, Ok(Ok(living)) if living.is_empty()) {
                break;
            }
            if let Err(error) = clear::run_for(strays, Some(user), None).await {
                tracing::warn!(user, "cannot end the user's processes: {error}");
            }
            if look == LONGEST_LOOK && !said {
                said = true;
                tracing::warn!(user, "processes of a session could not be ended; its user stays in use");
            }
            tokio::time::sleep(look).await;
            look = (look * 2).min(LONGEST_LOOK);
        }
        self.state().taken.remove(&user);
        self.freed.notify_one();
    }
}

impl State {
    fn take(&mut self, range: Range, living: &HashSet<u32>) -> Option<u32> {
        // Of one more id than are in use, at least one is free.
        for _ in 0..range.len().min(self.taken.len() + living.len() + 1) {
            let user = self.next;
            self.next = if user == range.to { range.from } else { user + 1 };
            if !living.contains(&user) && self.taken.insert(user) {
                return Some(user);
            }
        }
        None
    }
}

/// The users in a range that a process runs as.
fn living(range: Range) -> io::Result<HashSet<u32>> {
    let mut users = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // The process may be gone by now.
        let Ok(status) = fs::read(entry.path().join("status")) else { continue };
        let status = String::from_utf8_lossy(&status);
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // Zombies and dead processes do nothing any more.
        if field("State:").is_some_and(|state| state.trim_start().starts_with(['Z', 'X'])) {
            continue;
        }
        let ids = field("Uid:").unwrap_or_default().split_whitespace();
        users.extend(ids.filter_map(|id| id.parse().ok()).filter(|&user| range.contains(user)));
    }
    Ok(users)
}

/// Whether each session can have a user from this range.
pub(crate) fn check(range: Range, sessions: usize) -> Result<(), String> {
    if !geteuid().is_root() {
        return Err(
            "only root can start programs as other users; run it as root, or leave the option out".to_owned()
        );
    }
    if range.len() < sessions {
        return Err(format!(
            "these are {} users for up to {sessions} sessions; give more, or a smaller --max-sessions",
            range.len()
        ));
    }
    for (file, kind) in [("/etc/passwd", "user"), ("/etc/group", "group")] {
        let text = fs::read(file).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let mut fields = line.split(':');
            let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1));
            if let Some(number) = number.and_then(|id| id.parse().ok()).filter(|&id| range.contains(id)) {
                return Err(format!(
                    "{number} is the {kind} {name:?} of {file}; expected numbers that nobody has"
                ));
            }
        }
    }
    for user in [range.from, range.to] {
        clear::try_user(user)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::getuid;

    use super::*;

    #[test]
    fn users_are_taken_in_turns_and_never_twice() {
        let range = Range { from: 10, to: 13 };
        let mut state = State { next: 10, taken: HashSet::new() };
        let living = HashSet::from([11]);
        assert_eq!(state.take(range, &living), Some(10));
        assert_eq!(state.take(range, &living), Some(12));
        state.taken.remove(&10);
        assert_eq!(state.take(range, &living), Some(13));
        assert_eq!(state.take(range, &living), Some(10));
        assert_eq!(state.take(range, &living), None);
    }

    #[test]
    fn this_process_lives() {
        let user = getuid().as_raw();
        assert!(living(Range { from: user, to: user }).unwrap().contains(&user));
    }
}
