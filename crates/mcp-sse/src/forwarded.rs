//! What crosses from one replica to another beside a request's head.

use std::fmt;

use crate::{client_ip::ClientIp, principal::Principal};

/// What is known of a request where it came in, and has to be known where it is answered.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarded {
    /// Who it comes from, if that is known.
    pub principal: Option<Principal>,
    /// The address that it comes from, if that is known.
    pub client_ip: Option<ClientIp>,
    /// The path that the endpoint is mounted under there.
    pub mount_prefix: String,
}

impl Forwarded {
    /// Of a request about which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded").field("client_ip", &self.client_ip).finish_non_exhaustive()
    }
}
