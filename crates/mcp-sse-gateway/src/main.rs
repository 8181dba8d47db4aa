//! The program `mcp-sse`: serves MCP servers of all kinds to clients that speak HTTP+SSE, and connects stdio clients to
//! remote servers.
//!
//! Arguments become settings in [`args`], errors become exit codes here.

// The fastest of the allocators tried that also returns memory to the system (see docs/benchmarks).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(not(unix))]
compile_error!("mcp-sse runs its servers in process groups and acts on signals: it needs a Unix system");

mod access;
mod answer;
mod args;
mod audit;
mod backend;
mod bridge;
mod bridged;
mod calls;
mod check;
mod clock;
mod config;
mod connect;
mod demo;
mod encoded;
mod front;
mod init;
mod limits;
mod listening;
mod log;
mod message;
mod metrics;
mod pace;
mod page;
mod place;
mod relay;
mod replicas;
mod reread;
mod revive;
mod secret_file;
mod serve;
mod signals;
mod traces;
mod watched;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use crate::{
    args::{Args, Command, Exit},
    backend::child::{isolation, keeper, launch},
};

fn main() -> ExitCode {
    isolation::close_to_others();
    // Roles of this binary that run as separate processes.
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let word = args.get(1).cloned().unwrap_or_default();
    let rest = args.clone().into_iter().skip(2);
    match word.to_str() {
        #[cfg(target_os = "linux")]
        Some(launch::WORD) => return launch::run(rest),
        Some(keeper::WORD) => return keeper::run(launch::WORD, rest),
        #[cfg(target_os = "linux")]
        Some(isolation::clear::WORD) => return isolation::clear::run(rest),
        Some(init::WORD) => return init::run(rest),
        Some(init::SECOND) => drop(args.remove(1)),
        _ if init::is_first() => return init::run(args.into_iter().skip(1)),
        _ => {}
    }
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit::Shown(text)) => {
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(Exit::Usage(text)) => {
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let _ = writeln!(std::io::stderr(), "error: {text}");
            ExitCode::from(2)
        }
        Err(Exit::Failed) => ExitCode::FAILURE,
    }
}

fn start(args: Vec<OsString>) -> Result<(), Exit> {
    let args = Args::read(args)?;
    if args.wants_inherited() {
        listening::inherited::read();
    }
    let _log = log::start(args.log())?;
    limits::raise();
    // On one core, the current-thread runtime is far fairer: a single worker of the multi-thread runtime keeps polling
    // tasks that are ready while other connections wait (see docs/benchmarks).
    let one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if one_core {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Exit::Usage(format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        match &args.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Connect(args) => connect::run(args).await,
            Command::Check(args) => check::run(args),
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // Tasks that still run have exceeded their deadlines.
    runtime.shutdown_background();
    result
}
