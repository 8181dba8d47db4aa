//! A private temporary folder for each session, which is removed with the session.
//!
//! All of them are in one base folder per run of the gateway, with a file that is locked while the gateway runs. From
//! the lock, a later run knows which base folders were left behind by a run that was killed, and removes them.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, flock};

use super::{super::strays::Strays, clear};

const PREFIX: &str = "mcp-sse-";
const LOCK: &str = "lock";

#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    base: Option<Base>,
    made: u64,
}

#[derive(Debug)]
struct Base {
    path: PathBuf,
    /// The lock is held as long as the file is open.
    _lock: File,
}

impl Folders {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a folder that belongs to this user, or to the gateway's own.
    pub(super) fn make(&self, user: Option<u32>, strays: &Arc<Strays>) -> io::Result<PathBuf> {
        let mut state = self.state();
        if state.base.is_none() {
            state.base = Some(base(strays)?);
        }
        state.made += 1;
        let number = state.made.to_string();
        let path = state.base.as_ref().map(|base| base.path.join(number)).ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        DirBuilder::new().mode(0o700).create(&path)?;
        if user.is_some() {
            std::os::unix::fs::chown(&path, user, user)?;
        }
        Ok(path)
    }

    /// Removes the base folder. To be called when the last folder is gone.
    pub(super) fn close(&self) {
        if let Some(base) = self.state().base.take() {
            let _ = fs::remove_file(base.path.join(LOCK));
            let _ = fs::remove_dir(&base.path);
        }
    }
}

/// How often to try: another gateway may take a base folder for one that was left behind before it is locked, and
/// remove it.
const TRIES: usize = 5;

fn base(strays: &Arc<Strays>) -> io::Result<Base> {
    let temporary = std::env::temp_dir();
    let mut made = new_base(&temporary);
    for _ in 1..TRIES {
        if made.is_ok() {
            break;
        }
        made = new_base(&temporary);
    }
    // In the background: no session waits for it, however much was left behind.
    let _ = std::thread::Builder::new().name("clear".into()).spawn({
        let strays = Arc::clone(strays);
        move || clear_left_behind(&temporary, &strays)
    });
    made
}

fn new_base(temporary: &Path) -> io::Result<Base> {
    use std::hash::{BuildHasher as _, Hasher as _};
    // A number that others cannot guess; if one did and took the name, the next try would use another.
    let number = std::hash::RandomState::new().build_hasher().finish();
    let path = temporary.join(format!("{PREFIX}{number:016x}"));
    // The users of sessions may traverse it, but not list it.
    DirBuilder::new().mode(0o711).create(&path)?;
    let lock = File::create_new(path.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Base { path, _lock: lock })
}

/// Removes the base folders of runs that were killed.
fn clear_left_behind(temporary: &Path, strays: &Strays) {
    let ours = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir() && data.uid() == ours);
        if !is_one {
            continue;
        }
        let lock = path.join(LOCK);
        let is_file = fs::symlink_metadata(&lock).is_ok_and(|data| data.is_file() && data.uid() == ours);
        let Some(lock) = is_file.then(|| File::open(&lock).ok()).flatten() else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && clear::empty_and_wait(&path, strays).is_ok_and(|status| status.success())
        {
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Removes a session's folder. To be called when its processes are gone.
pub(super) async fn remove(strays: &Strays, user: Option<u32>, folder: &Path) {
    if let Err(error) = clear::run_for(strays, user, Some(folder)).await {
        tracing::warn!("the temporary folder of a session could not be removed: {error}");
    }
    let _ = tokio::fs::remove_dir(folder).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_for_one_and_goes_with_what_is_in_it() {
        let folders = Folders::default();
        let strays = Arc::default();
        let (a, b) = (folders.make(None, &strays).unwrap(), folders.make(None, &strays).unwrap());
        assert_ne!(a, b);
        assert_eq!(fs::metadata(&a).unwrap().mode() & 0o777, 0o700);
        fs::remove_dir(&a).unwrap();
        fs::remove_dir(&b).unwrap();
        let base = a.parent().unwrap().to_owned();
        folders.close();
        assert!(!base.exists());
    }
}
