//! Where to listen, who may connect, and the limits.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use mcp_sse::{Backplane, Observer, Records, Server, SseServerTransport, TransportSecuritySettings};

use super::values::{at_least_one, duration};
use crate::listening::{
    Place, host_address,
    tls::{Files, Tls},
};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub(crate) struct Listen {
    /// Address to listen on; one that is not loopback needs --allowed-host
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host_address)]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,

    /// Where to listen instead: HOST:PORT, unix:PATH (a socket with mode 0660, removed on exit), systemd (all
    /// sockets that systemd passes) or systemd:NAME (those with that name). Repeatable
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["host", "port"], value_parser = Place::parse)]
    listen: Vec<Place>,

    /// Path of the stream (GET)
    #[arg(long, value_name = "PATH", default_value = "/sse")]
    pub(crate) sse_path: String,

    /// Path that clients post messages to
    #[arg(long, value_name = "PATH", default_value = "/messages/")]
    pub(crate) message_path: String,

    /// Path prefix that a proxy strips before it forwards a request
    #[arg(long, value_name = "PATH")]
    mount_prefix: Option<String>,

    /// Read that prefix from X-Forwarded-Prefix; only behind a proxy that sets the header
    #[arg(long)]
    trust_forwarded_prefix: bool,

    /// Host name that clients may use for the server, in addition to loopback names; on any port unless one is
    /// given. Web pages of that host may use the server too. `*` turns the checks of Host and Origin off: only
    /// behind something that does its own. Repeatable
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<String>,

    /// Origin whose web pages may use the server, in addition to loopback origins, as in
    /// `https://app.example.com`. Repeatable
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,

    /// Send CORS headers to pages of allowed origins, so that browsers let them use the server
    #[arg(long)]
    cors: bool,

    /// Whether a server gets an `initialize` from the gateway when its client begins without one, as today's
    /// TypeScript clients do when they reconnect
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set, hide_possible_values = true)]
    synthesize_initialize: bool,

    /// Maximum number of open connections; more wait
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = at_least_one)]
    max_connections: usize,

    /// Maximum number of open connections per address (for IPv6, per /64 network); further ones are closed at
    /// once. Does not apply to loopback addresses and Unix sockets
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = at_least_one)]
    max_connections_per_address: usize,

    /// Number of proxies in front that append to X-Forwarded-For: the client is entry N from the right. Sessions
    /// are then bounded per client address; connections are not bounded per address
    #[arg(long, value_name = "N", default_value_t = 0)]
    trust_forwarded_for: usize,

    /// Expect each connection to begin with a PROXY protocol v2 header, which names the client's address. Only
    /// behind a proxy that sends it, and only if nobody else can connect
    #[arg(long)]
    proxy_protocol: bool,

    /// Speak TLS, with this certificate and the authorities between it and the root, in PEM. Read again on SIGHUP and
    /// when a file changes. Unix sockets stay without TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key for --tls-cert, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Let in only clients with a certificate of an authority in this file, in PEM. A session is open only to the
    /// subject that opened it, or with keys or tokens to theirs
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// How long the head of a request may take to arrive, from its first byte; at least 1s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    header_timeout: Duration,

    /// How long requests in flight may take to finish on shutdown
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) shutdown_timeout: Duration,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Maximum number of sessions [default: 10000; 256 if a session may start a program]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_sessions: Option<usize>,

    /// Maximum number of sessions whose client has not sent a message yet, in addition to --max-sessions
    /// [default: 4 times --max-sessions if a session may start a program; else they count towards
    /// --max-sessions]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_silent_sessions: Option<usize>,

    /// Maximum number of sessions per address (for IPv6, per /64 network); does not apply to loopback
    /// [default: 1000; 200 if a session may start a program]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_sessions_per_address: Option<usize>,

    /// Sessions that one address may open per second, with bursts of five times as many; does not apply to
    /// loopback
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    sessions_per_second_per_address: u32,

    /// Maximum size of a client's message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024, value_parser = at_least_one)]
    pub(crate) max_body_bytes: usize,

    /// Maximum size of a server's message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, value_parser = at_least_one)]
    pub(crate) max_message_bytes: usize,

    /// Maximum number of unanswered requests per session
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_requests_in_flight: usize,

    /// Send a comment line on a stream after this much silence; 0s turns it off
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) keep_alive: Duration,

    /// How long a session waits for its client to reconnect; 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    resume_window: Duration,

    /// How long a client may leave its stream unread
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) stall_timeout: Duration,
}

