//! The file of a Unix socket: one that nobody listens on any more is replaced, and ours is removed at the end.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::Mode, process::umask};
use tokio::net::{UnixListener, UnixStream};

/// A file that is removed when this is dropped, if it is still the one that was made.
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
    // From the start: changed later, anyone could connect before.
    let before = umask(Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Removes a socket's file that a program has left behind, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), String> {
    let file = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !file.file_type().is_socket() {
        return Err("there is a file that is no socket; remove it, or choose another path".to_owned());
    }
    // Never waits: a queue that is full is an error of its own.
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("cannot remove the old socket: {error}"))
        }
        Ok(_) => Err("somebody listens there already".to_owned()),
        Err(error) => Err(format!("there is a socket, and whether it is in use is not known: {error}")),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another program may have taken the path meanwhile.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
