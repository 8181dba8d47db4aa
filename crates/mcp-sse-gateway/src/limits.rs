//! How many files the program may have open. A session takes several, and the usual soft limit is from another
//! time; programs that need more are to raise it themselves.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::debug!(%error, "the limit on open files stays what it is");
    }
}

/// The soft limit that a child is to have, which is not ours: some programs fail where descriptors are many.
#[cfg(target_os = "linux")]
pub(crate) fn for_children() -> u64 {
    const USUAL: u64 = 1024;
    getrlimit(Resource::Nofile).maximum.map_or(USUAL, |hard| hard.min(USUAL))
}

/// Lowers the soft limit of this process.
#[cfg(target_os = "linux")]
pub(crate) fn lower_to(soft: u64) {
    let hard = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: hard });
}
