//! Where a request comes from, as an address.

use std::net::{IpAddr, Ipv6Addr};

use http::Extensions;

/// The address of the client that a request comes from.
///
/// `Server` puts it into the extensions of each request that comes over TCP: the peer of the
/// connection, or what a trusted proxy says about it. Under another server, a layer of your own may put it
/// there; then the bounds per address hold there too. With the feature `axum`, axum's
/// `ConnectInfo<SocketAddr>` is read where there is no `ClientIp`.
///
/// ```
/// use mcp_sse::ClientIp;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(ClientIp("192.0.2.7".parse()?));
///
/// assert_eq!(request.extensions().get(), Some(&ClientIp("192.0.2.7".parse()?)));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// Whose request has these extensions, if they say so.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied().or_else(|| connected(extensions))
    }

    /// Whether it is an address of this machine. Those are not bounded: a proxy may stand there.
    pub(crate) fn is_loopback(self) -> bool {
        self.0.to_canonical().is_loopback()
    }

    /// What counts as one address where something is bounded per address: an IPv4 address, or the /64
    /// network of an IPv6 address, since one host has all of those. An IPv4 address that is written as an
    /// IPv6 one (`::ffff:192.0.2.7`) is the IPv4 address.
    ///
    /// ```
    /// use mcp_sse::ClientIp;
    ///
    /// let network = |text: &str| text.parse().map(|address| ClientIp(address).network());
    /// assert_eq!(network("192.0.2.7")?, network("::ffff:192.0.2.7")?);
    /// assert_eq!(network("2001:db8::1")?, network("2001:db8::2")?);
    /// assert_ne!(network("2001:db8::1")?, network("2001:db8:0:1::1")?);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address => address,
        }
    }
}

#[cfg(feature = "axum")]
fn connected(extensions: &Extensions) -> Option<ClientIp> {
    let peer = extensions.get::<axum::extract::ConnectInfo<std::net::SocketAddr>>()?;
    Some(ClientIp(peer.0.ip()))
}

#[cfg(not(feature = "axum"))]
fn connected(_: &Extensions) -> Option<ClientIp> {
    None
}
