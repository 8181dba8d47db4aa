//! `mcp-sse serve`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::ValueEnum;

use super::{
    access::Access,
    cluster::ClusterOptions,
    connect::headers,
    isolation::IsolationOptions,
    listen::{Limits, Listen, check_path},
    log::Log,
    values::{at_least_one, duration},
};
use crate::{
    audit,
    backend::{
        child::{self, Command},
        remote::{Kind, Tls},
    },
    bridge::Era,
    config::{self, RemoteServer, Server},
    listening::Place,
    revive::{Keep, Restart},
};

/// Serve MCP servers to clients that speak HTTP+SSE, and beside that to those that speak Streamable HTTP
///
/// A server is a program that speaks MCP on its stdin and stdout (started once for each session, without a
/// shell), or a remote one.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mcp-sse serve -- npx -y @modelcontextprotocol/server-everything
  mcp-sse serve --port 9000 --env TOKEN=s3cret -- uvx mcp-server-git
  mcp-sse serve --config mcp.json   (each server under /NAME/sse; SIGHUP reads it again)
  mcp-sse serve --upstream https://example.com/mcp --header 'Authorization: Bearer ${TOKEN}'")]
pub(crate) struct Serve {
    /// The program to start for each session, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    /// File with named servers, in the `mcpServers` format of MCP clients
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// URL of a remote server
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    upstream: Option<String>,

    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    isolation: IsolationOptions,
    #[command(flatten)]
    pub(crate) keep: KeepOptions,
    #[command(flatten)]
    remote: RemoteOptions,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) http: Http,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Programs")]
struct Program {
    /// Set an environment variable of COMMAND. Repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Pass on only HOME, LOGNAME, PATH, SHELL, TERM and USER of this program's environment to COMMAND
    #[arg(long)]
    clean_env: bool,

    /// Set an environment variable of COMMAND from a request header, as in `X-User=MCP_USER`. The first request
    /// of a session that has the header decides, whether it opens the stream or posts; a later one with another
    /// value gets 403. Without the header the variable is not set. Repeatable
    #[arg(long, value_name = "HEADER=NAME")]
    env_from_header: Vec<String>,

    /// Working directory of COMMAND
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// When a program dies, tell its client the last lines that it wrote to stderr. This is the default only on a
    /// loopback address without a trusted proxy
    #[arg(long)]
    stderr_to_client: bool,

    /// Start at most N programs a second; more wait
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    start_rate: usize,

    /// How long a server may take from its start to its answer to `initialize`
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    start_timeout: Duration,

    /// How long a program may take to end when its input ends, and again after SIGTERM, before SIGKILL
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    stop_timeout: Duration,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Servers that end before their sessions")]
pub(crate) struct KeepOptions {
    /// When another one takes the place of a server that has ended: the session goes on, and what it was asked gets an error
    #[arg(long, value_enum, default_value_t = Restart::OnFailure)]
    restart: Restart,

    /// How long a server may say nothing before it is pinged; if it does not answer within the same time, it counts as
    /// dead. Off if not given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ping_interval: Option<Duration>,

    /// End a server after this time without a message of its client, until there is one; not while it has subscriptions.
    /// Off if not given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_stop: Option<Duration>,

    /// Which protocol servers speak: the one with a handshake, up to revision 2025-11-25, or the stateless one, from revision
    /// 2026-07-28 on. Messages of clients that speak the other one are translated
    #[arg(long, value_enum, default_value_t = Era::Auto)]
    pub(crate) era: Era,

    /// With --cluster: another gateway revives the sessions of one that is gone, with a new server, when their clients come
    /// back with Last-Event-ID. Only for servers whose sessions have no state but `initialize`, the log level and
    /// subscriptions. NATS needs --jetstream for it
    #[arg(long, requires = "cluster")]
    revive: bool,
}

impl KeepOptions {
    pub(crate) fn keep(&self) -> Keep {
        let Self { restart, ping_interval, idle_stop, revive, .. } = *self;
        Keep { restart: Some(restart), ping_interval, idle_stop, revive: revive.then_some(true) }
    }
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Remote servers")]
struct RemoteOptions {
    /// What --upstream speaks
    #[arg(long, value_enum, default_value_t = Kind::Auto)]
    transport: Kind,

    /// Header for requests to --upstream; `${NAME}` is the value of an environment variable. Repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,

    /// Request header of the client to pass on, as in `Authorization`. A session keeps the first value, and a
    /// request with another one gets 403; `Authorization`, `Proxy-Authorization` and `Cookie` may change. Repeatable
    #[arg(long, value_name = "NAME")]
    header_from_client: Vec<String>,

    /// PEM file of certificates to trust, in addition to the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Trust any certificate: for tests, never over a network
    #[arg(long)]
    insecure: bool,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Streamable HTTP and health")]
pub(crate) struct Http {
    /// Path of Streamable HTTP
    #[arg(long, value_name = "PATH", default_value = "/mcp")]
    pub(crate) mcp_path: String,

