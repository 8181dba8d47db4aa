//! Bodies that come in parts.

use std::{collections::HashMap, time::Duration};

use bytes::{Bytes, BytesMut};
use mcp_sse::ReplicaId;
use tokio::time::Instant;

use crate::wire::Head;

/// How many bytes of bodies are held. One may be larger, if it is alone.
const BYTES: usize = 16 * 1024 * 1024;
/// The largest body.
const LARGEST: u64 = 256 * 1024 * 1024;
/// Parts are larger than that, but for the last one: each takes some memory.
const SMALLEST: usize = if cfg!(test) { 2 } else { 64 * 1024 };
/// How many are held.
const BODIES: usize = 256;
/// How long one may come to nothing. Its caller asks again within seconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Parts {
    bodies: HashMap<(ReplicaId, u64), Body>,
    bytes: usize,
}

#[derive(Debug)]
struct Body {
    head: Head,
    length: usize,
    parts: Vec<Option<Bytes>>,
    /// When the last part came.
    last: Instant,
}

/// What becomes of a part.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum Added {
    /// There are more to come.
    More,
    /// It was the last one.
    Whole(Head, Bytes),
    /// It belongs to nothing.
    Unknown,
}

impl Parts {
    /// A body of this length will come; whether there is room for it.
    pub(crate) fn begins(
        &mut self,
        from: &ReplicaId,
        call: u64,
        head: Head,
        length: u64,
        parts: u32,
        now: Instant,
    ) -> bool {
        let key = (from.clone(), call);
        if self.bodies.contains_key(&key) {
            return true;
        }
        let mut dropped = 0;
        self.bodies.retain(|_, body| {
            let stays = now.saturating_duration_since(body.last) < PATIENCE;
            dropped += if stays { 0 } else { body.length };
            stays
        });
        self.bytes -= dropped;
        let Some(length) = usize::try_from(length).ok().filter(|_| length <= LARGEST) else { return false };
        let is_alone = self.bodies.is_empty();
        let fits = is_alone || self.bytes.saturating_add(length) <= BYTES;
        let most = length.div_ceil(SMALLEST);
        if !fits || self.bodies.len() >= BODIES || parts == 0 || parts as usize > most {
            return false;
        }
        self.bytes += length;
        self.bodies.insert(key, Body { head, length, parts: vec![None; parts as usize], last: now });
        true
    }

    /// A part has come.
    pub(crate) fn add(
        &mut self,
        from: &ReplicaId,
        call: u64,
        index: u32,
        bytes: Bytes,
        now: Instant,
    ) -> Added {
        let key = (from.clone(), call);
        let Some(body) = self.bodies.get_mut(&key) else { return Added::Unknown };
        let held: usize = body.parts.iter().flatten().map(Bytes::len).sum();
        let Some(part) = body.parts.get_mut(index as usize) else { return Added::Unknown };
        if part.is_none() {
            if held + bytes.len() > body.length {
                return Added::Unknown;
            }
            *part = Some(bytes);
        }
        body.last = now;
        if body.parts.iter().any(Option::is_none) {
            return Added::More;
        }
        let Some(body) = self.bodies.remove(&key) else { return Added::Unknown };
        self.bytes -= body.length;
        let mut whole = BytesMut::with_capacity(body.length);
        for part in body.parts.iter().flatten() {
            whole.extend_from_slice(part);
        }
        if whole.len() == body.length { Added::Whole(body.head, whole.freeze()) } else { Added::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::clock;

    #[test]
    fn parts_in_any_order_and_twice_make_one_body() {
        let (mut parts, now) = (Parts::default(), clock::now());
        let from = ReplicaId::new("a").unwrap();
        let head = Head::of("sse", &Request::new(Bytes::new()));
        assert!(parts.begins(&from, 1, head.clone(), 5, 3, now));
        assert!(parts.begins(&from, 1, head.clone(), 5, 3, now), "it is asked again");
        assert_eq!(parts.add(&from, 1, 2, "e".into(), now), Added::More);
        assert_eq!(parts.add(&from, 1, 0, "ab".into(), now), Added::More);
        assert_eq!(parts.add(&from, 1, 0, "xx".into(), now), Added::More);
        assert_eq!(parts.add(&from, 1, 3, "x".into(), now), Added::Unknown);
        assert_eq!(parts.add(&from, 1, 1, "cdx".into(), now), Added::Unknown, "more than was said");
        assert_eq!(parts.add(&from, 2, 1, "cd".into(), now), Added::Unknown);
        assert_eq!(parts.add(&from, 1, 1, "cd".into(), now), Added::Whole(head, "abcde".into()));
        assert_eq!((parts.bytes, parts.bodies.len()), (0, 0));
    }

    #[test]
    fn what_is_held_is_bounded_in_bytes_in_number_and_in_time() {
        let (mut parts, now) = (Parts::default(), clock::now());
        let from = ReplicaId::new("a").unwrap();
        let head = Head::of("sse", &Request::new(Bytes::new()));
        let begins = |parts: &mut Parts, call, length, count, now| {
            parts.begins(&from, call, head.clone(), length, count, now)
        };
        assert!(!begins(&mut parts, 1, 10, 6, now) && !begins(&mut parts, 1, 10, 0, now));
        assert!(!begins(&mut parts, 1, LARGEST + 1, 9, now));
        assert!(begins(&mut parts, 1, BYTES as u64 * 2, 9, now), "alone");
        assert!(!begins(&mut parts, 2, 1, 1, now));
        let now = now + PATIENCE;
        assert!((0..BODIES as u64).all(|call| begins(&mut parts, call, 9, 1, now)));
        assert!(!begins(&mut parts, 999, 9, 1, now));
        assert_eq!(parts.bytes, 9 * BODIES);
    }
}
