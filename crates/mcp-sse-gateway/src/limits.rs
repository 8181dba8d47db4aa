//! The limit on open files. A session takes several, and the usual soft limit is kept low for old programs that use
//! `select`; a program that needs more is expected to raise it.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit at startup; an inner `None` is no limit.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    BEFORE.get_or_init(|| before.current);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::debug!(%error, "cannot raise the limit on open files");
    }
}

/// The soft limit for children: the original one, since some programs fail when it is high. Encoded as a word for the
/// command line.
pub(crate) fn before() -> String {
    BEFORE.get().copied().flatten().map_or_else(String::new, |soft| soft.to_string())
}

/// Sets the soft limit of this process from such a word.
#[cfg(target_os = "linux")]
pub(crate) fn set(word: &std::ffi::OsStr) {
    if let Some(soft) = word.to_str().and_then(|word| word.parse().ok()) {
        let hard = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: hard });
    }
}
