//! What a session is given to reach its server: the definition, and for a remote server what its sessions share.

use crate::{backend::remote::Remote, config::Server};

pub(super) struct Target {
    pub(super) server: Server,
    /// There if it is a remote one.
    pub(super) remote: Option<Remote>,
}

impl Target {
    /// What it is, for people.
    pub(super) fn what(&self) -> String {
        match (&self.server, &self.remote) {
            (Server::Command(command), _) => command.label(),
            (Server::Remote(_), remote) => remote.as_ref().map(Remote::name).unwrap_or_default(),
        }
    }
}
