//! Files that are read again when they change.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often files are looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Files that belong together.
#[derive(Debug)]
pub(crate) struct Watched {
    files: Vec<PathBuf>,
    seen: Mutex<Seen>,
}

type Versions = Vec<Option<Version>>;

#[derive(Debug)]
struct Seen {
    /// As they were when they were last read.
    read: Versions,
    /// As they were at the last look.
    last: Versions,
}

/// What differs if a file was written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Watched {
    /// Files that are about to be read.
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let now = versions(&files);
        Self { files, seen: Mutex::new(Seen { read: now.clone(), last: now }) }
    }

    /// Whether they are to be read now, because they have changed and are still the same as at the last look: whoever
    /// writes them may not be done before. `at_once` says yes in any case.
    pub(crate) fn is_due(&self, at_once: bool) -> bool {
        let now = versions(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_settled = seen.last == now;
        let is_due = at_once || (is_settled && seen.read != now);
        if is_due {
            seen.read.clone_from(&now);
        }
        seen.last = now;
        is_due
    }
}

fn versions(files: &[PathBuf]) -> Versions {
    files.iter().map(|file| fs::metadata(file).ok().map(|metadata| Version::of(&metadata))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_once_they_have_changed_and_stay_so() {
        let folder = std::env::temp_dir().join(format!("mcp-sse-watched-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (one, other) = (folder.join("one"), folder.join("other"));
        fs::write(&one, "1").unwrap();
        let watched = Watched::new(vec![one.clone(), other.clone()]);
        assert!(!watched.is_due(false) && watched.is_due(true) && !watched.is_due(false));
        fs::write(&one, "22").unwrap();
        assert!(!watched.is_due(false), "it may not be whole");
        fs::write(&one, "333").unwrap();
        assert!(!watched.is_due(false), "nor now");
        assert!(watched.is_due(false) && !watched.is_due(false));
        fs::write(&other, "new").unwrap();
        assert!(!watched.is_due(false) && watched.is_due(false) && !watched.is_due(false));
        fs::remove_file(&one).unwrap();
        assert!(!watched.is_due(false) && watched.is_due(false) && !watched.is_due(false));
        fs::remove_dir_all(&folder).unwrap();
    }
}
