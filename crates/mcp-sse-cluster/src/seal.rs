//! What crosses, sealed with a key of the cluster, so that whoever has the engine can neither read nor forge it.
//!
//! Each replica seals with a key of its own, made of the cluster's key and its run, and counts its messages; so no nonce
//! is used twice (ChaCha20-Poly1305, RFC 8439; HKDF, RFC 5869). A message is bound to its cluster, to whom it is for and
//! to what it is.

use std::{
    fmt,
    io::{self, Read as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use mcp_sse::ReplicaId;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};

use crate::wire::VERSION;

/// The largest file of a key that is read, in bytes.
const LARGEST_FILE: u64 = 1024;
const RUN: usize = 16;
const COUNT: usize = 8;
/// The version, whether it is sealed, who has sealed it, and how many before.
const HEAD: usize = 2 + RUN + COUNT;
const OPEN: u8 = 0;
const SEALED: u8 = 1;

/// A key that the replicas of a cluster share: 32 bytes.
///
/// With one, what crosses the engine is encrypted and authenticated: whoever has access to the engine can delay and drop
/// it, and see who talks to whom, and nothing else. Without one, such a person can read every message and speak for every
/// client.
#[derive(Clone)]
pub struct ClusterKey([u8; 32]);

/// Why there is no [`ClusterKey`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterKeyError {
    /// The file cannot be read.
    #[error("cannot read the cluster key: {0}")]
    File(#[from] io::Error),
    /// It is not a key.
    #[error("the cluster key is not 64 hex digits (32 random bytes; `openssl rand -hex 32` makes them)")]
    NotAKey,
}

impl ClusterKey {
    /// Reads a key: 64 hex digits, with white space around.
    ///
    /// # Errors
    ///
    /// [`ClusterKeyError::NotAKey`]. It does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, ClusterKeyError> {
        let text = text.trim().as_bytes();
        let mut key = [0; 32];
        if text.len() != 2 * key.len() {
            return Err(ClusterKeyError::NotAKey);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(ClusterKeyError::NotAKey);
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(key))
    }

    /// Reads a key from a file of at most 1 KiB. Blocks. Who else may read the file is not looked at.
    ///
    /// # Errors
    ///
    /// [`ClusterKeyError`]: the file cannot be read, or holds something else.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ClusterKeyError> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(LARGEST_FILE).read_to_string(&mut text)?;
        Self::parse(&text)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

/// What a message is, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent<'a> {
    Ask { to: &'a ReplicaId },
    Reply { to: &'a ReplicaId },
    Announcement,
    Record { key: &'a str },
}

/// Why a message is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Of another version.
    Version,
    /// It is not sealed, and has to be; or the other way round.
    NotSealed,
    NoKey,
    /// Not with this key, or not what it is taken for.
    Forged,
}

/// Seals what one replica sends, and opens what it gets.
pub(crate) struct Seals {
    cluster: Box<str>,
    run: [u8; RUN],
    key: Option<Prk>,
    own: Option<LessSafeKey>,
    count: AtomicU64,
}

impl Seals {
    pub(crate) fn new(cluster: &str, me: &ReplicaId, key: Option<&ClusterKey>) -> Self {
        let mut run = [0; RUN];
        let digits = me.run().as_bytes();
        if digits.len() == RUN {
            run.copy_from_slice(digits);
        }
        let key = key.map(|key| Salt::new(HKDF_SHA256, b"mcp-sse cluster 1").extract(&key.0));
        let own = key.as_ref().and_then(|key| of_run(key, &run));
        Self { cluster: cluster.into(), run, key, own, count: AtomicU64::new(0) }
    }

    /// Whether what crosses is sealed.
    pub(crate) fn is_on(&self) -> bool {
        self.key.is_some()
    }

    fn bound(&self, what: Sent<'_>) -> Vec<u8> {
        let (kind, to) = match what {
            Sent::Ask { to } => (b'a', to.as_str()),
            Sent::Reply { to } => (b'r', to.as_str()),
            Sent::Announcement => (b'n', ""),
            Sent::Record { key } => (b's', key),
        };
        // No name has a zero in it.
        [&[VERSION, kind], self.cluster.as_bytes(), &[0], to.as_bytes()].concat()
    }

    pub(crate) fn seal(&self, what: Sent<'_>, bytes: &[u8]) -> Bytes {
        let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut out = Vec::with_capacity(HEAD + bytes.len() + CHACHA20_POLY1305.tag_len());
        out.push(VERSION);
        out.push(if self.own.is_some() { SEALED } else { OPEN });
        out.extend_from_slice(&self.run);
        out.extend_from_slice(&count);
        let mut sealed = bytes.to_vec();
        if let Some(key) = &self.own {
            // It fails only for more bytes than there are.
            let sealing =
                key.seal_in_place_append_tag(nonce(count), Aad::from(self.bound(what)), &mut sealed);
            if sealing.is_err() {
                sealed.clear();
            }
        }
        out.extend_from_slice(&sealed);
        out.into()
    }

    pub(crate) fn open(&self, what: Sent<'_>, bytes: &Bytes) -> Result<Bytes, Unread> {
        let (Some(head), Some(rest)) = (bytes.get(..HEAD), bytes.get(HEAD..)) else {
            return Err(Unread::Version);
        };
        if head[0] != VERSION {
            return Err(Unread::Version);
        }
        let Some(key) = &self.key else {
            return if head[1] == OPEN { Ok(bytes.slice(HEAD..)) } else { Err(Unread::NoKey) };
        };
        if head[1] != SEALED {
            return Err(Unread::NotSealed);
        }
        let mut count = [0; COUNT];
        count.copy_from_slice(&head[HEAD - COUNT..]);
        let key = of_run(key, &head[2..2 + RUN]).ok_or(Unread::Forged)?;
        let mut opened = rest.to_vec();
        let length = key
            .open_in_place(nonce(count), Aad::from(self.bound(what)), &mut opened)
            .map_err(|_| Unread::Forged)?
            .len();
        opened.truncate(length);
        Ok(opened.into())
    }
}

/// The key that a replica seals with.
fn of_run(key: &Prk, run: &[u8]) -> Option<LessSafeKey> {
    let info = [run];
    let made = key.expand(&info, &CHACHA20_POLY1305).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(made)))
}

