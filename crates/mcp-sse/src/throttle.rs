//! A bound on log lines that strangers can cause.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So many lines of a kind in a window; the others are only counted.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// One kind of line. May be a `static`.
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

    /// For a line that says the same each time: fewer will do.
    pub(crate) const fn of(lines: u32) -> Self {
        Self { lines, state: Mutex::new(State { window: None, lines: 0, left_out: 0 }) }
    }

    /// Whether a line may be written now; if so, how many were left out since the last one.
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
