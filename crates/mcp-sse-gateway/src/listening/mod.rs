//! Where connections come from, and their timeouts.
//!
//! | room | what lives there |
//! |---|---|
//! | here | places to listen at, and listening at several |
//! | `file` | the file of a Unix socket |
//! | `one` | one listening socket |
//! | `inherited` | sockets that systemd passes |
//! | `tls`, `rewound` | TLS; a connection whose first byte was read already |

mod file;
pub(crate) mod inherited;
mod one;
mod rewound;
pub(crate) mod tls;

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    pin::pin,
    task::Poll,
    time::Duration,
};

use mcp_sse::{Listener, Socket};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::one::One;

/// How long, beyond the stall timeout, a client that reads nothing may stay before its connection is cut.
pub(crate) const STALL_MARGIN: Duration = Duration::from_secs(5);
/// How long connections may take to finish on shutdown, after the streams have ended.
pub(crate) const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// A place to listen at, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// The sockets from systemd with this name, or all.
    Systemd(Option<String>),
}

impl Place {
    /// Reads `HOST:PORT`, `unix:PATH`, `systemd` or `systemd:NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err("expected a path after unix:, as in unix:/run/mcp-sse.sock".to_owned());
            }
            return Ok(Self::Unix(path.into()));
        }
        if text == "systemd" {
            return Ok(Self::Systemd(None));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return Ok(Self::Systemd(Some(name.to_owned())));
        }
        let parsed = text
            .rsplit_once(':')
            .and_then(|(host, port)| Some(SocketAddr::new(host_address(host).ok()?, port.parse().ok()?)));
        parsed.map(Self::Tcp).ok_or_else(|| {
            "expected HOST:PORT with an address of this machine, unix:PATH, systemd or systemd:NAME"
                .to_owned()
        })
    }
}

/// Parses an IP address, or a host name of this machine.
pub(crate) fn host_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    let found = (text, 0).to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address
        .map(SocketAddr::ip)
        .ok_or_else(|| "expected an IP address of this machine, or a name of one".to_owned())
}

/// Listens at several places.
pub(crate) struct Listening {
    all: Vec<One>,
    /// The listener to poll first; rotates.
    next: usize,
    /// Cancelled when no more connections are accepted.
    closes: CancellationToken,
}

impl Listening {
    /// Listens at these places.
    pub(crate) async fn at(places: &[Place]) -> Result<Self, String> {
        let mut all = Vec::new();
        for place in places {
            match place {
                Place::Tcp(address) => {
                    let listener = TcpListener::bind(address).await.and_then(One::tcp);
                    all.push(listener.map_err(|error| {
                        format!("cannot listen on {address}: {error}; choose another with --host and --port, or --listen")
                    })?);
                }
                Place::Unix(path) => {
                    let (listener, file) = file::bind(path)
                        .await
                        .map_err(|why| format!("cannot listen on unix:{}: {why}", path.display()))?;
                    all.push(One::Unix { listener, path: path.clone(), _file: Some(file) });
                }
                Place::Systemd(name) => all.extend(inherited::take(name.as_deref())?),
            }
        }
        Ok(Self { all, next: 0, closes: CancellationToken::new() })
    }

    /// When this is cancelled, what waits to be accepted is, and then nothing listens any more: a load balancer brings the
    /// next connection elsewhere.
    pub(crate) fn closes(&self) -> CancellationToken {
        self.closes.clone()
    }

    /// An address that a network can reach, if there is one.
    pub(crate) fn open_to_networks(&self) -> Option<IpAddr> {
        let mut addresses = self.all.iter().filter_map(|one| match one {
            One::Tcp(_, address) => Some(address.ip()),
            One::Unix { .. } => None,
        });
        addresses.find(|address| !address.is_loopback())
    }

    /// Whether all places are loopback addresses. A Unix socket is not: usually a proxy connects to it.
    pub(crate) fn is_loopback(&self) -> bool {
        self.all.iter().all(|one| matches!(one, One::Tcp(_, address) if address.ip().is_loopback()))
    }

    /// The start of the URLs that the greeting shows.
    pub(crate) fn base(&self, tls: bool) -> String {
        let tcp = self.all.iter().find(|one| matches!(one, One::Tcp(..)));
        let base = tcp.map_or_else(|| "http://localhost".to_owned(), One::to_string);
        if tls && tcp.is_some() { base.replacen("http:", "https:", 1) } else { base }
    }

    /// What stands before the paths in the URLs of clients on this machine, by each name that they may use.
    pub(crate) fn loopback_bases(&self, tls: bool) -> Vec<String> {
        let mut bases = Vec::new();
        for one in &self.all {
            if let One::Tcp(_, address) = one {
                let own = SocketAddr::new(address.ip(), 0).to_string();
                let own = own.strip_suffix(":0").unwrap_or(&own);
                for host in [own, "localhost", "127.0.0.1", "[::1]"] {
                    let scheme = if tls { "https" } else { "http" };
                    // Clients leave out the port that a scheme has anyway.
                    let base = match (address.port(), tls) {
                        (80, false) | (443, true) => format!("{scheme}://{host}"),
                        (port, _) => format!("{scheme}://{host}:{port}"),
                    };
                    if !bases.contains(&base) {
                        bases.push(base);
                    }
                }
            }
        }
        bases
    }

    /// The places, unless the base of the URLs says it all.
    pub(crate) fn places(&self) -> Option<String> {
        match &self.all[..] {
            [One::Tcp(..)] => None,
            all => Some(all.iter().map(One::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Listener for Listening {
    async fn accept(&mut self) -> io::Result<Socket> {
        let Self { all, next, closes } = self;
        let mut closed = pin!(closes.cancelled());
        poll_fn(|cx| {
            for at in 0..all.len() {
                let at = (*next + at) % all.len();
                let accepted = match &all[at] {
                    One::Tcp(listener, _) => listener.poll_accept(cx).map_ok(Socket::from),
                    One::Unix { listener, .. } => {
                        listener.poll_accept(cx).map_ok(|(stream, _)| stream.into())
                    }
                };
                if accepted.is_ready() {
                    *next = at + 1;
                    return accepted;
                }
            }
            if closed.as_mut().poll(cx).is_ready() {
                all.clear();
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_a_path_or_systemds() {
        let tcp = |text: &str| Ok(Place::Tcp(text.parse().unwrap()));
        assert_eq!(Place::parse("127.0.0.1:80"), tcp("127.0.0.1:80"));
        assert_eq!(Place::parse("[::1]:80"), tcp("[::1]:80"));
        assert_eq!(Place::parse("localhost:0"), tcp("127.0.0.1:0"));
        assert_eq!(Place::parse("unix:/run/a.sock"), Ok(Place::Unix("/run/a.sock".into())));
        assert_eq!(Place::parse("systemd"), Ok(Place::Systemd(None)));
        assert_eq!(Place::parse("systemd:web"), Ok(Place::Systemd(Some("web".to_owned()))));
        for bad in ["", "8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", ":80", "unix:", "/run/a.sock"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
