//! What is asked for, for one program.

use std::path::PathBuf;

/// What one program gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// It cannot signal, trace or look into what is not its own, and gains no privileges by `exec`.
    pub(crate) own_domain: bool,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) limits: Limits,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { own_domain: true, sandbox: None, limits: Limits::default() }
    }
}

/// What a program in a sandbox may use beside its own files and its working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) paths: Vec<Allowed>,
    /// Ports to connect to over TCP.
    pub(crate) connect: Vec<u16>,
}

/// A file, or a folder with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) path: PathBuf,
    pub(crate) write: bool,
}

/// Limits of each process of a child, except where it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Limits {
    /// Bytes of private memory that it may write.
    pub(crate) memory: Option<u64>,
    /// Seconds on a processor.
    pub(crate) cpu: Option<u64>,
    /// Files open at once.
    pub(crate) files: Option<u64>,
    /// Processes and threads of its user.
    pub(crate) processes: Option<u64>,
}
