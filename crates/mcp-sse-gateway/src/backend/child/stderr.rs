//! A child's stderr: its lines go to the log, which has its own bounds, and the last ones are kept to explain why
//! the child died.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, timeout_at},
};

use crate::{clock, pace::Pace};

/// Bytes of a line that are kept; the rest is dropped.
const LINE_BYTES: usize = 1_000;
/// How many of the last lines are kept.
const TAIL_LINES: usize = 10;
/// Bytes read per second, and the burst in seconds of that. A child that writes faster blocks, so it cannot take
/// more of our CPU time than that.
const READ_BYTES: u32 = 8 * 1024 * 1024;
const READ_BURST: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(50);

/// The last lines that a child wrote to stderr.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// A child's stderr, while a task reads it.
pub(super) struct Stderr {
    pub(super) reading: tokio::task::JoinHandle<()>,
    pub(super) tail: Tail,
}

impl Stderr {
    /// Its last lines, once it is closed; at `until`, the last lines so far, since some process may hold it open.
    pub(super) async fn end(&mut self, until: Instant) -> Vec<String> {
        let _ = timeout_at(until, &mut self.reading).await;
        self.tail.lines()
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads until the write end is closed.
pub(crate) async fn read(mut stderr: impl AsyncRead + Unpin, tail: Tail) {
    let mut pace = Pace::default();
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    loop {
        let read = stderr.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            break;
        }
        let cost = Duration::from_secs(1) * u32::try_from(read).unwrap_or(u32::MAX) / READ_BYTES;
        while !pace.take(clock::now(), cost, READ_BURST) {
            tokio::time::sleep(PAUSE).await;
        }
        for &byte in &chunk[..read] {
            if byte == b'\n' {
                take(&mut line, &tail);
            } else if line.len() < LINE_BYTES {
                line.push(byte);
            }
        }
    }
    take(&mut line, &tail);
}

fn take(line: &mut Vec<u8>, tail: &Tail) {
    let text = String::from_utf8_lossy(line).trim_end().escape_debug().to_string();
    line.clear();
    if !text.is_empty() {
        tracing::info!(target: "mcp_sse::stderr", "{text}");
        tail.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_is_kept_in_bounded_lines() {
        let mut text: String = (0..50).map(|n| format!("line {n}\n")).collect();
        text.push_str(&"x".repeat(5_000));
        let tail = Tail::default();
        read(text.as_bytes(), tail.clone()).await;
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines[0], "line 41");
        assert_eq!(lines[TAIL_LINES - 1].len(), LINE_BYTES);
    }
}
