//! The audit log: one line of JSON for each call of a client, without its arguments and its result.
//!
//! Invariant: unless it may lose lines, no call is passed on before its line has a place, and none is while lines cannot
//! be written. So whatever a server was asked is in the log, but for what a crash of this program takes with it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::sync::{
    Semaphore,
    mpsc::{self, OwnedPermit},
    watch,
};

/// How often it is tried again when lines cannot be written.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether the file was moved away, for its rotation.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_secs(2);
/// How long lines are gathered before they are written, so that not each of them costs a turn of this thread.
const GATHER: Duration = Duration::from_millis(10);
/// How many bytes are written at once.
const AT_ONCE: usize = 64 * 1024;

/// Where lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Stdout,
    File(PathBuf),
}

impl Place {
    /// `-` is stdout.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected the path of a file, or - for stdout".to_owned()),
            "-" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// One call.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    /// When it was answered, in UTC.
    pub(crate) time: String,
    pub(crate) principal: Option<&'a str>,
    pub(crate) address: Option<std::net::IpAddr>,
    pub(crate) server: &'a str,
    pub(crate) transport: &'a str,
    pub(crate) method: &'a str,
    pub(crate) tool: Option<&'a str>,
    pub(crate) outcome: &'a str,
    pub(crate) milliseconds: f64,
    pub(crate) bytes_in: usize,
    pub(crate) bytes_out: usize,
}

/// The audit log. Clones write to the same.
#[derive(Clone, Debug)]
pub(crate) struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` once it is closed.
    lines: Mutex<Option<mpsc::Sender<String>>>,
    writable: watch::Receiver<bool>,
    lossy: bool,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The place of a line that will be written.
#[derive(Debug)]
pub(crate) struct Permit(Option<OwnedPermit<String>>);

impl Permit {
    pub(crate) fn write(self, record: &Record<'_>) {
        if let Some(permit) = self.0
            && let Ok(mut line) = serde_json::to_string(record)
        {
            line.push('\n');
            permit.send(line);
        }
    }
}

impl Audit {
    /// Opens the log; an error says why that is not possible.
    ///
    /// `calls` is how many there can be at a time. So places run out only when lines are not written in time.
    pub(crate) fn open(place: &Place, lossy: bool, calls: usize) -> Result<Self, String> {
        let output = match place {
            Place::Stdout => Output::Stdout,
            Place::File(path) => Output::File(
                open(path).map_err(|error| format!("--audit-log {}: {error}", path.display()))?,
                path.clone(),
            ),
        };
        let (lines, queue) = mpsc::channel(calls.clamp(1, Semaphore::MAX_PERMITS));
        let (tell, writable) = watch::channel(true);
        let lost = Arc::<AtomicU64>::default();
        let writer = Writer {
            output,
            queue,
            tell,
            lossy,
            lost: Arc::clone(&lost),
            looked: crate::clock::now(),
            torn: false,
        };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run());
        let thread = thread.map_err(|error| format!("--audit-log: cannot start: {error}"))?;
        Ok(Self(Arc::new(Inner {
            lines: Mutex::new(Some(lines)),
            writable,
            lossy,
            lost,
            thread: Mutex::new(Some(thread)),
        })))
    }

    fn sender(&self) -> Option<mpsc::Sender<String>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether lines may be lost rather than calls held up.
    pub(crate) fn is_lossy(&self) -> bool {
        self.0.lossy
    }

    /// Waits until the next call may be taken. Cancel safe. Once the log is closed, none may.
    pub(crate) async fn permit(&self) -> Permit {
        if let Some(sender) = self.sender()
            && let Ok(permit) = sender.reserve_owned().await
        {
            return Permit(Some(permit));
        }
        std::future::pending().await
    }

    /// A place for a line, or none if there is none now: then the line is lost, and counted.
    pub(crate) fn permit_now(&self) -> Permit {
        let permit = self.sender().and_then(|sender| sender.try_reserve_owned().ok());
        if permit.is_none() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        Permit(permit)
    }

    /// Waits until lines can be written, where none may be lost. Cancel safe.
    pub(crate) async fn writable(&self) {
        if self.0.lossy || *self.0.writable.borrow() {
            return;
        }
        // An error means that the thread has ended, with the program.
        let _ = self.0.writable.clone().wait_for(|writable| *writable).await;
    }

    /// Lines that were lost, which happens only where they may be.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Writes what is left, and waits for that.
    pub(crate) async fn close(&self) {
        drop(self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Sessions that have not ended in time still hold places.
            let written = tokio::task::spawn_blocking(move || thread.join());
            let _ = tokio::time::timeout(LAST, written).await;
        }
    }
}

/// The time as lines have it.
pub(crate) fn time(now: SystemTime) -> String {
    humantime::format_rfc3339_millis(now).to_string()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

enum Output {
    Stdout,
    File(File, PathBuf),
}

struct Writer {
    output: Output,
    queue: mpsc::Receiver<String>,
    tell: watch::Sender<bool>,
    lossy: bool,
    lost: Arc<AtomicU64>,
    looked: tokio::time::Instant,
    /// The last line that was written is not whole.
    torn: bool,
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            // Nobody wakes this thread for the lines that come meanwhile.
            if !self.queue.is_closed() {
                pause(GATHER);
            }
            let mut next = Some(first);
            while let Some(line) = next.take() {
                let mut lines = line.into_bytes();
                let mut count = 1;
                while lines.len() < AT_ONCE
                    && let Ok(more) = self.queue.try_recv()
                {
                    lines.extend_from_slice(more.as_bytes());
                    count += 1;
                }
                self.write(&lines, count);
                next = self.queue.try_recv().ok();
            }
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
                    tracing::error!(%error, lines = left, "lines of the audit log were lost");
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
            if self.queue.is_closed() {
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
