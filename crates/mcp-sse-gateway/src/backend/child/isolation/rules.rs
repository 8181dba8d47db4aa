//! What a sandbox lets through. It is made where the session starts, and reaches the child with its [`Confinement`].
//!
//! [`Confinement`]: super::confine::Confinement

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a sandbox lets through, beside what all of them do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules {
    /// To be read and executed; what is not there is left out.
    pub(super) program: Vec<PathBuf>,
    /// The same, but it must be there.
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    /// TCP ports.
    pub(super) connect: Vec<u16>,
}
