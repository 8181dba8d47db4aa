//! The command line, and the settings that it resolves to.

mod access;
mod check;
mod cluster;
mod connect;
mod isolation;
mod listen;
mod log;
mod serve;
mod values;

use std::ffi::OsString;

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub(crate) use self::{
    access::Access,
    check::Check,
    connect::Connect,
    listen::{Limits, Listen, Others},
    log::{Log, LogFormat},
    serve::{HealthCheck, Http, Plan, Serve},
};

use crate::listening::Place;

/// Connects MCP servers and the clients that speak HTTP+SSE.
///
/// Without a command it runs `demo`.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcp-sse", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<Serve>),
    Connect(Box<Connect>),
    Check(Box<Check>),
    /// Serve a small built-in MCP server, to try a client on
    Demo(Box<Demo>),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Demo {
    /// Serve it on stdin and stdout instead, as in `mcp-sse serve -- mcp-sse demo --stdio`
    #[arg(long)]
    pub(crate) stdio: bool,

    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) log: Log,
}

impl Args {
    /// The parsed arguments, or a message of one line.
    pub(crate) fn read(args: Vec<OsString>) -> Result<Self, Exit> {
        Self::try_parse_from(with_command(args)).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Shown(error.to_string()),
            _ => {
                let text = error.to_string();
                let lines: Vec<_> = text
                    .lines()
                    .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .collect();
                let tip = word_too_many(&error)
                    .map(|word| format!("; a program comes after `--`, as in: mcp-sse serve -- {word}"))
                    .unwrap_or_default();
                Exit::Usage(format!("{}{tip}; see --help", lines.join("; ")))
            }
        })
    }

    pub(crate) fn log(&self) -> &Log {
        match &self.command {
            Command::Serve(serve) => &serve.log,
            Command::Connect(connect) => &connect.log,
            Command::Check(check) => &check.log,
            Command::Demo(demo) => &demo.log,
        }
    }
}

impl Args {
    /// Whether the arguments ask for sockets from systemd.
    pub(crate) fn wants_inherited(&self) -> bool {
        let (listen, admin) = match &self.command {
            Command::Serve(serve) => (serve.listen.places(), serve.http.admin.clone()),
            Command::Demo(demo) => (demo.listen.places(), None),
            Command::Connect(_) | Command::Check(_) => return false,
        };
        listen.into_iter().chain(admin).any(|place| matches!(place, Place::Systemd(_)))
    }
}

/// An unexpected argument that is not an option: most likely a program without `--` in front of it.
fn word_too_many(error: &clap::Error) -> Option<&String> {
    let ContextValue::String(word) = error.get(ContextKind::InvalidArg)? else { return None };
    (error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-')).then_some(word)
}

/// Without a command, the options are for `demo`.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let first = args.get(1).map(|first| first.to_string_lossy().into_owned());
    let own = ["-h", "--help", "-V", "--version"];
    if first.is_none_or(|first| first.starts_with('-') && !own.contains(&first.as_str())) {
        let at = args.len().min(1);
        args.insert(at, "demo".into());
    }
    args
}

/// Why the program exits early.
#[derive(Debug)]
pub(crate) enum Exit {
    /// The help or the version, printed to stdout.
    Shown(String),
    /// The arguments are wrong, or cannot be satisfied.
    Usage(String),
    /// It failed while running; the log says why.
    Failed,
}
