//! Whose session it is, for the caps.

use std::net::IpAddr;

use crate::{client_ip::ClientIp, principal::Principal};

/// Whose session it is, for the caps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    principal: Option<Principal>,
    /// The client's address or network, as one address for the caps.
    network: Option<IpAddr>,
    /// The same, if the caps per address apply to it.
    bounded: Option<IpAddr>,
}

impl Owner {
    pub(crate) fn new(principal: Option<Principal>, client: Option<ClientIp>) -> Self {
        let network = client.map(ClientIp::network);
        let bounded = network.filter(|_| !client.is_some_and(ClientIp::is_loopback));
        Self { principal, network, bounded }
    }

    /// The owner according to a request's extensions.
    pub(crate) fn of(extensions: &http::Extensions) -> Self {
        Self::new(extensions.get().cloned(), ClientIp::of(extensions))
    }

    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    pub(crate) fn network(&self) -> Option<IpAddr> {
        self.network
    }

    pub(crate) fn bounded(&self) -> Option<IpAddr> {
        self.bounded
    }
}
