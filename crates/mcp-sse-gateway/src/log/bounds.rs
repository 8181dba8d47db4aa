//! Bounds of the log, so that no program, upstream server or stranger can fill a disk with it:
//!
//! - the rate of each kind of line (a place in the code), per session and in all sessions together; lines over it are
//!   counted, and the counts are logged every few seconds. Lines at debug and trace have no such bound;
//! - the bytes per second of all lines, and the bytes of one line.
//!
//! Lines that were dropped because nobody read the log are counted and logged in the same way.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tracing::{Event, Level, Metadata, Subscriber, field, subscriber::Interest};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking};
use tracing_subscriber::{
    fmt::{
        FormattedFields, MakeWriter,
        format::{DefaultFields, JsonFields},
    },
    layer::{Context, Layer},
    registry::LookupSpan,
};

use crate::{clock, pace::Pace};

/// Lines of one kind in one session: a burst of 20, then one per second.
const KIND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// Lines of a program's stderr in one session: a burst of 100, then 10 per second.
const STDERR: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const STDERR_TARGET: &str = "mcp_sse::stderr";
/// Lines of one kind in all sessions together: a burst of 500, then 50 per second.
const PLACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));
/// Maximum number of entries; beyond it, a kind is no longer counted per session.
const KINDS: usize = 4096;
/// How often the counts are logged, and for how many kinds.
const SAID_EVERY: Duration = Duration::from_secs(3);
const SAID_KINDS: usize = 10;
/// How many characters of a line that was left out are shown.
const LIKE_CHARS: usize = 100;
/// The target of this module's own lines.
const TARGET: &str = "mcp_sse::log";

/// Bytes of lines at info and above: 64 KiB per second, with a burst of 4 MiB.
const BYTES: Budget = Budget { second: 64 * 1024, burst: Duration::from_secs(64), line: 16 * 1024 };
/// Bytes of lines at debug and trace, which somebody has asked for: 1 MiB per second, with a burst of 64 MiB.
const DETAIL_BYTES: Budget = Budget { second: 1024 * 1024, burst: Duration::from_secs(64), line: 256 * 1024 };

/// How many lines were left out so far, for the metrics.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);
/// What counts those that nobody read.
static UNREAD: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were lost so far: left out because of a bound, or not read.
pub(crate) fn lost() -> u64 {
    let unread = UNREAD.get().map_or(0, ErrorCounter::dropped_lines);
    LEFT_OUT.load(Ordering::Relaxed).saturating_add(unread as u64)
}

struct Budget {
    second: u32,
    burst: Duration,
    line: usize,
}

/// The rates and counts, as a layer that filters lines.
#[derive(Clone)]
pub(super) struct Bounds(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kinds: HashMap<Key, Kind>,
    bytes: Pace,
    detail_bytes: Pace,
    /// Lines left out because of the bytes per second.
    over: u64,
    too_long: u64,
}

/// A place in the code, and a session; `None` for all sessions together.
type Key = (usize, Option<u64>);

#[derive(Default)]
struct Kind {
    pace: Pace,
    left_out: u64,
    /// The start of the first line that was left out, and its session.
    like: String,
    session: String,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A writer of lines that enforces the bounds before `inner`.
    pub(super) fn writer(&self, inner: NonBlocking, json: bool) -> Writer {
        Writer { inner, bounds: self.clone(), json }
    }

    /// Logs the counts every few seconds, in a thread of its own, until the returned value is dropped.
    pub(super) fn say(&self, lost: ErrorCounter) -> io::Result<Saying> {
        let _ = UNREAD.set(lost.clone());
        let (end, ended) = mpsc::channel::<()>();
        let this = self.clone();
        let mut said = Said { lost, so_far: 0 };
        let thread = std::thread::Builder::new().name("log-bounds".into()).spawn(move || {
            while ended.recv_timeout(SAID_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                this.say_now(&mut said);
            }
            this.say_now(&mut said);
        })?;
        Ok(Saying { end: Some(end), thread: Some(thread) })
    }

