//! A file that holds a secret: it is read only if nobody else may read or change it.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use crate::watched::{self, Failure};

/// The permission bits that such a file must not have: all of others, and writing by its group.
const TOO_OPEN: u32 = 0o027;

/// Reads a file of at most `largest` bytes, unless others than its owner may read or change `what` it holds. Blocks.
pub(crate) fn read(path: &Path, largest: u64, what: &str) -> Result<String, Failure> {
    let shown = path.display();
    let bytes = watched::read(path, largest, |metadata| {
        let mode = metadata.mode() & 0o777;
        if mode & TOO_OPEN == 0 {
            return Ok(());
        }
        Err(format!(
            "{shown} has mode {mode:03o}, so that others than its owner may read or change {what}; expected 600, or 640 for a group that may read it (chmod 600 {shown})"
        ))
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::Wrong(format!("{shown} is not UTF-8")))
}
