//! Files that are read again when they change.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often files are looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

const MIB: u64 = 1024 * 1024;

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
    /// They could not be read at the last look.
    unreadable: bool,
}

/// Why files were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What is in them is wrong, and stays so until they change.
    Wrong(String),
    /// They cannot be read now; the next attempt may succeed.
    Unreadable(String),
}

impl Failure {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Wrong(why) | Self::Unreadable(why) => why,
        }
    }
}

/// Reads a regular file, of at most so many bytes, if its metadata is as it should be. It never waits for a file that
/// is something else, nor for one that becomes so in between.
pub(crate) fn read(
    path: &Path,
    largest: u64,
    check: impl FnOnce(&Metadata) -> Result<(), String>,
) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let cannot = |error: io::Error| Failure::Unreadable(format!("cannot read {shown}: {error}"));
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    // Of what was opened: what is there by that name may be another one.
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Failure::Wrong(format!("{shown} is not a regular file; it is read again")));
    }
    check(&metadata).map_err(Failure::Wrong)?;
    let mut bytes = Vec::new();
    File::take(file, largest + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > largest {
        let (size, unit) =
            if largest.is_multiple_of(MIB) { (largest / MIB, "MiB") } else { (largest / 1024, "KiB") };
        return Err(Failure::Wrong(format!("{shown} is larger than {size} {unit}")));
    }
    Ok(bytes)
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
        Self { files, seen: Mutex::new(Seen { read: now.clone(), last: now, unreadable: false }) }
    }

    /// Reads them if they have changed and are still the same as at the last look: whoever writes them may not be done
    /// before. `at_once` reads them in any case. Returns an error that is worth a line in the log: files that cannot be
    /// read are tried again at the next look, and complained of once.
    ///
    /// One look at a time, so that what was read last is what stays.
    pub(crate) fn look(
        &self,
        at_once: bool,
        read: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = versions(&self.files);
        let is_settled = seen.last == now;
        seen.last.clone_from(&now);
        if !at_once && (!is_settled || (seen.read == now && !seen.unreadable)) {
            return Ok(());
        }
        let result = read();
        let was_unreadable = std::mem::replace(&mut seen.unreadable, false);
        match result {
            Ok(()) => seen.read = now,
            Err(Failure::Wrong(why)) => {
                seen.read = now;
                return Err(why);
            }
            Err(Failure::Unreadable(why)) => {
                seen.unreadable = true;
                if at_once || !was_unreadable {
                    return Err(format!("{why}; it is tried again every second"));
                }
            }
        }
        Ok(())
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
        let look = |at_once: bool, result: Result<(), Failure>| {
            let mut reads = false;
            let error = watched.look(at_once, || {
                reads = true;
                result
            });
            (reads, error.is_err())
        };
        let reads = |at_once: bool| look(at_once, Ok(())).0;
        assert!(!reads(false) && reads(true) && !reads(false));
        fs::write(&one, "22").unwrap();
        assert!(!reads(false), "it may not be whole");
        fs::write(&one, "333").unwrap();
        assert!(!reads(false), "nor now");
        assert!(reads(false) && !reads(false));
        fs::write(&other, "new").unwrap();
        assert!(!reads(false) && reads(false) && !reads(false));
        fs::remove_file(&one).unwrap();
        assert!(!reads(false) && reads(false) && !reads(false));
        // What is wrong stays so until it changes, what cannot be read is tried again and said once.
        let wrong = || Err(Failure::Wrong(String::new()));
        let unreadable = || Err(Failure::Unreadable(String::new()));
        fs::write(&one, "4444").unwrap();
        assert_eq!(look(false, wrong()), (false, false));
        assert_eq!(look(false, wrong()), (true, true));
        assert_eq!(look(false, wrong()), (false, false));
        fs::write(&one, "55555").unwrap();
        assert_eq!(look(false, unreadable()), (false, false));
        assert_eq!(look(false, unreadable()), (true, true));
        assert_eq!(look(false, unreadable()), (true, false));
        assert_eq!(look(true, unreadable()), (true, true));
        assert_eq!(look(false, Ok(())), (true, false));
        assert_eq!(look(false, Ok(())), (false, false));
        fs::remove_dir_all(&folder).unwrap();
    }
}
