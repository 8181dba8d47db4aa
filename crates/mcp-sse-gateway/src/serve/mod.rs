//! The gateway: servers under paths, over SSE and Streamable HTTP, until a signal.
//!
//! | room | what lives there |
//! |---|---|
//! | here | startup, signals, shutdown |
//! | `paths` | which paths each server has |
//! | `servers` | the table of named servers, and reloads of it |
//! | `named` | one of them |
//! | `target` | what a session is given to reach its server |
//! | `session` | one session: from the client's first message to the server's end |
//! | `hosts` | a server, as requests reach it that belong to no session |
//! | `passing` | such a request, passed on to a remote server that needs no session |
//! | `life` | one over HTTP+SSE, which may rest |
//! | `history` | what was last seen of a server |
//! | `probe` | a session without a client, which finds out whether a server is well |
//! | `http` | everything other than SSE: Streamable HTTP and the health checks |
//! | `admin` | what operators see: health checks, metrics, status, sessions, and the page that shows them |

mod admin;
mod history;
mod hosts;
mod http;
mod life;
mod named;
mod passing;
mod paths;
mod probe;
mod servers;
mod session;
mod target;

use std::{path::PathBuf, sync::Arc, time::Duration};

use mcp_sse::Backplane;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use self::{http::Beside, servers::Table};
use crate::{
    access::{Auth, Clients, Guards},
    args::{Exit, HealthCheck, Others, Plan, Serve},
    audit::{Audit, Place},
    backend::{child::Children, remote},
    calls::Watchers,
    config::{self, Configuration},
    encoded::in_url,
    listening::{LAST_PATIENCE, Listening, STALL_MARGIN},
    metrics::{Counts, Metrics},
    replicas::Replicas,
    reread::Reread,
    signals::{self, Signals},
    traces::Traces,
};

/// How long servers are not probed after they were, with `--health-check server`.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// How long the end of all sessions may take, in addition to the configured timeouts.
const END_PATIENCE: Duration = Duration::from_secs(15);

