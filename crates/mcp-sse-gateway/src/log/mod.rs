//! The program's log.

mod bounds;

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub(crate) use self::bounds::lost;
use self::bounds::{Bounds, Saying};
use crate::args::{Exit, Log, LogFormat};

/// rmcp's transports log whole session ids, and the client of NATS logs passwords, and a line for each attempt to connect;
/// what matters of that, `mcp_sse_cluster` says.
const NEVER: [&str; 3] = ["rmcp::transport=off", "rmcp::service=off", "async_nats=off"];

/// How many lines may wait for the reader of stderr. Further ones are dropped and counted: a log that nobody reads must
/// not stop the program.
const WAITING_LINES: usize = 4096;

/// When dropped, logs what was left out and writes the lines that wait.
pub(crate) struct Writing {
    _saying: Saying,
    _guard: WorkerGuard,
}

/// Resolves the name of a level; anything but a single word is a filter. An unknown word is an error: as a filter it
/// would name a module that does not exist, and nothing would be logged.
fn level(text: &str) -> Result<&str, Exit> {
    if !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Ok(text);
    }
    let known = [
        ("trace", "trace"),
        ("debug", "debug"),
        ("info", "info"),
        ("warn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("critical", "error"),
        ("off", "off"),
        ("none", "off"),
    ];
    let level = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    level.map(|(_, level)| *level).ok_or_else(|| {
        Exit::Usage(format!(
            "--log-level {text:?}: expected trace, debug, info, warn, error, off, or a filter such as info,mcp_sse=debug"
        ))
    })
}

pub(crate) fn start(args: &Log) -> Result<Writing, Exit> {
    let wrong =
        |error: &dyn std::fmt::Display| Exit::Usage(format!("--log-level {}: {error}", args.log_level));
    let mut filter =
        tracing_subscriber::EnvFilter::try_new(level(&args.log_level)?).map_err(|error| wrong(&error))?;
    for directive in NEVER {
        filter = filter.add_directive(directive.parse().map_err(|error| wrong(&error))?);
    }
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let bounds = Bounds::new();
    let json = matches!(args.log_format, LogFormat::Json);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(bounds.writer(writer, json))
        // Otherwise it would report failed writes (a full disk) to stderr, and panic when that fails too.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => {
            log.with_ansi(std::io::stderr().is_terminal()).finish().with(bounds.clone()).init();
        }
        LogFormat::Json => log.json().finish().with(bounds.clone()).init(),
    }
    let saying = bounds.say(lost).map_err(|error| Exit::Usage(format!("cannot start: {error}")))?;
    Ok(Writing { _saying: saying, _guard: guard })
}
