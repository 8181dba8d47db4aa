//! Tokens that were verified, by their hashes, so that a signature is checked once for each token and not once for each
//! request.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use mcp_sse::Grant;
use ring::digest::{SHA256, digest};

/// How many tokens are kept at most; half of them may be forgotten when another one comes.
pub(crate) const MOST: usize = 4096;

/// How many audiences and scopes a token may have to be kept.
const LARGEST: usize = 128;

/// What is known of a token.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) grant: Grant,
    pub(crate) audiences: Vec<String>,
    pub(crate) scopes: Vec<String>,
}

/// The SHA-256 hash of a token. Nobody can choose one, so a map by it needs no care.
pub(crate) type Hash = [u8; 32];

#[derive(Debug, Default)]
pub(crate) struct Cache(RwLock<Generations>);

/// When the newer half is full, it becomes the older one, whose tokens go unless somebody asks for them.
#[derive(Debug, Default)]
struct Generations {
    new: HashMap<Hash, Arc<Verified>>,
    old: HashMap<Hash, Arc<Verified>>,
}

pub(crate) fn hash(token: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

impl Cache {
    /// What is known of a token, if that is still so.
    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Verified>> {
        let (found, is_new) = {
            let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
            match generations.new.get(hash) {
                Some(found) => (Arc::clone(found), true),
                None => (Arc::clone(generations.old.get(hash)?), false),
            }
        };
        if !found.grant.is_valid() {
            self.forget(hash);
            return None;
        }
        if !is_new {
            self.put(*hash, Arc::clone(&found));
        }
        Some(found)
    }

    /// Keeps a token, unless it would take much memory.
    pub(crate) fn put(&self, hash: Hash, verified: Arc<Verified>) {
        if verified.audiences.len() + verified.scopes.len() > LARGEST {
            return;
        }
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Generations { new, old } = &mut *generations;
        if new.len() >= MOST / 2 {
            *old = std::mem::take(new);
        }
        new.insert(hash, verified);
    }

    fn forget(&self, hash: &Hash) {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        generations.new.remove(hash);
        generations.old.remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use mcp_sse::{Principal, Revocation};

    use super::*;

    fn verified(key: &Revocation) -> Arc<Verified> {
        let grant = Grant::new(Principal::new("alice")).revocable(key);
        Arc::new(Verified { grant, audiences: Vec::new(), scopes: Vec::new() })
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_asked_for() {
        let (cache, key) = (Cache::default(), Revocation::default());
        let mine = hash(b"mine");
        cache.put(mine, verified(&key));
        for number in 0..5 * MOST {
            cache.put(hash(&number.to_le_bytes()), verified(&key));
            assert!(cache.get(&mine).is_some());
            let generations = cache.0.read().unwrap();
            assert!(generations.new.len() + generations.old.len() <= MOST);
        }
        assert!(cache.get(&hash(&0usize.to_le_bytes())).is_none());
    }

    #[test]
    fn what_is_not_valid_any_more_is_forgotten() {
        let (cache, key) = (Cache::default(), Revocation::default());
        cache.put(hash(b"mine"), verified(&key));
        key.suspend();
        assert!(cache.get(&hash(b"mine")).is_none());
        assert!(cache.0.read().unwrap().new.is_empty());
    }
}