    /// Do not serve Streamable HTTP
    #[arg(long)]
    pub(crate) no_mcp: bool,

    /// Close a session over Streamable HTTP once it has been idle for this long; 0s never does
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub(crate) mcp_idle_timeout: Duration,

    /// Prefix of the paths of the servers in a configuration file, as in `/servers`
    #[arg(long, value_name = "PATH")]
    base_path: Option<String>,

    /// Serve a page for people at /: how clients are connected, and a console to try the servers. It shows servers that
    /// need a key only to those who have one. On unless other machines can reach the gateway
    #[arg(long, value_name = "on|off", value_parser = on_off, num_args = 0..=1, default_missing_value = "on", require_equals = true)]
    pub(crate) page: Option<bool>,

    /// Another path that answers like /healthz. Repeatable
    #[arg(long, value_name = "PATH")]
    pub(crate) health_endpoint: Vec<String>,

    /// Also answer the health checks, at HOST:PORT or unix:PATH, and show operators what goes on: a page, /status,
    /// /sessions; nothing that clients use. Connections there have a limit
    /// of their own, so that a gateway that is full still answers
    #[arg(long, value_name = "PLACE", value_parser = Place::parse)]
    pub(crate) admin: Option<Place>,

    /// What /readyz is about. `server` starts each server every 30s, pings it and ends it; not those that get headers of
    /// their clients
    #[arg(long, value_enum, default_value_t = HealthCheck::Gateway)]
    pub(crate) health_check: HealthCheck,

    /// Write a line of JSON for each call of a client to this file, or to stdout (-): when, who, what and how it went,
    /// never arguments or results. While it cannot be written, no call is taken
    #[arg(long, value_name = "FILE|-", value_parser = audit::Place::parse)]
    pub(crate) audit_log: Option<audit::Place>,

    /// Rather lose lines of the audit log than calls
    #[arg(long, requires = "audit_log")]
    pub(crate) audit_lossy: bool,

    /// Also serve metrics at --admin, for Prometheus: /metrics
    #[arg(long, requires = "admin")]
    pub(crate) metrics: bool,

    /// File with the keys of those who may see more than health checks at --admin, as with --bearer-token-file. Needed
    /// with --metrics unless --admin is a loopback address or a Unix socket
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub(crate) admin_token_file: Option<PathBuf>,
}

/// What the arguments ask for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// At the root paths.
    pub(crate) main: Option<Server>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) tls: Tls,
    pub(crate) bounds: child::Bounds,
    /// Sessions may start programs.
    pub(crate) programs: bool,
}

impl Serve {
    pub(crate) fn plan(&self) -> Result<Plan, String> {
        let main = self.main()?;
        self.check_combinations(main.as_ref())?;
        self.check_paths()?;
        let Program { start_rate, start_timeout, stop_timeout, stderr_to_client, .. } = &self.program;
        let programs = self.config.is_some() || matches!(main, Some(Server::Command(_)));
        self.keep.keep().policy(*start_timeout, false)?;
        let RemoteOptions { ca_file, insecure, .. } = &self.remote;
        let children = self.limits.max_sessions(programs);
        Ok(Plan {
            main,
            config: self.config.clone(),
            tls: Tls { ca_file: ca_file.clone(), insecure: *insecure },
            bounds: child::Bounds {
                children,
                starts_per_second: u32::try_from(*start_rate).unwrap_or(u32::MAX),
                start_timeout: *start_timeout,
                stop_timeout: *stop_timeout,
                message_bytes: self.limits.max_message_bytes,
                users: self.isolation.users(children, programs)?,
                stderr_to_client: *stderr_to_client,
            },
            programs,
        })
    }

    /// The server at the root paths.
    fn main(&self) -> Result<Option<Server>, String> {
        Ok(match (self.command.split_first(), &self.upstream) {
            (Some((program, args)), _) => Some(Server::Command(self.program(program, args)?)),
            (None, Some(upstream)) => Some(Server::Remote(self.remote(upstream)?)),
            (None, None) => None,
        })
    }

    fn program(&self, program: &OsString, args: &[OsString]) -> Result<Command, String> {
        let Program { env, clean_env, env_from_header, cwd, .. } = &self.program;
        let mut command = Command::new(program.clone());
        command.args = args.to_vec();
        command.clean_env = *clean_env;
        for pair in env {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("--env {pair:?}: expected NAME=VALUE"))?;
            config::check_variable(name).map_err(|why| format!("--env {pair:?}: {why}"))?;
            command.env.insert(name.to_owned(), value.into());
        }
        for pair in env_from_header {
            let wrong = |why: &str| format!("--env-from-header {pair:?}: {why}");
            let (header, name) =
                pair.split_once('=').ok_or_else(|| wrong("expected HEADER=NAME, as in X-User=MCP_USER"))?;
            config::check_variable(name).map_err(|why| wrong(&why))?;
            let header = config::header_name(header).map_err(|why| wrong(&why))?;
            command.env_from_header.push((header, name.to_owned()));
        }
        if let Some(cwd) = cwd {
            if !cwd.is_dir() {
                return Err(format!("--cwd {cwd:?} is not a directory"));
            }
            command.cwd = Some(cwd.clone());
        }
        command.isolation = self.isolation.isolation()?;
        if command.find().is_none() {
            return Err(format!(
                "cannot find the program {:?}; expected one in PATH, or a path (no shell is used: give a script as `sh -c '…'`)",
                command.name()
            ));
        }
        Ok(command)
    }

