//! Reads the body of a request, with limits on its size and on the time that it takes to arrive.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

use crate::{admission::Rejection, clock};

/// At most this much memory is allocated for a body before it has arrived.
const MOST_RESERVED: usize = 16 * 1024 * 1024;

/// A body that is being read.
pub(crate) struct BodyReader<'a, B> {
    body: Pin<&'a mut B>,
    bytes: BytesMut,
    read: usize,
    limit: usize,
    /// How much longer it may take to arrive.
    patience: Duration,
}

impl<'a, B: Body> BodyReader<'a, B> {
    /// Fails if the declared length is over the limit.
    pub(crate) fn new(body: Pin<&'a mut B>, limit: usize, patience: Duration) -> Result<Self, Rejection> {
        if body.size_hint().lower() > limit as u64 {
            return Err(Rejection::BodyTooLarge);
        }
        Ok(Self { body, bytes: BytesMut::new(), read: 0, limit, patience })
    }

    /// The length that the request declares.
    pub(crate) fn declared(&self) -> Option<usize> {
        self.body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// How much has arrived, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.read
    }

    /// Reads until the body ends (`true`) or this many bytes have arrived (`false`).
    pub(crate) async fn read_up_to(&mut self, length: usize) -> Result<bool, Rejection> {
        while self.read < length {
            let Some(mut data) = self.next().await? else { return Ok(true) };
            // Most bodies come in one frame, for which this allocates exactly once. The bytes are copied so
            // that a small message in a queue does not keep the connection's whole read buffer alive.
            self.bytes.reserve(data.remaining());
            while data.has_remaining() {
                let part = data.chunk();
                self.bytes.extend_from_slice(part);
                let length = part.len();
                data.advance(length);
            }
        }
        Ok(false)
    }

    /// Reads the rest, and returns the whole body.
    pub(crate) async fn read(mut self) -> Result<Bytes, Rejection> {
        // Room for all of it: a buffer that grows could take up to twice as much. Up to a limit, since a
        // client need not send what it declares.
        let rest = self.declared().unwrap_or(0).min(self.limit).saturating_sub(self.read);
        self.bytes.reserve(rest.min(MOST_RESERVED));
        self.read_up_to(usize::MAX).await?;
        Ok(self.bytes.freeze())
    }

    /// Reads the rest and drops it, so that the connection stays usable and a body over the limit is still
    /// refused as such.
    pub(crate) async fn discard(mut self) -> Result<(), Rejection> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// The next frame of data.
    async fn next(&mut self) -> Result<Option<B::Data>, Rejection> {
        loop {
            let body = &mut self.body;
            let frame = poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(drop));
            let frame = match clock::within(&mut self.patience, frame).await {
                None => return Err(Rejection::BodyTimeout),
                Some(None) => return Ok(None),
                Some(Some(Err(()))) => return Err(Rejection::BodyUnreadable),
                Some(Some(Ok(frame))) => frame,
            };
            // Trailers are ignored.
            let Ok(data) = frame.into_data() else { continue };
            self.read = self.read.saturating_add(data.remaining());
            if self.read > self.limit {
                return Err(Rejection::BodyTooLarge);
            }
            return Ok(Some(data));
        }
    }
}
