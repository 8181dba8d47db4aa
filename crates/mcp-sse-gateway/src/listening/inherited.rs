//! Sockets that systemd passes (socket activation; see `sd_listen_fds(3)`).

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::one::One;

/// The sockets that are not taken yet, and the names of all.
static INHERITED: Mutex<Option<(ListenFd, Vec<String>)>> = Mutex::new(None);

/// Reads the sockets that were passed. It also removes the variables from the environment, so it must be called while
/// the process has only one thread.
pub(crate) fn read() {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).collect();
    *INHERITED.lock().unwrap_or_else(PoisonError::into_inner) = Some((ListenFd::from_env(), names));
}

/// Takes the sockets with this name, or all that are left.
pub(super) fn take(name: Option<&str>) -> Result<Vec<One>, String> {
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((sockets, names)) = inherited.as_mut().filter(|(sockets, _)| sockets.len() > 0) else {
        return Err("systemd has passed no sockets (LISTEN_FDS is not set, or is meant for another process); was the unit started by its .socket?".to_owned());
    };
    let mut taken = Vec::new();
    for at in 0..sockets.len() {
        let own = names.get(at).map(String::as_str);
        if name.is_some() && name != own {
            continue;
        }
        let wrong = |error: std::io::Error| format!("socket {at} from systemd cannot be used: {error}");
        let one = match sockets.take_tcp_listener(at) {
            Ok(None) => continue,
            Ok(Some(listener)) => {
                listener.set_nonblocking(true).map_err(wrong)?;
                TcpListener::from_std(listener).and_then(One::tcp).map_err(wrong)?
            }
            Err(_) => {
                let listener = sockets.take_unix_listener(at).map_err(|_| {
                    format!("socket {at} from systemd is neither a listening TCP socket nor a listening Unix stream socket")
                })?;
                let Some(listener) = listener else { continue };
                listener.set_nonblocking(true).map_err(wrong)?;
                let address = listener.local_addr().map_err(wrong)?;
                let path = address.as_pathname().map_or_else(|| PathBuf::from("(no path)"), Into::into);
                let listener = UnixListener::from_std(listener).map_err(wrong)?;
                One::Unix { listener, path, _file: None }
            }
        };
        taken.push(one);
    }
    if taken.is_empty() {
        let names: BTreeSet<_> = names.iter().collect();
        return Err(format!("systemd has passed no socket with the name {name:?}; there are {names:?}"));
    }
    Ok(taken)
}
