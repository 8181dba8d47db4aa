//! A child's stderr: into the log, and its end kept for those who ask why the child died.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::Instant,
};

use crate::clock;

/// Of a line, this much is kept; the rest of it is dropped.
const LINE_BYTES: usize = 1_000;
/// This many lines of the end are kept.
const TAIL_LINES: usize = 10;
/// This many lines a window get into the log; a child that floods its stderr must not flood the log.
const LOGGED_LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// The end of what a child wrote to stderr.
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

/// Reads until the other side is closed.
pub(crate) async fn read(mut stderr: impl AsyncRead + Unpin, tail: Tail) {
    let mut log = Log { window: clock::now(), logged: 0, dropped: 0 };
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    loop {
        let read = stderr.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            break;
        }
        for &byte in &chunk[..read] {
            if byte == b'\n' {
                take(&mut line, &tail, &mut log);
            } else if line.len() < LINE_BYTES {
                line.push(byte);
            }
        }
    }
    take(&mut line, &tail, &mut log);
    log.close();
}

fn take(line: &mut Vec<u8>, tail: &Tail, log: &mut Log) {
    let text = String::from_utf8_lossy(line).trim_end().escape_debug().to_string();
    line.clear();
    if !text.is_empty() {
        log.line(&text);
        tail.push(text);
    }
}

struct Log {
    window: Instant,
    logged: u32,
    dropped: u64,
}

impl Log {
    fn line(&mut self, text: &str) {
        if self.window.elapsed() > WINDOW {
            self.close();
            (self.window, self.logged) = (clock::now(), 0);
        }
        if self.logged < LOGGED_LINES {
            self.logged += 1;
            tracing::info!(target: "mcp_sse::stderr", "{text}");
        } else {
            self.dropped += 1;
        }
    }

    fn close(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            tracing::warn!(target: "mcp_sse::stderr", dropped, "the server writes more to stderr than is logged");
        }
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
