//! The isolation settings of one program.

use std::path::PathBuf;

/// How one program is isolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// It cannot signal, trace or inspect processes other than its own, and gains no privileges by `exec`.
    pub(crate) own_domain: bool,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) limits: Limits,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { own_domain: true, sandbox: None, limits: Limits::default() }
    }
}

/// What a sandboxed program may use in addition to its own files and its working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) paths: Vec<Allowed>,
    /// Ports to connect to over TCP.
    pub(crate) connect: Vec<u16>,
}

/// A file, or a folder with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) path: PathBuf,
    pub(crate) write: bool,
}

/// Limits for each process of a child, except where it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Limits {
    /// Private writable memory, in bytes.
    pub(crate) memory: Option<u64>,
    /// CPU time, in seconds.
    pub(crate) cpu: Option<u64>,
    /// Files open at once.
    pub(crate) files: Option<u64>,
    /// Processes and threads of its user.
    pub(crate) processes: Option<u64>,
}
