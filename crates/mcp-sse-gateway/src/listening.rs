//! The port, and the time that connections get.

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpListener;

use crate::args::Exit;

/// What a client that reads nothing more may cost, beyond the stall timeout, before its connection is cut.
pub(crate) const STALL_MARGIN: Duration = Duration::from_secs(5);
/// What connections get, at a shutdown, after the streams have ended.
pub(crate) const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Listens; with the address that it turned out to be.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Exit> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Exit::Usage(format!("cannot listen on {address}: {error}; choose another with --host or --port"))
    })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}
