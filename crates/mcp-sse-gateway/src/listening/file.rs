//! The file of a Unix socket: a stale one is replaced, and our own is removed on exit.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};
use tokio::net::{UnixListener, UnixStream};

/// Removes the socket file when dropped, unless another one has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Listens on a socket that its owner and its group may connect to (mode 0660).
pub(super) async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), String> {
    let listener = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path).await?;
            open(path)
        }
        opened => opened,
    };
    let listener = listener.map_err(|error| error.to_string())?;
    let identity = identity(path).map_err(|error| error.to_string())?;
    Ok((listener, SocketFile { path: path.to_owned(), identity }))
}

fn open(path: &Path) -> io::Result<UnixListener> {
    // With the umask, not a chmod afterwards, before which anyone could connect.
    let before = umask(Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Removes a socket file that nobody listens on, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), String> {
    let file = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !file.file_type().is_socket() {
        return Err("there is a file that is not a socket; remove it, or choose another path".to_owned());
    }
    // Never blocks: a full backlog is a different error.
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("cannot remove the old socket: {error}"))
        }
        Ok(_) => Err("another process listens there already".to_owned()),
        Err(error) => Err(format!("there is a socket, which may be in use: {error}")),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced the file.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