/// The names that are always served.
const LOOPBACK: [&str; 3] = ["localhost:*", "127.0.0.1:*", "[::1]:*"];
/// The default of `--max-sessions` where no session starts a program, and where each may.
const MANY: usize = 10_000;
const PROGRAMS: usize = 256;
/// The same for `--max-sessions-per-address`: 200 people behind one address, with five sessions or one program each.
/// That leaves some for other addresses.
const MANY_OF_ADDRESS: usize = 1_000;
const PROGRAMS_OF_ADDRESS: usize = 200;
/// Silent sessions for each session that counts against `--max-sessions`. They have no program, so they are cheap.
const SILENT_FOR_EACH: usize = 4;

/// What connects the transport with those of other gateways.
#[derive(Default)]
pub(crate) struct Others {
    pub(crate) backplane: Option<Arc<dyn Backplane>>,
    pub(crate) records: Option<Arc<dyn Records>>,
}

impl Listen {
    /// The places to listen at.
    pub(crate) fn places(&self) -> Vec<Place> {
        if self.listen.is_empty() {
            return vec![Place::Tcp(SocketAddr::new(self.host, self.port))];
        }
        self.listen.clone()
    }

    /// Whether this address may be listened on: one that a network can reach needs a list of host names.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), String> {
        if address.is_loopback() || !self.allowed_host.is_empty() {
            return Ok(());
        }
        let option = if self.listen.is_empty() { "--host" } else { "--listen" };
        Err(format!(
            "{option} {address} is not a loopback address: name the hosts that clients use, with --allowed-host NAME (otherwise web pages could reach the server under any name)"
        ))
    }

    /// Whether there is a proxy in front, so that a loopback peer may be a client from anywhere.
    pub(crate) fn trusts_proxies(&self) -> bool {
        self.trust_forwarded_for > 0 || self.proxy_protocol || self.trust_forwarded_prefix
    }

    /// Whether clients may use other names than those of loopback, or another path.
    pub(crate) fn has_other_names(&self) -> bool {
        !self.allowed_host.is_empty() || self.mount_prefix.is_some()
    }

    /// TLS, if it is asked for.
    pub(crate) fn tls(&self) -> Result<Option<Arc<Tls>>, String> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let client_authorities = self.tls_client_ca.clone();
        let files = Files { certificate: certificate.clone(), key: key.clone(), client_authorities };
        Tls::new(files).map(Arc::new).map(Some)
    }

    /// A server with these settings for connections.
    pub(crate) fn server(&self, tls: Option<&Arc<Tls>>) -> Server {
        let server = match tls.cloned() {
            Some(tls) => Server::new().handshake(move |socket| {
                let tls = Arc::clone(&tls);
                async move { tls.handshake(socket).await }
            }),
            None => Server::new(),
        };
        server
            .max_connections(self.max_connections)
            .max_connections_per_address(self.max_connections_per_address)
            .trust_forwarded_for(self.trust_forwarded_for)
            .proxy_protocol(self.proxy_protocol)
            .header_timeout(self.header_timeout)
    }

    /// The transport with these settings, with messages posted to `--message-path`.
    pub(crate) fn transport(
        &self,
        limits: &Limits,
        programs: bool,
        observer: Option<impl Observer>,
        Others { backplane, records }: Others,
    ) -> Result<SseServerTransport, String> {
        let Self { allowed_host, allowed_origin, mount_prefix, .. } = self;
        for place in self.places() {
            if let Place::Tcp(address) = place {
                self.check_address(address.ip())?;
            }
        }
        let unprotected = allowed_host.iter().any(|host| host == "*");
        let named = allowed_host.iter().filter(|host| *host != "*").map(|host| on_any_port(host));
        let hosts: Vec<String> = LOOPBACK.map(str::to_owned).into_iter().chain(named).collect();
        let pages =
            hosts.iter().flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}")));
        let origins: Vec<String> = pages.chain(allowed_origin.iter().cloned()).collect();
        let security = if unprotected {
            TransportSecuritySettings::dangerously_unprotected()
        } else {
            TransportSecuritySettings::default()
        };
        let security = security.with_allowed_hosts(hosts).with_allowed_origins(origins);
        let sessions = limits.max_sessions(programs);
        let silent = limits.max_silent_sessions(programs);
        let mut builder = SseServerTransport::builder(&self.message_path)
            .security(security)
            .cors(self.cors)
            .trust_forwarded_prefix(self.trust_forwarded_prefix)
            .synthesize_initialize(self.synthesize_initialize)
            .max_sessions(sessions)
            .max_sessions_per_principal(sessions.saturating_add(silent.unwrap_or(0)))
            .max_sessions_per_address(limits.max_sessions_per_address(programs))
            .sessions_per_second_per_address(limits.sessions_per_second_per_address)
            .max_body_bytes(limits.max_body_bytes)
            .max_outbound_message_bytes(limits.max_message_bytes)
            .requests_in_flight(limits.max_requests_in_flight, 1024 * 1024)
            .keep_alive(limits.keep_alive)
            .resume_window(limits.resume_window)
            .stall_timeout(limits.stall_timeout);
        if let Some(observer) = observer {
            builder = builder.observe(observer);
        }
        if let Some(backplane) = backplane {
            builder = builder.backplane(backplane);
        }
        if let Some(records) = records {
            builder = builder.revive(records);
        }
        if let Some(silent) = silent {
            builder = builder.max_silent_sessions(silent);
        }
        if let Some(prefix) = mount_prefix {
            builder = builder.mount_prefix(prefix);
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// Checks that the two endpoints are paths, and differ.
    pub(crate) fn check_paths(&self) -> Result<(), String> {
        let Self { sse_path, message_path, .. } = self;
        check_path("--sse-path", sse_path)?;
        if sse_path.trim_end_matches('/') == message_path.trim_end_matches('/') {
            return Err(format!("--sse-path and --message-path are both {sse_path:?}; they must differ"));
        }
        Ok(())
    }
}

