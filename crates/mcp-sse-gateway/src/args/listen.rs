//! Where to listen, who may come, and how much.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mcp_sse::{Server, SseServerTransport, TransportSecuritySettings};

use super::values::{at_least_one, duration};
use crate::listening::{Place, host_address};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub(crate) struct Listen {
    /// Address to listen on; one that is not loopback needs --allowed-host
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host_address)]
    host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,

    /// Where to listen instead: HOST:PORT, unix:PATH (a socket with mode 0660, removed at the end), or systemd
    /// for the sockets that it passes on, systemd:NAME for those with that name. Repeatable
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["host", "port"], value_parser = Place::parse)]
    listen: Vec<Place>,

    /// Path of the stream (GET)
    #[arg(long, value_name = "PATH", default_value = "/sse")]
    pub(crate) sse_path: String,

    /// Path that clients post messages to
    #[arg(long, value_name = "PATH", default_value = "/messages/")]
    pub(crate) message_path: String,

    /// Path prefix that a proxy takes off before the request comes here
    #[arg(long, value_name = "PATH")]
    mount_prefix: Option<String>,

    /// Read that prefix from X-Forwarded-Prefix; only behind a proxy that sets the header
    #[arg(long)]
    trust_forwarded_prefix: bool,

    /// Host name that clients reach the server under, beside loopback names, on any port unless it has one;
    /// its own pages may use the server too. `*` turns the checks of Host and Origin off: only behind
    /// something that has its own. Repeatable
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<String>,

    /// Origin of web pages that may use the server, beside loopback origins, as in `https://app.example.com`. Repeatable
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,

    /// Send CORS headers to pages of allowed origins, so that browsers let them use the server
    #[arg(long)]
    cors: bool,

    /// Whether a server gets an `initialize` from the gateway when its client begins without one, as today's
    /// TypeScript clients do when they reconnect
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set, hide_possible_values = true)]
    synthesize_initialize: bool,

    /// Open connections at the most; more wait
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = at_least_one)]
    max_connections: usize,

    /// Open connections of one address at the most (of IPv6, of a /64 network); the next is closed at once.
    /// Loopback and Unix sockets have no such bound
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = at_least_one)]
    max_connections_per_address: usize,

    /// So many proxies in front add to X-Forwarded-For: the client is entry N from the right. Connections are
    /// then not bounded per address, sessions are
    #[arg(long, value_name = "N", default_value_t = 0)]
    trust_forwarded_for: usize,

    /// Each connection begins with a header of the PROXY protocol, version 2, which says where it comes from;
    /// only behind a proxy, and let nobody else connect
    #[arg(long)]
    proxy_protocol: bool,

    /// How long the head of a request may take from its first byte; 1s at the least
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    header_timeout: Duration,

    /// How long requests in flight may take to finish at a shutdown
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) shutdown_timeout: Duration,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Sessions at the most [default: 10000; 256 if a session may start a program]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_sessions: Option<usize>,

    /// Sessions at the most in which the client has said nothing yet, beside --max-sessions [default: 4 times
    /// --max-sessions if a session may start a program; else they count with the others]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_silent_sessions: Option<usize>,

    /// Sessions of one address at the most (of IPv6, of a /64 network); loopback has no bound
    /// [default: 1000; 200 if a session may start a program]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_sessions_per_address: Option<usize>,

    /// Sessions that one address may open a second, five times as many at once; loopback has no bound
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    sessions_per_second_per_address: u32,

    /// Bytes of a client's message at the most
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024, value_parser = at_least_one)]
    pub(crate) max_body_bytes: usize,

    /// Bytes of a server's message at the most
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024, value_parser = at_least_one)]
    pub(crate) max_message_bytes: usize,

    /// Unanswered requests of a session at the most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_requests_in_flight: usize,

    /// Silence after which a stream gets a comment line; 0s turns it off
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) keep_alive: Duration,

    /// How long a session waits for its client to reconnect; 0s turns it off
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    resume_window: Duration,

    /// How long a client may leave unread what waits for it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) stall_timeout: Duration,
}

