//! `mcp-sse demo`: a small built-in MCP server, to try a client on.

mod mcp;

use std::{io::Write as _, path::Path, sync::Arc};

use mcp_sse::Session;
use rmcp::ServiceExt as _;
use tokio::signal::unix::{SignalKind, signal};

use self::mcp::Demo;
use crate::{
    access::{KeyFile, KeyFiles},
    args::{self, Exit},
    listening::{LAST_PATIENCE, Listening, STALL_MARGIN},
    reread::Reread,
    signals::Signals,
};

pub(crate) async fn run(args: &args::Demo) -> Result<(), Exit> {
    let args::Demo { access, listen, limits, .. } = args;
    if args.stdio {
        // An error means that the client did not initialize a session.
        if let Ok(running) = Demo::new().session().serve(rmcp::transport::stdio()).await {
            let _ = running.waiting().await;
        }
        return Ok(());
    }
    let transport = listen.transport(limits, false).map_err(Exit::Usage)?;
    let tls = listen.tls().map_err(Exit::Usage)?;
    let key_files = Arc::<KeyFiles>::default();
    // Held to the end, or they would not be read again.
    let keys = access.file().map(|(file, _)| key_files.get(&file)).transpose().map_err(Exit::Usage)?;
    let transport = match &keys {
        Some(keys) => transport.with_authentication(keys.tokens.clone()),
        None => transport,
    };
    listen.check_paths().map_err(Exit::Usage)?;
    let listener = Listening::at(&listen.places()).await.map_err(Exit::Usage)?;
    if let Some(address) = listener.open_to_networks() {
        listen.check_address(address).map_err(Exit::Usage)?;
    }
    let mut signals =
        Signals::new().map_err(|error| Exit::Usage(format!("cannot wait for signals: {error}")))?;
    let reread = Arc::new(Reread { key_files, tls: tls.clone() });
    if !reread.is_empty() {
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| Exit::Usage(format!("cannot wait for SIGHUP: {error}")))?;
        tokio::spawn(Arc::clone(&reread).every_second());
        tokio::spawn(reread.on(hangup));
    }
    greet(
        &format!("{}{}", listener.base(tls.is_some()), listen.sse_path),
        keys.as_deref().map(KeyFile::path),
        listener.places(),
    );
    let end = async {
        signals.next().await;
        // Connections are still accepted, so that answers to the server's own requests come in.
        tokio::select! {
            _ = transport.shutdown(listen.shutdown_timeout) => {}
            () = signals.next() => tracing::warn!("a second signal: not waiting any longer"),
        }
    };
    let demo = Demo::new();
    let app = move |session: Session| {
        let server = demo.session();
        async move {
            let id = session.handle().id();
            match server.serve(session).await {
                Ok(running) => {
                    let _ = running.waiting().await;
                }
                Err(error) => tracing::info!(session = %id, %error, "the client did not initialize"),
            }
        }
    };
    listen
        .server(tls.as_ref())
        .mount(&listen.sse_path, &transport, app)
        .tcp_user_timeout(limits.stall_timeout + STALL_MARGIN)
        .serve(listener, end, LAST_PATIENCE)
        .await;
    Ok(())
}

/// Prints where the server is and how to connect. A closed stdout is ignored.
fn greet(url: &str, keys: Option<&Path>, places: Option<String>) {
    let keys = keys.map(|file| {
        let file = file.display();
        format!("Clients need a key from {file}, as the header \"Authorization: Bearer KEY\".\n")
    });
    let keys = keys.unwrap_or_default();
    let places = places.map(|places| format!("Listening on {places}\n")).unwrap_or_default();
    let _ = writeln!(
        std::io::stdout(),
        r#"mcp-sse {version}: the built-in demo server is at {url}

Connect a client:
  any client's configuration   {{"mcpServers": {{"demo": {{"type": "sse", "url": "{url}"}}}}}}
  the MCP Inspector            npx @modelcontextprotocol/inspector --cli {url} --transport sse --method tools/list
  only to see the stream       curl -N {url}

Serve a server of your own: mcp-sse serve -- COMMAND
{keys}{places}Ctrl-C ends it."#,
        version = env!("CARGO_PKG_VERSION"),
    );
}
