//! A limit on log lines that untrusted clients can cause.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many lines of a kind are written in a window; further ones are only counted.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Limits the lines of one kind. Can be a `static`.
#[derive(Debug)]
pub(crate) struct Throttle {
    lines: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self::of(LINES)
    }

    /// With a limit of its own, for a line that says the same each time.
    pub(crate) const fn of(lines: u32) -> Self {
        Self { lines, state: Mutex::new(State { window: None, lines: 0, left_out: 0 }) }
    }

    /// If a line may be written now, how many were left out since the last one; else `None`.
    pub(crate) fn line(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            state.window = Some(now);
            state.lines = 0;
        }
        if state.lines < self.lines {
            state.lines += 1;
            Some(std::mem::take(&mut state.left_out))
        } else {
            state.left_out += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "some instant")]
    fn a_flood_is_a_few_lines_and_then_a_count() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(throttle.line(now), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(throttle.line(now), None);
        }
        assert_eq!(throttle.line(now + WINDOW), Some(1_000));
        assert_eq!(throttle.line(now + WINDOW), Some(0));
    }
}
