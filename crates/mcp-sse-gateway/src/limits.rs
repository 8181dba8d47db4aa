//! How many files the program may have open. A session takes several, and the usual soft limit is from another
//! time; programs that need more are to raise it themselves.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the soft limit was at the start; `None` inside: no limit.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    BEFORE.get_or_init(|| before.current);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::debug!(%error, "the limit on open files stays what it is");
    }
}

/// The soft limit that a child is to have: what it was, because some programs fail where it is high. As a word
/// for the command line.
pub(crate) fn before() -> String {
    BEFORE.get().copied().flatten().map_or_else(String::new, |soft| soft.to_string())
}

/// Sets the soft limit of this process to what such a word says.
#[cfg(target_os = "linux")]
pub(crate) fn set(word: &std::ffi::OsStr) {
    if let Some(soft) = word.to_str().and_then(|word| word.parse().ok()) {
        let hard = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: hard });
    }
}