pub(crate) async fn run(args: &Serve) -> Result<(), Exit> {
    let mut plan = args.plan().map_err(Exit::Usage)?;
    let audit = args
        .http
        .audit_log
        .as_ref()
        .map(|place| Audit::open(place, args.http.audit_lossy, args.limits.calls(plan.programs)));
    let audit = audit.transpose().map_err(Exit::Usage)?;
    let metrics = args.http.metrics.then(|| Arc::new(Metrics::new()));
    let counts = metrics.clone().map(Counts);
    let joins = args.cluster.joins().map_err(Exit::Usage)?;
    let read = |file: &PathBuf| config::read(file).map_err(Exit::Usage);
    let mut configuration = plan.config.as_ref().map(read).transpose()?.unwrap_or_default();
    let auth_of_all = args.access.auth();
    apply(auth_of_all.as_ref(), &mut configuration).map_err(Exit::Usage)?;
    let Configuration { servers, auths } = configuration;
    if let Some(file) = &plan.config
        && servers.is_empty()
        && plan.main.is_none()
    {
        return Err(Exit::Usage(format!("{}: there is no server in it", file.display())));
    }
    let tls = args.listen.tls().map_err(Exit::Usage)?;
    let client = remote::client(&plan.tls).map_err(Exit::Usage)?;
    // First, since a port in use ends the program before anything is started.
    let listener = Listening::at(&args.listen.places()).await.map_err(Exit::Usage)?;
    if let Some(address) = listener.open_to_networks() {
        args.listen.check_address(address).map_err(Exit::Usage)?;
    }
    let admin = match &args.http.admin {
        Some(place) => Some(Listening::at(std::slice::from_ref(place)).await.map_err(Exit::Usage)?),
        None => None,
    };
    // With a proxy, the clients are elsewhere even if their connections come from loopback.
    let is_local = listener.is_loopback() && !args.listen.trusts_proxies();
    // Clients on this machine may see what its programs write to stderr.
    plan.bounds.stderr_to_client |= is_local;
    let mut signals =
        Signals::new().map_err(|error| Exit::Usage(format!("cannot wait for signals: {error}")))?;
    let children =
        Children::new(plan.bounds).map_err(|error| Exit::Usage(format!("cannot start: {error}")))?;
    // Last of what may fail for a reason of its own, since the others hear of it.
    let replicas = match joins {
        Some(joins) => Some(joins.join().await.map_err(Exit::Usage)?),
        None => None,
    };
    let revives = args.keep.keep().revive == Some(true)
        || servers.values().any(|defined| defined.keep.revive == Some(true));
    let records = match &replicas {
        Some(replicas) if revives => Some(replicas.records().await.map_err(Exit::Usage)?),
        _ => None,
    };
    let keeps = records.is_some();
    let backplane = replicas.as_ref().map(|replicas| replicas.backplane() as Arc<dyn Backplane>);
    let transport = args
        .listen
        .transport(&args.limits, plan.programs, counts, Others { backplane, records })
        .map_err(Exit::Usage)?;
    let server = args.listen.server(tls.as_ref());
    let (elsewhere, here) = remote::clients_without_redirects(&plan.tls).map_err(Exit::Usage)?;
    let guards = Arc::new(Guards::new(
        Clients { elsewhere, here, insecure: plan.tls.insecure },
        args.access.patience(),
        args.access.serves_issuer_metadata(),
        args.access.bases(&listener, &args.listen, tls.is_some()),
    ));
    let admin_keys = args.http.admin_token_file.as_deref().map(|file| guards.keys(file));
    let admin_keys = admin_keys.transpose().map_err(Exit::Usage)?;
    if let Some(address) = admin.as_ref().and_then(Listening::open_to_networks)
        && metrics.is_some()
        && admin_keys.is_none()
    {
        return Err(Exit::Usage(format!(
            "--admin {address} is not a loopback address: --metrics needs --admin-token-file FILE there"
        )));
    }
    let sessions = admin.is_some().then(Arc::default);
    let traces = Traces::from_environment(client.clone()).map_err(Exit::Usage)?;
    let table = Table::new(
        args,
        transport.clone(),
        server.routes(),
        children.clone(),
        client,
        plan.bounds,
        Arc::clone(&guards),
        Watchers { metrics: metrics.clone(), audit: audit.clone(), traces: traces.clone() },
        sessions,
        (replicas.clone(), keeps),
    );
    if let Some(main) = &plan.main {
        table.set("", main.clone(), auths.of("")).map_err(Exit::Usage)?;
    }
    if plan.config.is_some() {
        table.replace(servers, &auths).map_err(Exit::Usage)?;
    }
    // Before the greeting, after which SIGHUP may be sent.
    let hangup = signal(SignalKind::hangup())
        .map_err(|error| Exit::Usage(format!("cannot wait for SIGHUP: {error}")))?;
    let page = args.http.page.unwrap_or(is_local);
    greet(args, &plan, &table, &listener, admin.as_ref(), tls.is_some(), page);
    signals::tell_systemd(&[NotifyState::Ready]);
    let reread = Arc::new(Reread { guards, tls: tls.clone() });
    tokio::spawn(Arc::clone(&reread).every_second());
    let reload = Reload { file: plan.config.clone(), auth_of_all, table: Arc::clone(&table), reread };
    tokio::spawn(reload.on(hangup));

    let beside = Beside::new(Arc::clone(&table), &args.http, page, args.access.public_url());
    let _hosts = beside.offer_to_others();
    let is_open = admin.as_ref().is_some_and(|admin| admin.open_to_networks().is_some());
    let inside = admin::Admin { health: beside.health(), metrics, keys: admin_keys, is_open };
    let _admin_host = inside.offer_to_others();
    let admin = admin.map(|listener| tokio::spawn(admin::serve(listener, inside)));
    let probes = match args.http.health_check {
        HealthCheck::Gateway => None,
        HealthCheck::Server => Some(tokio::spawn(probe_again(Arc::clone(&table)))),
    };
    let closes = listener.closes();
    let end = async {
        signals.next().await;
        signals::tell_systemd(&[NotifyState::Stopping]);
        beside.drain();
        if let Some(probes) = &probes {
            probes.abort();
        }
        let timeout = args.listen.shutdown_timeout;
        // Connections are still accepted, so that answers to the servers' own requests come in; unless they do through
        // others, where new clients are better off: some give up at the first 503.
        if replicas.as_ref().is_some_and(Replicas::have_another) {
            tracing::info!("connections are not accepted any more: the other replicas take requests");
            closes.cancel();
        }
        let drained = async {
            let relayed = async {
                if let Some(replicas) = &replicas {
                    let _ = tokio::time::timeout(timeout, replicas.drained()).await;
                }
            };
            tokio::join!(transport.shutdown(timeout), table.drain_http(timeout), relayed);
            table.sessions_ended().await;
            // There is nothing left for which the others would come here.
            if let Some(replicas) = &replicas {
                replicas.leave().await;
            }
            children.ended().await;
        };
        // Each part has its own deadline; this one guards against a part that hangs anyway.
        let patience = timeout + 2 * plan.bounds.stop_timeout + END_PATIENCE;
        let hurried = tokio::select! {
            drained = tokio::time::timeout(patience, drained) => drained.is_err(),
            () = signals.next() => {
                tracing::warn!("a second signal: not waiting any longer");
                true
            }
        };
        if hurried {
            children.hurry();
            tokio::join!(transport.shutdown(Duration::ZERO), table.end_http());
            // The keepers end whatever is left when this process exits.
            let _ = tokio::time::timeout(LAST_PATIENCE, children.ended()).await;
        }
    };
    server
        .tcp_user_timeout(args.limits.stall_timeout + STALL_MARGIN)
        .fallback(beside.clone())
        .serve(listener, end, LAST_PATIENCE)
        .await;
    let last = async {
        let audit = async {
            if let Some(audit) = audit {
                audit.close().await;
            }
        };
        let traces = async {
            if let Some(traces) = traces {
                traces.close().await;
            }
        };
        tokio::join!(audit, traces);
    };
    tokio::select! {
        () = last => {}
        () = signals.next() => tracing::warn!("a second signal: the last spans or lines of the audit log may be lost"),
    }
    // Dropping the task removes its socket.
    if let Some(admin) = admin {
        admin.abort();
        let _ = admin.await;
    }
    Ok(())
}

