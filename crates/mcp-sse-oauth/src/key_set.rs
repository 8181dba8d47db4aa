//! The keys of an authorization server at one time (a JWK set, RFC 7517, section 5).

use std::sync::Arc;

use serde::Deserialize;

use crate::key::{Algorithm, Key};

/// The most keys of a set that are kept.
const MOST: usize = 512;
/// The most keys that are tried for a token.
const TRIED: usize = 4;

#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet(Vec<Arc<Key>>);

/// What a set says of the key of a token.
#[derive(Debug)]
pub(crate) enum Found {
    /// It may have signed the token; one of these, of which there are few.
    Keys(Vec<Arc<Key>>),
    /// It is not in the set.
    Unknown,
    /// The token does not say which it is, and too many could be meant.
    Ambiguous,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a set. Keys that are not for signatures that are accepted are left out; an error if there is no other.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(json).map_err(|error| {
            format!("expected a JSON object with \"keys\": {} at line {}", kind(&error), error.line())
        })?;
        let all = document.keys.len();
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for key in document.keys.iter().filter_map(Key::parse) {
            // Some sets have a key twice.
            if keys.len() < MOST && !keys.iter().any(|other| other.is_same(&key)) {
                keys.push(Arc::new(key));
            }
        }
        if keys.is_empty() {
            return Err(format!(
                "none of its {all} keys is for signatures by RS256 or PS256 (2048 bits or more), ES256 or EdDSA"
            ));
        }
        Ok(Self(keys))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys that have this id. Without an id, those that there are for the algorithm, if they are few: trying many
    /// would let strangers make us work.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let fitting = || self.0.iter().filter(|key| key.is_for(algorithm)).cloned();
        let mut found = match id {
            Some(id) => fitting().filter(|key| key.id.as_deref() == Some(id)).collect::<Vec<_>>(),
            None => fitting().collect(),
        };
        if found.is_empty() && id.is_some() {
            // A set may leave out ids.
            found = fitting().filter(|key| key.id.is_none()).collect();
        }
        match found.len() {
            0 => Found::Unknown,
            1..=TRIED => Found::Keys(found),
            _ => Found::Ambiguous,
        }
    }

    /// Takes the keys that are the same from the set before, so that what depends on them goes on; returns those that
    /// are not in the new set.
    pub(crate) fn keep_from(&mut self, before: &[Arc<Key>]) -> Vec<Arc<Key>> {
        let mut gone = Vec::new();
        for old in before {
            match self.0.iter_mut().find(|new| new.is_same(old)) {
                Some(new) => *new = Arc::clone(old),
                None => gone.push(Arc::clone(old)),
            }
        }
        gone
    }

    /// Whether it has this very key.
    pub(crate) fn has(&self, key: &Arc<Key>) -> bool {
        self.0.iter().any(|own| Arc::ptr_eq(own, key))
    }

    pub(crate) fn keys(&self) -> &[Arc<Key>] {
        &self.0
    }
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "it is something else",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    }
}
