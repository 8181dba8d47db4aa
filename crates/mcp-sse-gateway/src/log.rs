//! The program's log.

use std::io::IsTerminal as _;

use crate::args::{Exit, Log, LogFormat};

/// rmcp's transports write session ids whole.
const NEVER: [&str; 2] = ["rmcp::transport=off", "rmcp::service=off"];

pub(crate) fn start(args: &Log) -> Result<(), Exit> {
    let wrong =
        |error: &dyn std::fmt::Display| Exit::Usage(format!("--log-level {}: {error}", args.log_level));
    let mut filter =
        tracing_subscriber::EnvFilter::try_new(&args.log_level).map_err(|error| wrong(&error))?;
    for directive in NEVER {
        filter = filter.add_directive(directive.parse().map_err(|error| wrong(&error))?);
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would report a log that cannot be written (a full disk) to stderr, and panic over that.
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