/// What the command line says is for all servers that have nothing of their own.
fn apply(auth_of_all: Option<&(Auth, String)>, configuration: &mut Configuration) -> Result<(), String> {
    let Some((auth, named)) = auth_of_all else { return Ok(()) };
    if let Some(other) = &configuration.auths.all {
        return Err(format!(
            "{named} ({auth}) and \"auth\" in the configuration file ({other}) both say what clients need; give one of them"
        ));
    }
    configuration.auths.all = Some(auth.clone());
    Ok(())
}

/// What is read again on SIGHUP. A mistake in it changes nothing.
struct Reload {
    file: Option<PathBuf>,
    auth_of_all: Option<(Auth, String)>,
    table: Arc<Table>,
    reread: Arc<Reread>,
}

impl Reload {
    async fn on(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            self.reread.look(true).await;
            let Some(path) = self.file.clone() else {
                if !self.reread.is_empty() {
                    continue;
                }
                // It only must not end the program.
                tracing::info!(
                    "SIGHUP ignored: there is no --config, --bearer-token-file, file of --jwks or --tls-cert to read again"
                );
                continue;
            };
            let read = tokio::task::spawn_blocking(move || config::read(&path)).await;
            let replaced = match read {
                Ok(Ok(configuration)) => self.replace(configuration).await,
                Ok(Err(error)) => Err(error),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = replaced {
                tracing::error!("the configuration was not changed: {error}");
            }
        }
    }

    async fn replace(&self, mut configuration: Configuration) -> Result<(), String> {
        apply(self.auth_of_all.as_ref(), &mut configuration)?;
        let table = Arc::clone(&self.table);
        // It reads files, which may be on a network.
        let replaced =
            tokio::task::spawn_blocking(move || table.replace(configuration.servers, &configuration.auths));
        replaced.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Probes all servers, for as long as it runs.
async fn probe_again(table: Arc<Table>) {
    loop {
        table.probe_all().await;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Prints where the servers are. A closed stdout is ignored.
fn greet(
    args: &Serve,
    plan: &Plan,
    table: &Table,
    listener: &Listening,
    admin: Option<&Listening>,
    tls: bool,
    page: bool,
) {
    use std::io::Write;
    let mut text = format!("mcp-sse {}\n", env!("CARGO_PKG_VERSION"));
    let url_at = |base: &str, path: &str| match Url::parse(base) {
        Ok(mut url) => {
            url.set_path(path);
            url.to_string()
        }
        Err(_) => format!("{base}{path}"),
    };
    let url = |path: &str| match args.access.public_url() {
        // As clients write it, since they compare it.
        Some(base) => format!("{base}{}", in_url(path)),
        None => url_at(&listener.base(tls), path),
    };
    for named in table.all() {
        let name = if named.name.is_empty() { "the server" } else { &named.name };
        text.push_str(&format!("\n{name}: {}\n  SSE              {}\n", named.what(), url(&named.paths.sse)));
        if !args.http.no_mcp {
            text.push_str(&format!("  Streamable HTTP  {}\n", url(&named.paths.mcp)));
        }
        if let Some(protection) = &named.protection {
            text.push_str(&format!("  Access           {}\n", protection.shown()));
        }
    }
    if page {
        text.push_str(&format!("\nThe page           {}\n", url("/")));
    }
    let places = listener.places().or_else(|| args.access.public_url().map(|_| listener.base(tls)));
    if let Some(places) = places {
        text.push_str(&format!("\nListening on {places}\n"));
    }
    if let Some(admin) = admin {
        let at = admin.places().map(|places| format!(" on {places}")).unwrap_or_default();
        text.push_str(&format!("\nHealth checks      {}{at}\n", url_at(&admin.base(false), "/healthz")));
        text.push_str(&format!("Sessions           {}{at}\n", url_at(&admin.base(false), "/")));
        if args.http.metrics {
            text.push_str(&format!("Metrics            {}{at}\n", url_at(&admin.base(false), "/metrics")));
        }
    }
    if plan.config.is_some() {
        text.push_str("\nSIGHUP reads the configuration again. ");
    } else {
        text.push('\n');
    }
    text.push_str("Ctrl-C ends it.\n");
    // Stdout has nothing but lines of JSON if the audit log goes there.
    let mut out: Box<dyn Write> = match args.http.audit_log {
        Some(Place::Stdout) => Box::new(std::io::stderr()),
        _ => Box::new(std::io::stdout()),
    };
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
