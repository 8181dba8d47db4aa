//! Reading a request's body, bounded in size and time while it streams.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use pin_project_lite::pin_project;

use super::Rejection;

/// How large the body may turn out to be: its declared length, or the limit. An error if what is
/// declared is over the limit.
pub(crate) fn expected<B: Body>(body: &B, limit: usize) -> Result<usize, Rejection> {
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(Rejection::BodyTooLarge);
    }
    Ok(hint.exact().map_or(limit, |exact| exact as usize))
}

/// Reads the body whole. The bytes own exactly their memory: a small message must not keep the
/// connection's read buffer alive while it waits in a queue.
pub(crate) async fn read<B>(body: B, limit: usize, timeout: Duration) -> Result<Bytes, Rejection>
where
    B: Body,
{
    let mut bytes = BytesMut::new();
    walk(body, limit, timeout, |chunk| {
        // Most bodies come as one frame: this reserves its size once, exactly.
        bytes.reserve(chunk.remaining());
        while chunk.has_remaining() {
            let part = chunk.chunk();
            bytes.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
    })
    .await?;
    Ok(bytes.freeze())
}

/// Reads the body to its end and keeps nothing: the connection stays usable, and a body over the limit is
/// told apart.
pub(crate) async fn discard<B: Body>(body: B, limit: usize, timeout: Duration) -> Result<(), Rejection> {
    walk(body, limit, timeout, |_| ()).await
}

async fn walk<B: Body>(
    body: B,
    limit: usize,
    timeout: Duration,
    each: impl FnMut(&mut B::Data),
) -> Result<(), Rejection> {
    let walk = pin!(Walk { body, left: limit, each });
    tokio::time::timeout(timeout, walk).await.unwrap_or(Err(Rejection::BodyTimeout))
}

pin_project! {
    struct Walk<B, F> {
        #[pin]
        body: B,
        left: usize,
        each: F,
    }
}

impl<B: Body, F: FnMut(&mut B::Data)> Future for Walk<B, F> {
    type Output = Result<(), Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let frame = match ready!(this.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(_)) => return Poll::Ready(Err(Rejection::BodyUnreadable)),
                Some(Ok(frame)) => frame,
            };
            let Ok(mut data) = frame.into_data() else { continue };
            match this.left.checked_sub(data.remaining()) {
                Some(left) => *this.left = left,
                None => return Poll::Ready(Err(Rejection::BodyTooLarge)),
            }
            (this.each)(&mut data);
        }
    }
}
