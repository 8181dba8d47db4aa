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
    io::Write as _,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

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

/// One call. What stays the same from call to call is JSON already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// When it was answered.
    pub(crate) time: SystemTime,
    /// See [`whose`].
    pub(crate) whose: &'a str,
    /// See [`what`].
    pub(crate) what: &'a str,
    pub(crate) outcome: &'static str,
    pub(crate) took: Duration,
    pub(crate) bytes_in: usize,
    pub(crate) bytes_out: usize,
}

impl Record<'_> {
    /// The line for it.
    fn write(&self, line: &mut Vec<u8>) {
        let Self { time, whose, what, outcome, took, bytes_in, bytes_out } = self;
        let time = humantime::format_rfc3339_millis(*time);
        let milliseconds = (took.as_secs_f64() * 1e6).round() / 1e3;
        // Writing to memory does not fail.
        let _ = writeln!(
            line,
            r#"{{"time":"{time}",{whose},{what},"outcome":"{outcome}","milliseconds":{milliseconds},"bytes_in":{bytes_in},"bytes_out":{bytes_out}}}"#
        );
    }
}

/// Who asks, and which server over which transport, as members of a line.
pub(crate) fn whose(
    principal: Option<&str>,
    address: Option<IpAddr>,
    server: &str,
    transport: &str,
) -> String {
    let [principal, address, server, transport] = [
        json(principal),
        json(address.map(|address| address.to_string())),
        json(Some(server)),
        json(Some(transport)),
    ];
    format!(r#""principal":{principal},"address":{address},"server":{server},"transport":{transport}"#)
}

/// What is asked for, as members of a line.
pub(crate) fn what(method: &str, tool: Option<&str>) -> String {
    format!(r#""method":{},"tool":{}"#, json(Some(method)), json(tool))
}

fn json(text: Option<impl Into<String>>) -> serde_json::Value {
    text.map_or(serde_json::Value::Null, |text| serde_json::Value::from(text.into()))
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

/// Writes the line of a call into its place.
pub(crate) fn write(place: Permit, record: &Record<'_>) {
    place.write(|line| record.write(line));
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
