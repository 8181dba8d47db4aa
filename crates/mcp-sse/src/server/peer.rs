//! The client's address: that of the connection's peer, or the one that the proxies in front report.

use std::net::{IpAddr, SocketAddr};

use http::{Extensions, HeaderMap};

use super::{
    listener::Socket,
    places::Places,
    proxy::{self, Source},
};
use crate::{client_ip::ClientIp, clock, principal::Principal, throttle::Throttle};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// What is trusted about a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// How many proxies in front append to X-Forwarded-For.
    pub(super) forwarded_for: usize,
    /// Whether each connection begins with a PROXY header.
    pub(super) proxy_protocol: bool,
    pub(super) max_connections_per_address: usize,
}

/// The peers of all connections.
#[derive(Debug)]
pub(super) struct Peers {
    trust: Trust,
    places: Places,
    proxy_lines: Throttle,
}

impl Peers {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, places: Places::new(trust.max_connections_per_address), proxy_lines: Throttle::new() }
    }

    /// Counts a connection that was just accepted; `false` if its address has too many.
    pub(super) fn admit(&self, socket: &mut Socket) -> bool {
        // The connections of a proxy may belong to many clients.
        let is_proxy = self.trust.forwarded_for > 0 || self.trust.proxy_protocol;
        is_proxy || self.count(socket)
    }

    /// Whether connections begin with a PROXY header.
    pub(super) fn say_who_they_are(&self) -> bool {
        self.trust.proxy_protocol
    }

    /// Reads the PROXY header, and counts the connection; `false` if it is to be closed.
    pub(super) async fn meet(&self, socket: &mut Socket) -> bool {
        match proxy::read(socket).await {
            Ok(Source::Local) => true,
            Ok(Source::Client(address)) => {
                socket.set_peer(address);
                self.trust.forwarded_for > 0 || self.count(socket)
            }
            Err(why) => {
                if let Some(left_out) = self.proxy_lines.line(clock::now()) {
                    let proxy = socket.peer().map(tracing::field::display);
                    tracing::warn!(proxy, left_out, "a connection was closed: {why}");
                }
                false
            }
        }
    }

    fn count(&self, socket: &mut Socket) -> bool {
        let Some(client) = socket.peer().map(ClientIp).filter(|client| !client.is_loopback()) else {
            return true;
        };
        let place = self.places.take(client.network());
        place.map(|place| socket.keep(place)).is_some()
    }

    /// The other end of a connection, for the address of its requests.
    pub(super) fn peer(&self, socket: &Socket) -> Peer {
        Peer {
            address: socket.peer(),
            proxies: self.trust.forwarded_for,
            principal: socket.principal().cloned(),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    address: Option<IpAddr>,
    proxies: usize,
    /// Who it is, if the connection says so.
    principal: Option<Principal>,
}

impl Peer {
    /// Adds the client's address, and who it is, to a request's extensions: a function of the connection and the
    /// head.
    pub(super) fn name(&self, headers: &HeaderMap, extensions: &mut Extensions) {
        if let Some(principal) = &self.principal {
            extensions.insert(principal.clone());
        }
        let client = if self.proxies == 0 { None } else { self.forwarded(headers) };
        if let Some(address) = client.or(self.address) {
            extensions.insert(ClientIp(address));
        }
    }

    /// The address that the outermost trusted proxy appended; `None`, with a warning, if there is none.
    fn forwarded(&self, headers: &HeaderMap) -> Option<IpAddr> {
        static LINES: Throttle = Throttle::new();
        // Each proxy appends the address of its peer.
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut entries = values.flat_map(|value| value.as_bytes().rsplit(|&byte| byte == b','));
        let entry = entries.nth(self.proxies - 1);
        let address = entry.and_then(|entry| address(str::from_utf8(entry).ok()?));
        if address.is_none()
            && let Some(left_out) = LINES.line(clock::now())
        {
            let proxy = self.address.map(tracing::field::display);
            let came = if entry.is_some() { "is not an address" } else { "is missing" };
            tracing::warn!(
                proxy,
                left_out,
                "entry {} from the right of X-Forwarded-For {came}; the proxy counts as the client. Is trust_forwarded_for the number of proxies, and does each add an entry?",
                self.proxies
            );
        }
        address
    }
}

/// An entry of X-Forwarded-For; some proxies write the port too.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bracketed = || entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']'));
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    entry.parse().ok().or_else(with_port).or_else(|| bracketed()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: usize, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let mut extensions = Extensions::new();
        Peer { address: Some([10, 0, 0, 1].into()), proxies, principal: None }
            .name(&headers, &mut extensions);
        extensions.get::<ClientIp>().unwrap().0.to_string()
    }

    #[test]
    fn the_client_is_the_entry_of_the_outermost_trusted_proxy() {
        assert_eq!(client(0, &["192.0.2.1"]), "10.0.0.1");
        assert_eq!(client(1, &["192.0.2.1"]), "192.0.2.1");
        // What the client wrote itself is not believed.
        assert_eq!(client(1, &["198.51.100.9, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(2, &["198.51.100.9,192.0.2.1,10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(2, &["198.51.100.9", "192.0.2.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(3, &["198.51.100.9, 192.0.2.1", "10.0.0.2"]), "198.51.100.9");
    }

    #[test]
    fn an_entry_may_have_a_port() {
        for (entry, expected) in [
            ("192.0.2.1:1234", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:1234", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(client(1, &[entry]), expected);
        }
    }

    #[test]
    fn what_is_missing_or_no_address_leaves_the_proxys() {
        for entry in ["", "unknown", "_hidden", "192.0.2.1.5", "192.0.2.1, ", "\u{ff}", "[::1", "1"] {
            assert_eq!(client(1, &[entry]), "10.0.0.1", "{entry}");
        }
        assert_eq!(client(1, &[]), "10.0.0.1");
        assert_eq!(client(2, &["192.0.2.1"]), "10.0.0.1");
        assert_eq!(client(usize::MAX, &["192.0.2.1"]), "10.0.0.1");
    }
}
