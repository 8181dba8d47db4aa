//! The program `mcp-sse`: an MCP server over HTTP+SSE with one command.
//!
//! Arguments become settings in [`args`], errors become exit codes here.

// Of the allocators that were tried, the one that is fast and gives memory back (see docs/benchmarks).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod args;
mod demo;

use std::{io::Write as _, process::ExitCode};

use mcp_sse::{Server, Session, SseServerTransport};
use rmcp::ServiceExt as _;
use tokio::net::TcpListener;

use crate::{
    args::{Args, Exit, LogFormat},
    demo::Demo,
};

/// What a client that reads nothing more may cost, beyond the stall timeout, before its connection is cut.
const STALL_MARGIN: std::time::Duration = std::time::Duration::from_secs(5);
/// What connections get, at a shutdown, after the streams have ended.
const LAST_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

fn main() -> ExitCode {
    let exit = Args::read().and_then(|args| {
        start_log(&args)?;
        // On one core the single-thread runtime is fairer, by far: a lone worker of the other serves what
        // is ready over and over while other connections wait (see docs/benchmarks).
        let one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        let runtime = if one_core {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        } else {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()
        };
        let runtime = runtime.map_err(|error| Exit::Usage(format!("cannot start: {error}")))?;
        let result = runtime.block_on(run(&args));
        // What is still running is over its time.
        runtime.shutdown_background();
        result
    });
    match exit {
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
    }
}

fn start_log(args: &Args) -> Result<(), Exit> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log.log_level)
        .map_err(|error| Exit::Usage(format!("--log-level {}: {error}", args.log.log_level)))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would report a log that cannot be written (a full disk) to stderr, and panic over that.
        .log_internal_errors(false);
    match args.log.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn run(args: &Args) -> Result<(), Exit> {
    let transport = args.transport().map_err(Exit::Usage)?;
    let server = mount(&transport, &args.listen.sse_path, &args.listen.message_path)?
        .max_connections(args.listen.max_connections)
        .max_unacknowledged(args.stall_timeout() + STALL_MARGIN);
    let address = args.listen.address();
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Exit::Usage(format!("cannot listen on {address}: {error}; choose another with --host or --port"))
    })?;
    let mut signals =
        Signals::new().map_err(|error| Exit::Usage(format!("cannot wait for signals: {error}")))?;
    let address = listener.local_addr().unwrap_or(address);
    greet(&format!("http://{address}{}", args.listen.sse_path));

    let end = async {
        signals.next().await;
        // Connections are still accepted, so that answers to the server's own requests come in.
        tokio::select! {
            _ = transport.shutdown(args.listen.shutdown_timeout) => {}
            () = signals.next() => tracing::warn!("a second signal: not waiting any longer"),
        }
    };
    server.serve(listener, end, LAST_PATIENCE).await;
    Ok(())
}

fn mount(transport: &SseServerTransport, sse_path: &str, message_path: &str) -> Result<Server, Exit> {
    let plain = |path: &str| path.starts_with('/') && !path.contains(['{', '}', '?', '#', ' ']);
    if !plain(sse_path) {
        return Err(Exit::Usage(format!("--sse-path {sse_path:?} is not a path; expected one such as /sse")));
    }
    if sse_path.trim_end_matches('/') == message_path.trim_end_matches('/') {
        return Err(Exit::Usage(format!(
            "--sse-path and --message-path are both {sse_path:?}; they must differ"
        )));
    }
    let demo = Demo::new();
    let app = move |session: Session| {
        let server = demo.session();
        async move {
            let id = session.id();
            match server.serve(session).await {
                Ok(running) => {
                    let _ = running.waiting().await;
                }
                Err(error) => tracing::info!(session = %id, %error, "the client did not initialize"),
            }
        }
    };
    Ok(Server::new().mount(sse_path, transport, app))
}

/// Where the server is and how to connect. If nobody reads it, that is no reason to stop.
fn greet(url: &str) {
    let _ = writeln!(
        std::io::stdout(),
        r#"mcp-sse {version}: the built-in demo server is at {url}

Connect a client:
  any client's configuration   {{"mcpServers": {{"demo": {{"type": "sse", "url": "{url}"}}}}}}
  the MCP Inspector            npx @modelcontextprotocol/inspector --cli {url} --transport sse --method tools/list
  only to see the stream       curl -N {url}

Ctrl-C ends it."#,
        version = env!("CARGO_PKG_VERSION"),
    );
}

/// SIGINT and SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