/// Sessions that cost little, and sessions that may be a program each.
const MANY: usize = 10_000;
const PROGRAMS: usize = 256;
/// Of one address: 200 people with five sessions each, or with one program each, which leaves some to others.
const MANY_OF_ADDRESS: usize = 1_000;
const PROGRAMS_OF_ADDRESS: usize = 200;
/// A session in which nothing was said has no program.
const SILENT_FOR_EACH: usize = 4;

impl Listen {
    /// Where to listen.
    pub(crate) fn places(&self) -> Vec<Place> {
        if self.listen.is_empty() {
            return vec![Place::Tcp(SocketAddr::new(self.host, self.port))];
        }
        self.listen.clone()
    }

    /// Whether an address may be listened on: from a network, names are to be checked.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), String> {
        if address.is_loopback() || !self.allowed_host.is_empty() {
            return Ok(());
        }
        let option = if self.listen.is_empty() { "--host" } else { "--listen" };
        Err(format!(
            "{option} {address} is not a loopback address: name the hosts that clients use, with --allowed-host NAME (web pages could reach the server under any name otherwise)"
        ))
    }

    /// Whether a proxy stands in front, and clients may be anywhere.
    pub(crate) fn trusts_proxies(&self) -> bool {
        self.trust_forwarded_for > 0 || self.proxy_protocol || self.trust_forwarded_prefix
    }

    /// A server with the settings of connections.
    pub(crate) fn server(&self) -> Server {
        Server::new()
            .max_connections(self.max_connections)
            .max_connections_per_address(self.max_connections_per_address)
            .trust_forwarded_for(self.trust_forwarded_for)
            .proxy_protocol(self.proxy_protocol)
            .header_timeout(self.header_timeout)
    }

    /// The transport that the arguments describe, with its messages at this path.
    pub(crate) fn transport(&self, limits: &Limits, programs: bool) -> Result<SseServerTransport, String> {
        let Self { allowed_host, allowed_origin, mount_prefix, .. } = self;
        for place in self.places() {
            if let Place::Tcp(address) = place {
                self.check_address(address.ip())?;
            }
        }
        let mut security = TransportSecuritySettings::default();
        for host in allowed_host {
            if host == "*" {
                security.enable_dns_rebinding_protection = false;
                continue;
            }
            let host = on_any_port(host);
            security.allowed_origins.extend(["http", "https"].map(|scheme| format!("{scheme}://{host}")));
            security.allowed_hosts.push(host);
        }
        security.allowed_origins.extend(allowed_origin.iter().cloned());
        let sessions = limits.max_sessions(programs);
        let silent = limits.max_silent_sessions(programs);
        let mut builder = SseServerTransport::builder(&self.message_path)
            .security(security)
            .cors(self.cors)
            .trust_forwarded_prefix(self.trust_forwarded_prefix)
            .made_up_initialize(self.synthesize_initialize)
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
        if let Some(silent) = silent {
            builder = builder.max_silent_sessions(silent);
        }
        if let Some(prefix) = mount_prefix {
            builder = builder.mount_prefix(prefix);
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// Whether the two endpoints are paths that differ.
    pub(crate) fn check_paths(&self) -> Result<(), String> {
        let Self { sse_path, message_path, .. } = self;
        check_path("--sse-path", sse_path)?;
        if sse_path.trim_end_matches('/') == message_path.trim_end_matches('/') {
            return Err(format!("--sse-path and --message-path are both {sse_path:?}; they must differ"));
        }
        Ok(())
    }
}

/// A name without a port is meant on any.
fn on_any_port(host: &str) -> String {
    // An IPv6 address has colons of its own, in brackets.
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

    /// The bound on those in which nothing was said, if it is one of their own.
    pub(crate) fn max_silent_sessions(&self, programs: bool) -> Option<usize> {
        let default = || programs.then(|| self.max_sessions(programs).saturating_mul(SILENT_FOR_EACH));
        self.max_silent_sessions.or_else(default)
    }

    fn max_sessions_per_address(&self, programs: bool) -> usize {
        self.max_sessions_per_address.unwrap_or(if programs { PROGRAMS_OF_ADDRESS } else { MANY_OF_ADDRESS })
    }
}