fn nonce(count: [u8; COUNT]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&count);
    Nonce::assume_unique_for_key(nonce)
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals")
            .field("cluster", &self.cluster)
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F\n";

    #[test]
    fn a_key_is_64_hex_digits() {
        assert!(ClusterKey::parse(KEY).is_ok());
        for bad in ["", "00", &KEY[2..], &KEY.replace('1', "g")] {
            assert!(matches!(ClusterKey::parse(bad), Err(ClusterKeyError::NotAKey)), "{bad}");
        }
        assert_eq!(format!("{:?}", ClusterKey::parse(KEY).unwrap()), "ClusterKey(…)");
    }

    #[test]
    fn only_who_has_the_key_reads_a_message_and_only_as_what_it_was_sent() {
        let [a, b] = ["a", "b"].map(|name| ReplicaId::new(name).unwrap());
        let key = ClusterKey::parse(KEY).unwrap();
        let seals = |cluster, me, key| Seals::new(cluster, me, key);
        let sender = seals("x", &a, Some(&key));
        let message = sender.seal(Sent::Ask { to: &b }, b"hello");
        assert!(!message.windows(5).any(|part| part == b"hello"));
        assert_ne!(message, sender.seal(Sent::Ask { to: &b }, b"hello"));
        let receiver = seals("x", &b, Some(&key));
        assert_eq!(receiver.open(Sent::Ask { to: &b }, &message).unwrap(), "hello");
        for (cluster, what) in [
            ("y", Sent::Ask { to: &b }),
            ("x", Sent::Ask { to: &a }),
            ("x", Sent::Reply { to: &b }),
            ("x", Sent::Announcement),
        ] {
            assert_eq!(seals(cluster, &b, Some(&key)).open(what, &message), Err(Unread::Forged), "{what:?}");
        }
        let other = ClusterKey::parse(&"11".repeat(32)).unwrap();
        assert_eq!(seals("x", &b, Some(&other)).open(Sent::Ask { to: &b }, &message), Err(Unread::Forged));
        assert_eq!(seals("x", &b, None).open(Sent::Ask { to: &b }, &message), Err(Unread::NoKey));
        for at in 0..message.len() {
            let mut changed = message.to_vec();
            changed[at] ^= 1;
            assert!(receiver.open(Sent::Ask { to: &b }, &changed.into()).is_err(), "{at}");
            assert!(receiver.open(Sent::Ask { to: &b }, &message.slice(..at)).is_err());
        }
    }

    #[test]
    fn without_a_key_a_message_is_open_and_with_one_an_open_message_is_refused() {
        let a = ReplicaId::new("a").unwrap();
        let open = Seals::new("x", &a, None).seal(Sent::Announcement, b"hello");
        assert_eq!(Seals::new("x", &a, None).open(Sent::Announcement, &open).unwrap(), "hello");
        let key = ClusterKey::parse(KEY).unwrap();
        let with = Seals::new("x", &a, Some(&key));
        assert_eq!(with.open(Sent::Announcement, &open), Err(Unread::NotSealed));
    }
}