    fn say_now(&self, said: &mut Said) {
        let now = clock::now();
        let (mut kinds, over, too_long) = {
            let mut state = self.state();
            let mut kinds = Vec::new();
            for kind in state.kinds.values_mut().filter(|kind| kind.left_out > 0) {
                let Kind { left_out, like, session, .. } = kind;
                kinds.push((std::mem::take(left_out), std::mem::take(like), std::mem::take(session)));
            }
            state.kinds.retain(|_, kind| !kind.pace.is_idle(now));
            (kinds, std::mem::take(&mut state.over), std::mem::take(&mut state.too_long))
        };
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.0));
        let others = kinds.split_off(kinds.len().min(SAID_KINDS));
        for (lines, like, session) in kinds {
            tracing::warn!(target: TARGET, lines, session, like, "lines were left out, because they came too often");
        }
        let lines = others.iter().fold(0_u64, |sum, kind| sum.saturating_add(kind.0));
        if lines > 0 {
            tracing::warn!(target: TARGET, lines, kinds = others.len(), "lines of other kinds were left out too");
        }
        if over > 0 {
            tracing::warn!(target: TARGET, lines = over, "lines were left out: too many bytes a second");
        }
        if too_long > 0 {
            tracing::warn!(target: TARGET, lines = too_long, "lines were left out: too long");
        }
        let lost = said.lost.dropped_lines();
        if lost > said.so_far {
            let dropped = lost - said.so_far;
            tracing::warn!(target: TARGET, dropped, "lines of the log were dropped, because nobody read them");
            // If this line was dropped as well, it is logged again.
            if said.lost.dropped_lines() == lost {
                said.so_far = lost;
            }
        }
    }
}

struct Said {
    lost: ErrorCounter,
    so_far: usize,
}

/// Keeps the counts being logged; when dropped, they are logged for the last time.
pub(super) struct Saying {
    end: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Saying {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Bounds {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let place = std::ptr::from_ref(metadata).addr();
        let root = context.event_scope(event).and_then(|scope| scope.from_root().next());
        let session = root.as_ref().map(|span| span.id().into_u64());
        let pace = if metadata.target() == STDERR_TARGET { STDERR } else { KIND };
        let now = clock::now();
        let mut state = self.state();
        // The session's own bound first: a line that is over it takes nothing from the other sessions' bound.
        let own = (place, session.filter(|_| state.has_room()));
        let passes = (own.1.is_none() || state.kind(own).pace.take(now, pace.0, pace.1))
            && state.kind((place, None)).pace.take(now, PLACE.0, PLACE.1);
        if passes {
            return true;
        }
        let kind = state.kind(own);
        if kind.left_out == 0 {
            let mut like = Like(String::new());
            event.record(&mut like);
            kind.like = like.0;
            kind.session = root.map(|span| fields_of(&span)).unwrap_or_default();
        }
        kind.left_out = kind.left_out.saturating_add(1);
        LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        false
    }
}

impl State {
    fn kind(&mut self, key: Key) -> &mut Kind {
        self.kinds.entry(key).or_default()
    }

    /// Whether there is room to count a kind per session. The entries for all sessions are bounded by the number of
    /// places in the code.
    fn has_room(&self) -> bool {
        self.kinds.len() < KINDS
    }
}

/// The fields of a span, as lines show them.
fn fields_of<'a, S: LookupSpan<'a>>(span: &tracing_subscriber::registry::SpanRef<'a, S>) -> String {
    let extensions = span.extensions();
    let text = extensions.get::<FormattedFields<DefaultFields>>().map(|fields| fields.fields.clone());
    let json = || extensions.get::<FormattedFields<JsonFields>>().map(|fields| fields.fields.clone());
    text.or_else(json).unwrap_or_default()
}

/// The start of an event's message.
struct Like(String);

impl field::Visit for Like {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").chars().take(LIKE_CHARS).collect();
        }
    }
}

/// Writes lines within the bounds on bytes.
pub(super) struct Writer {
    inner: NonBlocking,
    bounds: Bounds,
    json: bool,
}

pub(super) struct Line {
    inner: NonBlocking,
    bounds: Bounds,
    json: bool,
    detail: bool,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { inner: self.inner.clone(), bounds: self.bounds.clone(), json: self.json, detail: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { detail: *metadata.level() > Level::INFO, ..self.make_writer() }
    }
}

impl Write for Line {
    /// Each call gets one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let budget = if self.detail { &DETAIL_BYTES } else { &BYTES };
        let whole = line.len();
        let mut short = Vec::new();
        let mut line = line;
        if whole > budget.line {
            if self.json {
                // A truncated object would not be valid JSON.
                self.bounds.state().too_long += 1;
                LEFT_OUT.fetch_add(1, Ordering::Relaxed);
                return Ok(whole);
            }
            short.extend_from_slice(
                String::from_utf8_lossy(&line[..budget.line]).trim_end_matches('\u{fffd}').as_bytes(),
            );
            short.extend_from_slice(format!("… ({whole} bytes)\n").as_bytes());
            line = &short;
        }
        let cost = Duration::from_secs(1).saturating_mul(u32::try_from(line.len()).unwrap_or(u32::MAX))
            / budget.second;
        {
            let mut state = self.bounds.state();
            let State { bytes, detail_bytes, over, .. } = &mut *state;
            let pace = if self.detail { detail_bytes } else { bytes };
            if !pace.take(clock::now(), cost, budget.burst) {
                *over += 1;
                LEFT_OUT.fetch_add(1, Ordering::Relaxed);
                return Ok(whole);
            }
        }
        self.inner.write_all(line)?;
        Ok(whole)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
