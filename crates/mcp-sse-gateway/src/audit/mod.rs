//! The audit log: one line of JSON for each call of a client, without its arguments and its result.
//!
//! Invariant: unless it may lose lines, no call is passed on before its line has a place, and none is while lines cannot
//! be written. So whatever a server was asked is in the log, but for what a crash of this program takes with it.

//!
//! | room | what lives there |
//! |---|---|
//! | here | the log as those see it who write to it |
//! | `lines` | the lines that wait, and the places for more |
//! | `writer` | the thread that writes them |

mod lines;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};
use tokio::sync::watch;

pub(crate) use self::lines::Permit;
use self::{
    lines::Lines,
    writer::{Output, Writer, open},
};

/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_secs(2);

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
    #[serde(serialize_with = "utc")]
    pub(crate) time: SystemTime,
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
    lines: Arc<Lines>,
    writable: watch::Receiver<bool>,
    lossy: bool,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
        let lines = Lines::new(calls);
        let (tell, writable) = watch::channel(true);
        let lost = Arc::<AtomicU64>::default();
        let writer = Writer {
            output,
            lines: Arc::clone(&lines),
            tell,
            lossy,
            lost: Arc::clone(&lost),
            looked: crate::clock::now(),
            torn: false,
            said: None,
        };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run());
        let thread = thread.map_err(|error| format!("--audit-log: cannot start: {error}"))?;
        Ok(Self(Arc::new(Inner { lines, writable, lossy, lost, thread: Mutex::new(Some(thread)) })))
    }

    /// Whether lines may be lost rather than calls held up.
    pub(crate) fn is_lossy(&self) -> bool {
        self.0.lossy
    }

    /// Waits until the next call may be taken. Cancel safe. Once the log is closed, none may.
    pub(crate) async fn permit(&self) -> Permit {
        self.0.lines.place().await
    }

    /// A place for a line, or none if there is none now: then the line is lost, and counted.
    pub(crate) fn permit_now(&self) -> Option<Permit> {
        let permit = self.0.lines.place_now();
        if permit.is_none() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        permit
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
        self.0.lines.close();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Sessions that have not ended in time still hold places.
            let written = tokio::task::spawn_blocking(move || thread.join());
            let _ = tokio::time::timeout(LAST, written).await;
        }
    }
}

/// The time as lines have it.
fn utc<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}
