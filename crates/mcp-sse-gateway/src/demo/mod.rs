//! `mcp-sse demo`: a small built-in MCP server, to try a client on.

mod beside;
mod mcp;

use std::{io::Write as _, sync::Arc};

use mcp_sse::Session;
use rmcp::ServiceExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tower_layer::Layer as _;

use self::{
    beside::{Beside, Paths},
    mcp::Demo,
};
use crate::{
    access::{Clients, Documents, Guards, Protection},
    args::{self, Exit, Others},
    backend::remote::{self, Tls},
    listening::{LAST_PATIENCE, Listening, STALL_MARGIN},
    metrics::Counts,
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
    let transport =
        listen.transport(limits, false, None::<Counts>, Others::default()).map_err(Exit::Usage)?;
    let tls = listen.tls().map_err(Exit::Usage)?;
    listen.check_paths().map_err(Exit::Usage)?;
    let listener = Listening::at(&listen.places()).await.map_err(Exit::Usage)?;
    if let Some(address) = listener.open_to_networks() {
        listen.check_address(address).map_err(Exit::Usage)?;
    }
    let (elsewhere, here) = remote::clients_without_redirects(&Tls::default()).map_err(Exit::Usage)?;
    let guards = Arc::new(Guards::new(
        Clients { elsewhere, here, insecure: false },
        access.patience(),
        access.serves_issuer_metadata(),
        access.bases(&listener, listen, tls.is_some()),
    ));
    // Held to the end, or its files would not be read again.
    let protection = access.auth().map(|(auth, _)| guards.protect(&auth, &listen.sse_path, None));
    let protection = protection.transpose().map_err(Exit::Usage)?.map(Arc::new);
    let documents = Documents { guards: Arc::clone(&guards), protection: protection.clone() };
    let is_local = listener.is_loopback() && !listen.trusts_proxies();
    let page = is_local.then(|| Paths {
        sse: listen.sse_path.as_str().into(),
        messages: format!("/{}", listen.message_path.trim_start_matches('/')).into(),
        public_url: access.public_url().map(Into::into),
    });
    let beside = transport.guard().layer(Beside { documents, page });
    let transport = match &protection {
        Some(protection) => transport.with_authentication(protection.sse.clone()),
        None => transport,
    };
    let mut signals =
        Signals::new().map_err(|error| Exit::Usage(format!("cannot wait for signals: {error}")))?;
    let reread = Arc::new(Reread { guards: Arc::clone(&guards), tls: tls.clone() });
    if !reread.is_empty() {
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| Exit::Usage(format!("cannot wait for SIGHUP: {error}")))?;
        tokio::spawn(Arc::clone(&reread).every_second());
        tokio::spawn(reread.on(hangup));
    }
    let base = access.public_url().map_or_else(|| listener.base(tls.is_some()), str::to_owned);
    let page = is_local.then(|| format!("{base}/"));
    greet(&format!("{base}{}", listen.sse_path), page, protection.as_deref(), listener.places());
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
        .fallback(beside)
        .tcp_user_timeout(limits.stall_timeout + STALL_MARGIN)
        .serve(listener, end, LAST_PATIENCE)
        .await;
    Ok(())
}

/// Prints where the server is and how to connect. A closed stdout is ignored.
fn greet(url: &str, page: Option<String>, protection: Option<&Protection>, places: Option<String>) {
    let needed = protection.map(|protection| {
        format!("Clients need {}, as the header \"Authorization: Bearer …\".\n", protection.auth)
    });
    let needed = needed.unwrap_or_default();
    let page = page.map(|page| format!("In a browser: {page}\n\n")).unwrap_or_default();
    let places = places.map(|places| format!("Listening on {places}\n")).unwrap_or_default();
    let _ = writeln!(
        std::io::stdout(),
        r#"mcp-sse {version}: the built-in demo server is at {url}

{page}Connect a client:
  any client's configuration   {{"mcpServers": {{"demo": {{"type": "sse", "url": "{url}"}}}}}}
  the MCP Inspector            npx @modelcontextprotocol/inspector --cli {url} --transport sse --method tools/list
  only to see the stream       curl -N {url}

Serve a server of your own: mcp-sse serve -- COMMAND
{needed}{places}Ctrl-C ends it."#,
        version = env!("CARGO_PKG_VERSION"),
    );
}
