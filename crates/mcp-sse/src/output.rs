//! Where events are written to.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Takes the bytes of events, one behind the other.
pub(crate) trait Output {
    /// How many there are.
    fn len(&self) -> usize;

    /// So many will come.
    fn reserve(&mut self, bytes: usize);

    fn put(&mut self, bytes: &[u8]);

    /// A part of a message. Where it is large, it may be shared instead of copied.
    fn put_part(&mut self, message: &Bytes, part: Range<usize>);
}

impl Output for BytesMut {
    fn len(&self) -> usize {
        self.len()
    }

    fn reserve(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_part(&mut self, message: &Bytes, part: Range<usize>) {
        self.extend_from_slice(&message[part]);
    }
}
