//! The thread that writes the lines.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::lines::Lines;

/// How often it is tried again when lines cannot be written.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether the file was moved away, for its rotation.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said that lines are lost.
const SAY: Duration = Duration::from_secs(60);
/// How long lines are gathered before they are written, so that not each of them costs a turn of this thread.
const GATHER: Duration = Duration::from_millis(10);

pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

pub(super) enum Output {
    Stdout,
    File(File, PathBuf),
}

pub(super) struct Writer {
    pub(super) output: Output,
    pub(super) lines: Arc<Lines>,
    /// Is told whether lines can be written.
    pub(super) tell: watch::Sender<bool>,
    pub(super) lossy: bool,
    pub(super) lost: Arc<AtomicU64>,
    pub(super) looked: tokio::time::Instant,
    /// The last line that was written is not whole.
    pub(super) torn: bool,
    /// When it was last said that lines are lost.
    pub(super) said: Option<tokio::time::Instant>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut taken = Vec::new();
        while self.lines.wait() {
            // Nobody wakes this thread for the lines that come meanwhile.
            if !self.lines.is_closed() {
                pause(GATHER);
            }
            taken.clear();
            let count = self.lines.take(&mut taken);
            self.write(&taken, count as u64);
            self.lines.written(count);
        }
    }

    /// Opens the file again if what is there by its name is another one; whether it did. An error says that it cannot
    /// be opened.
    fn follow(&mut self) -> io::Result<bool> {
        let now = crate::clock::now();
        if now.saturating_duration_since(self.looked) < LOOK {
            return Ok(false);
        }
        let Output::File(file, path) = &mut self.output else { return Ok(false) };
        let inode = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (own, there) = (file.metadata().map(inode).ok(), std::fs::metadata(&*path).map(inode).ok());
        if own == there {
            self.looked = now;
            return Ok(false);
        }
        *file = open(path)?;
        self.looked = now;
        Ok(true)
    }

    /// Writes lines, however long that takes; or leaves them out, if they may be lost.
    fn write(&mut self, lines: &[u8], count: u64) {
        let mut at = 0;
        let mut failing = false;
        while at < lines.len() {
            let written = self.follow().and_then(|is_new| {
                if is_new {
                    // Not in the middle of a line.
                    at = lines[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                    self.torn = false;
                }
                if std::mem::take(&mut self.torn) {
                    self.output.write(b"\n")?;
                }
                self.output.write(&lines[at..])
            });
            match written {
                Ok(0) => {}
                Ok(written) => {
                    at += written;
                    if failing {
                        failing = false;
                        tracing::info!("the audit log is written again");
                        self.tell.send_replace(true);
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if self.lossy => {
                    let left = lines[at..].iter().filter(|&&byte| byte == b'\n').count() as u64;
                    self.torn = at > 0 && lines[at - 1] != b'\n';
                    self.lost.fetch_add(left.min(count), Ordering::Relaxed);
                    let now = crate::clock::now();
                    // The log may be on the same disk.
                    if self.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY) {
                        self.said = Some(now);
                        let lost = self.lost.load(Ordering::Relaxed);
                        tracing::error!(%error, lost, "lines of the audit log were lost");
                    }
                    return;
                }
                Err(error) => {
                    if !failing {
                        self.tell.send_replace(false);
                        tracing::error!(%error, "the audit log cannot be written; no call is taken until it can be");
                    }
                    failing = true;
                }
            }
            // Nobody writes any more, and nobody could be told.
            if self.lines.is_closed() {
                tracing::error!(lines = count, "the last lines of the audit log could not be written");
                return;
            }
            pause(AGAIN);
        }
    }
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            // Without a buffer, which would write some of it twice after an error.
            Self::Stdout => Ok(rustix::io::write(rustix::stdio::stdout(), lines)?),
            Self::File(file, _) => file.write(lines),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread of its own, which waits for a disk")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
