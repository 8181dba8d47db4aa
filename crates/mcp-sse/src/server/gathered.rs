//! What is to be written to a stream's socket: bytes written here, and between them parts of large messages,
//! which are shared with their session's log and leave in one write with the rest.

use std::{
    io::{self, IoSlice, Write as _},
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite as _;

use super::listener::Socket;
use crate::output::Output;

/// From here on it costs less to share a part of a message than to copy it.
const SHARED: usize = 16 * 1024;
/// Slices of one write. What has more is written in several.
const SLICES: usize = 32;
/// Room for the length of a chunk before it, of four digits as most that do not come alone have.
const LENGTH_ROOM: usize = 6;

#[derive(Default)]
pub(super) struct Gathered {
    own: Vec<u8>,
    /// The parts that are shared, each with the place in `own` before which it stands.
    shared: Vec<(usize, Bytes)>,
    /// All of these.
    shared_bytes: usize,
}

/// Where a chunk began.
pub(super) struct Chunk {
    own: usize,
    shared: usize,
    shared_bytes: usize,
}

impl Output for Gathered {
    fn len(&self) -> usize {
        self.own.len() + self.shared_bytes
    }

    fn reserve(&mut self, bytes: usize) {
        // Of what is more, the most is shared.
        self.own.reserve(bytes.min(SHARED));
    }

    fn put(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    fn put_part(&mut self, message: &Bytes, part: Range<usize>) {
        // The log may forget a message with its last part, which must not keep all of it in memory then.
        let is_last_of_several = part.end == message.len() && part.start > 0;
        if part.len() < SHARED || is_last_of_several {
            return self.put(&message[part]);
        }
        self.shared_bytes += part.len();
        self.shared.push((self.own.len(), message.slice(part)));
    }
}

impl From<Vec<u8>> for Gathered {
    fn from(own: Vec<u8>) -> Self {
        Self { own, ..Self::default() }
    }
}

impl Gathered {
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// The memory that its buffer takes.
    pub(super) fn capacity(&self) -> usize {
        self.own.capacity()
    }

    pub(super) fn begin_chunk(&mut self) -> Chunk {
        let chunk = Chunk { own: self.own.len(), shared: self.shared.len(), shared_bytes: self.shared_bytes };
        self.own.extend_from_slice(&[0; LENGTH_ROOM]);
        chunk
    }

    /// Writes the length of a chunk before it, and its end behind it; an empty one is taken back.
    pub(super) fn end_chunk(&mut self, Chunk { own: start, shared, shared_bytes }: &Chunk) {
        let from = start + LENGTH_ROOM;
        let own_length = self.own.len() - from;
        let length = own_length + self.shared_bytes - shared_bytes;
        if length == 0 {
            return self.own.truncate(*start);
        }
        const ROOM: usize = 18;
        let mut digits = [0; ROOM];
        let mut rest = &mut digits[..];
        // It has room for any length.
        let _ = write!(rest, "{length:x}\r\n");
        let taken = ROOM - rest.len();
        if taken != LENGTH_ROOM {
            self.own.resize(start + taken.max(LENGTH_ROOM) + own_length, 0);
            self.own.copy_within(from..from + own_length, start + taken);
            self.own.truncate(start + taken + own_length);
            for (before, _) in &mut self.shared[*shared..] {
                *before = *before + taken - LENGTH_ROOM;
            }
        }
        self.own[*start..start + taken].copy_from_slice(&digits[..taken]);
        self.own.extend_from_slice(b"\r\n");
    }

    /// All of it, in order.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let shared = self.shared.iter().flat_map(move |(before, part)| {
            let own = &self.own[at..*before];
            at = *before;
            [own, part]
        });
        let last = self.shared.last().map_or(0, |(before, _)| *before);
        shared.chain(std::iter::once(&self.own[last..]))
    }

    /// Writes what stands behind the first `written` bytes.
    pub(super) fn poll_write(
        &self,
        socket: &mut Socket,
        written: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.shared.is_empty() {
            return Pin::new(socket).poll_write(cx, &self.own[written..]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut count, mut skip) = (0, written);
        for part in self.parts() {
            if part.len() <= skip {
                skip -= part.len();
                continue;
            }
            let Some(slice) = slices.get_mut(count) else { break };
            *slice = IoSlice::new(&part[skip..]);
            (count, skip) = (count + 1, 0);
        }
        Pin::new(socket).poll_write_vectored(cx, &slices[..count])
    }

    /// Takes out what stands behind the first `written` bytes. The buffer stays here.
    pub(super) fn take_rest(&mut self, written: usize) -> Self {
        let (mut at, mut skip) = (0, written);
        let mut rest = Self::default();
        let mut skipped = |length: usize| {
            let skipped = length.min(skip);
            skip -= skipped;
            skipped
        };
        for (before, mut part) in std::mem::take(&mut self.shared) {
            let own = &self.own[at..before];
            rest.put(&own[skipped(own.len())..]);
            at = before;
            part.advance(skipped(part.len()));
            if !part.is_empty() {
                rest.shared_bytes += part.len();
                rest.shared.push((rest.own.len(), part));
            }
        }
        let own = &self.own[at..];
        rest.put(&own[skipped(own.len())..]);
        self.shared_bytes = 0;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(gathered: &Gathered) -> Vec<u8> {
        gathered.parts().flatten().copied().collect()
    }

    fn some(length: usize) -> Vec<u8> {
        (0..length).map(|at| at as u8).collect()
    }

    fn chunk(content: &[u8]) -> Vec<u8> {
        [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
    }

    #[test]
    fn a_chunk_of_any_length_stands_right_behind_its_length() {
        for length in [1, 15, 16, 255, 4_095, 4_096, 65_535, 65_536, 1_048_576] {
            let mut out = Gathered::from(b"before".to_vec());
            let begun = out.begin_chunk();
            out.put(&some(length));
            out.end_chunk(&begun);
            assert!(all(&out) == [b"before", &chunk(&some(length))[..]].concat(), "{length}");
        }
    }

    #[test]
    fn chunks_with_shared_parts_are_as_if_all_had_been_copied() {
        let large = Bytes::from(some(5 * SHARED + 7));
        let mut out = Gathered::default();
        let mut expected = Vec::new();
        for (before, part, behind) in [
            (&b"a"[..], 0..SHARED, &b"b"[..]),
            (b"", 0..0, b""),
            (b"", SHARED..5 * SHARED, b"c"),
            (b"", 5 * SHARED..large.len(), b"\n\n"),
            (b"d", 0..large.len(), b""),
        ] {
            let begun = out.begin_chunk();
            out.put(before);
            out.put_part(&large, part.clone());
            out.put(behind);
            out.end_chunk(&begun);
            if !part.is_empty() {
                expected.extend(chunk(&[before, &large[part], behind].concat()));
            }
        }
        assert!(all(&out) == expected);
        assert_eq!((out.len(), out.shared.len()), (expected.len(), 3));
        for written in (0..=expected.len()).step_by(1009).chain([expected.len()]) {
            let mut again = Gathered { own: out.own.clone(), shared: out.shared.clone(), ..out };
            let rest = again.take_rest(written);
            assert!(all(&rest) == expected[written..], "{written}");
            assert_eq!(rest.len(), expected.len() - written);
        }
    }

    #[test]
    fn the_last_part_of_a_message_does_not_keep_all_of_it() {
        let large = Bytes::from(some(4 * SHARED));
        let mut out = Gathered::default();
        out.put_part(&large, 2 * SHARED..4 * SHARED);
        assert!(out.shared.is_empty() && large.is_unique());
    }
}
