//! The body of a POST that has not arrived whole: the rest is read straight into the memory that its message
//! keeps.

use std::{
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use super::{head::MAX_AT_ONCE, listener::Socket};

/// At most this much memory is allocated for a body before it has arrived.
const MOST_RESERVED: usize = 16 * 1024 * 1024;

pub(super) struct Receiving {
    body: BytesMut,
    length: usize,
}

impl Receiving {
    /// `arrived` is the beginning of a body of this length.
    pub(super) fn new(arrived: &[u8], length: usize) -> Self {
        let mut body = BytesMut::with_capacity(length.min(MOST_RESERVED));
        body.extend_from_slice(arrived);
        Self { body, length }
    }

    /// How many bytes the whole body has.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether there must be room in its session's queue before it is read. A connection may hold as much as it
    /// reads at once without that.
    pub(super) fn needs_room(&self) -> bool {
        self.length > MAX_AT_ONCE
    }

    /// Ready when the body is there whole. What follows it is not read.
    pub(super) fn poll(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let missing = self.length.saturating_sub(self.body.len())
            && missing > 0
        {
            let mut rest = (&mut *socket).take(missing as u64);
            if ready!(pin!(rest.read_buf(&mut self.body)).poll(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn into_body(self) -> Bytes {
        self.body.freeze()
    }
}
