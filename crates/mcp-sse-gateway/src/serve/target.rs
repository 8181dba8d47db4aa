//! What a session needs to reach its server: the definition and, for a remote server, the state that its sessions
//! share.

use crate::{backend::remote::Remote, bridge::Eras, config::Server, revive::Policy};

pub(super) struct Target {
    pub(super) server: Server,
    /// `Some` if the server is remote.
    pub(super) remote: Option<Remote>,
    /// How it is kept alive for its sessions.
    pub(super) policy: Policy,
    /// Which eras it speaks.
    pub(super) eras: Eras,
}

impl Target {
    /// The server's name or URL, for display.
    pub(super) fn what(&self) -> String {
        match (&self.server, &self.remote) {
            (Server::Command(command), _) => command.label(),
            (Server::Remote(_), remote) => remote.as_ref().map(Remote::name).unwrap_or_default(),
        }
    }
}
