//! One listening socket.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::file::SocketFile;

pub(super) enum One {
    Tcp(TcpListener, SocketAddr),
    Unix {
        listener: UnixListener,
        path: PathBuf,
        /// There if we made the file.
        _file: Option<SocketFile>,
    },
}

impl One {
    pub(super) fn tcp(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self::Tcp(listener, address))
    }
}

impl fmt::Display for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "http://{address}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}