/// A name without a port stands for any port.
fn on_any_port(host: &str) -> String {
    // Skips the colons of an IPv6 address, which stands in brackets.
    let name = host.rfind(']').map_or(host, |end| &host[end..]);
    if name.contains(':') { host.to_owned() } else { format!("{host}:*") }
}

/// Whether it is a plain path.
pub(crate) fn check_path(option: &str, path: &str) -> Result<(), String> {
    if path.starts_with('/') && !path.contains(['{', '}', '?', '#', ' ', '%']) {
        return Ok(());
    }
    Err(format!("{option} {path:?} is not a path; expected one such as /sse"))
}

impl Limits {
    pub(crate) fn max_sessions(&self, programs: bool) -> usize {
        self.max_sessions.unwrap_or(if programs { PROGRAMS } else { MANY })
    }

    /// The bound on silent sessions, if they have a bound of their own.
    pub(crate) fn max_silent_sessions(&self, programs: bool) -> Option<usize> {
        let default = || programs.then(|| self.max_sessions(programs).saturating_mul(SILENT_FOR_EACH));
        self.max_silent_sessions.or_else(default)
    }

    /// How many calls there can be at a time, and one more of each session.
    pub(crate) fn calls(&self, programs: bool) -> usize {
        let sessions = self.max_sessions(programs);
        let silent = self.max_silent_sessions(programs).unwrap_or(0);
        sessions.saturating_mul(self.max_requests_in_flight.saturating_add(1)).saturating_add(silent)
    }

    fn max_sessions_per_address(&self, programs: bool) -> usize {
        self.max_sessions_per_address.unwrap_or(if programs { PROGRAMS_OF_ADDRESS } else { MANY_OF_ADDRESS })
    }
}
