//! A file of keys, which is read again when it changes.
//!
//! Invariant: a file that cannot be taken changes nothing. The keys that were valid stay so, and the log says why.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_sse::BearerTokens;

use crate::{
    secret_file,
    watched::{Failure, Watched},
};

/// The largest file, in bytes: some ten thousand keys.
const LARGEST: u64 = 1024 * 1024;

/// A file of keys, and the keys that it had when it was last right.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    pub(crate) tokens: BearerTokens,
    watched: Watched,
}

impl KeyFile {
    fn open(path: &Path) -> Result<Self, String> {
        let watched = Watched::new(vec![path.to_owned()]);
        let text = read(path).map_err(Failure::into_text)?;
        let tokens = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), tokens, watched })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again if it has changed; `at_once` reads it in any case.
    fn look(&self, at_once: bool) {
        let looked = self.watched.look(at_once, || {
            let text = read(&self.path)?;
            let replaced = self.tokens.replace(&text);
            let replaced =
                replaced.map_err(|error| Failure::Wrong(format!("{}: {error}", self.path.display())))?;
            tracing::info!(
                file = %self.path.display(),
                keys = self.tokens.len(),
                added = replaced.added,
                revoked = replaced.revoked,
                "keys read"
            );
            Ok(())
        });
        if let Err(error) = looked {
            tracing::error!("the keys were not changed: {error}");
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    secret_file::read(path, LARGEST, "the keys")
}

/// All files of keys, each once.
#[derive(Debug, Default)]
pub(crate) struct KeyFiles(Mutex<BTreeMap<PathBuf, Arc<KeyFile>>>);

impl KeyFiles {
    /// The keys of a file, which is read if it was not before, and again for as long as somebody holds what this
    /// returns.
    pub(crate) fn get(&self, path: &Path) -> Result<Arc<KeyFile>, String> {
        let mut files = self.lock();
        if let Some(file) = files.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(KeyFile::open(path)?);
        files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<KeyFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads those that have changed, or all of them. Blocks: files may be on a network. Those that no server has any
    /// more are forgotten.
    pub(crate) fn look(&self, all: bool) {
        let files: Vec<_> = {
            let mut files = self.lock();
            files.retain(|_, file| Arc::strong_count(file) > 1);
            files.values().cloned().collect()
        };
        files.iter().for_each(|file| file.look(all));
    }
}
