//! What a sandbox allows. The rules are built when the session starts, and reach the child in its [`Confinement`].
//!
//! [`Confinement`]: super::confine::Confinement

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What one sandbox allows, in addition to what every sandbox does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rules {
    /// Paths to read and execute; missing ones are skipped.
    pub(super) program: Vec<PathBuf>,
    /// Paths to read and execute; a missing one is an error.
    pub(super) read: Vec<PathBuf>,
    /// Paths to read, execute and write; a missing one is an error.
    pub(super) write: Vec<PathBuf>,
    /// TCP ports to connect to.
    pub(super) connect: Vec<u16>,
}
