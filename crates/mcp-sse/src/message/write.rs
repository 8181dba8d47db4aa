//! Writes JSON into bytes that take no more memory than they need: a message may be kept for a replay.

use std::{cell::Cell, io};

use bytes::Bytes;

/// What is at most this long is written into a buffer that its thread keeps, and then copied.
const KEPT_BUFFER: usize = 4 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Where JSON is written to.
pub(crate) struct Buffer(Vec<u8>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // A little more than a large part needs: what follows it is short, as a rule, and does not move it.
            self.0.reserve(bytes.len() + needed / 16 + 128);
        }
        self.0.extend_from_slice(bytes);
    }

    /// What was written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

/// What `write` writes.
pub(crate) fn bytes<E>(write: impl FnOnce(&mut Buffer) -> Result<(), E>) -> Result<Bytes, E> {
    // Taken, not borrowed: what is written may itself come here, and finds an empty one.
    let mut buffer = Buffer(BUFFER.take());
    buffer.0.clear();
    let written = write(&mut buffer);
    if written.is_ok() && buffer.0.len() > KEPT_BUFFER {
        buffer.0.shrink_to_fit();
        return Ok(buffer.0.into());
    }
    let bytes = written.map(|()| Bytes::copy_from_slice(&buffer.0));
    if buffer.0.capacity() <= 2 * KEPT_BUFFER {
        BUFFER.set(buffer.0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_within_what_is_written_is_whole() {
        let inner = || {
            bytes(|buffer| {
                buffer.put(b"inner");
                Ok::<(), ()>(())
            })
        };
        let outer = bytes(|buffer| {
            buffer.put(b"outer ");
            buffer.put(&inner()?);
            Ok::<(), ()>(())
        });
        assert_eq!(outer.unwrap(), "outer inner");
    }

    #[test]
    fn what_failed_leaves_nothing_behind() {
        let failed = bytes(|buffer| {
            buffer.put(b"half");
            Err(())
        });
        assert_eq!(failed, Err(()));
        let whole = bytes(|buffer| {
            buffer.put(b"whole");
            Ok::<(), ()>(())
        });
        assert_eq!(whole.unwrap(), "whole");
    }

    #[test]
    fn bytes_of_any_length_are_as_they_were_written() {
        for length in [0, 1, 100, KEPT_BUFFER, KEPT_BUFFER + 1, 3 * KEPT_BUFFER, 1 << 20] {
            for part in [7, 4096, 1 << 20] {
                let all: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let written = bytes(|buffer| -> Result<(), ()> {
                    all.chunks(part).for_each(|part| buffer.put(part));
                    Ok(())
                });
                assert!(written.unwrap() == all, "{length} in parts of {part}");
            }
        }
    }
}
