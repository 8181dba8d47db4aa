//! The address that a request comes from.

use std::net::{IpAddr, Ipv6Addr};

use http::Extensions;

/// The IP address of the client that a request comes from.
///
/// `Server` puts it into the extensions of each request that comes over TCP: the address of the connection's
/// peer, or the one that a trusted proxy reports. Under another server, insert it in a layer of your own, and
/// the limits per address apply there too. With the feature `axum`, axum's `ConnectInfo<SocketAddr>` is used
/// if there is no `ClientIp`.
///
/// ```
/// use mcp_sse::ClientIp;
///
/// /// What a layer under another server does, before the transport sees the request.
/// fn set_client<B>(request: &mut http::Request<B>, peer: std::net::SocketAddr) {
///     request.extensions_mut().insert(ClientIp(peer.ip()));
/// }
/// # let mut request = http::Request::new(());
/// # set_client(&mut request, ([192, 0, 2, 7], 8000).into());
/// # assert!(request.extensions().get::<ClientIp>().is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// The client's address according to a request's extensions, if it is known.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied().or_else(|| connected(extensions))
    }

    /// Whether it is a loopback address. Those have no limits: a local proxy may serve many clients.
    pub fn is_loopback(self) -> bool {
        self.0.to_canonical().is_loopback()
    }

    /// What counts as one address for the limits per address: an IPv4 address, or the /64 network of an IPv6
    /// address, since one host usually has a whole /64. An IPv4-mapped IPv6 address (`::ffff:192.0.2.7`)
    /// counts as the IPv4 address.
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