    fn remote(&self, upstream: &str) -> Result<RemoteServer, String> {
        let RemoteOptions { transport, header, header_from_client, .. } = &self.remote;
        let upstream =
            config::expand::from_environment(upstream).map_err(|why| format!("--upstream: {why}"))?;
        let headers_from_client = header_from_client
            .iter()
            .map(|name| config::passed_header(name).map_err(|why| format!("--header-from-client: {why}")));
        Ok(RemoteServer {
            url: config::remote_url(&upstream).map_err(|why| format!("--upstream {why}"))?,
            kind: *transport,
            headers: headers(header)?,
            headers_from_client: headers_from_client.collect::<Result<_, _>>()?,
        })
    }

    /// Fails for options that have nothing to apply to.
    fn check_combinations(&self, main: Option<&Server>) -> Result<(), String> {
        let wrong = |why: &str| Err(why.to_owned());
        if main.is_none() && self.config.is_none() {
            return wrong(
                "nothing to serve: give a program (mcp-sse serve -- COMMAND), --config FILE or --upstream URL; see --help",
            );
        }
        let Program { env, clean_env, env_from_header, cwd, start_timeout, .. } = &self.program;
        let is_program = matches!(main, Some(Server::Command(_)));
        if !is_program && (!env.is_empty() || *clean_env || !env_from_header.is_empty() || cwd.is_some()) {
            return wrong(
                "--env, --clean-env, --env-from-header and --cwd are for a program; in a configuration file each server has its own",
            );
        }
        if !is_program && self.isolation.is_asked_for() {
            return wrong(
                "--no-isolation, --sandbox and the limits are for a program; in a configuration file each server has its own",
            );
        }
        let RemoteOptions { transport, header, header_from_client, ca_file, insecure } = &self.remote;
        if self.upstream.is_none()
            && (!header.is_empty() || !header_from_client.is_empty() || *transport != Kind::Auto)
        {
            return wrong(
                "--transport, --header and --header-from-client are for --upstream; in a configuration file each server has its own",
            );
        }
        if self.config.is_none() && self.http.base_path.is_some() {
            return wrong("--base-path is for the named servers of a configuration file");
        }
        let connects = self.config.is_some() || self.upstream.is_some() || self.access.has_issuer();
        if !connects && (*insecure || ca_file.is_some()) {
            return wrong(
                "--insecure and --ca-file are for remote servers (--upstream, or a configuration file) and for --jwt-issuer",
            );
        }
        if start_timeout.is_zero() {
            return wrong("--start-timeout must be more than zero");
        }
        Ok(())
    }

    fn check_paths(&self) -> Result<(), String> {
        self.listen.check_paths()?;
        let Http { mcp_path, base_path, health_endpoint, .. } = &self.http;
        check_path("--mcp-path", mcp_path)?;
        if let Some(path) = base_path {
            check_path("--base-path", path)?;
        }
        for path in health_endpoint {
            check_path("--health-endpoint", path)?;
        }
        let ours = [
            ("--sse-path", &self.listen.sse_path),
            ("--message-path", &self.listen.message_path),
            ("--mcp-path", mcp_path),
        ];
        let health = self.http.health_paths();
        for (index, (option, path)) in ours.iter().enumerate() {
            let same = |other: &String| other.trim_end_matches('/') == path.trim_end_matches('/');
            if let Some((other, _)) = ours[..index].iter().find(|(_, other)| same(other)) {
                return Err(format!("{other} and {option} are both {path:?}; they must differ"));
            }
            if health.iter().any(same) {
                return Err(format!("{option} {path:?} is a path of the health checks; choose another"));
            }
        }
        Ok(())
    }
}

/// The value of an option that is on or off.
fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

impl Http {
    /// The paths of the health checks.
    pub(crate) fn health_paths(&self) -> Vec<String> {
        let own = ["/healthz".to_owned(), "/readyz".to_owned()];
        let mut paths: Vec<_> = own.into_iter().chain(self.health_endpoint.iter().cloned()).collect();
        // Naming one twice is no mistake.
        paths.sort();
        paths.dedup();
        paths
    }

    /// What stands before the paths of named servers, without a slash at its end.
    pub(crate) fn base_path(&self) -> &str {
        self.base_path.as_deref().unwrap_or_default().trim_end_matches('/')
    }
}

/// What has to be well for the gateway to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HealthCheck {
    /// The gateway alone
    Gateway,
    /// Its servers too
    Server,
}
