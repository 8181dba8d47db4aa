//! The body of every response of the transport: a short text, or a stream of events.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

#[cfg(feature = "server")]
use crate::output::Output;
use crate::session::{core::Taken, shared::Shared};

/// The response body of both services: a short text, or a session's stream of events.
///
/// Dropping a stream (the server does when the connection closes) detaches it from its session.
///
/// ```
/// use http_body_util::BodyExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sse = mcp_sse::SseServerTransport::new("/messages/")?;
/// let get = http::Request::get("http://evil.example/sse").body(())?;
/// let (refusal, _) = sse.connect(&get);
/// assert_eq!(refusal.into_body().collect().await?.to_bytes(), "Invalid Host header");
///
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (stream, _session) = sse.connect(&get);
/// let chunk = stream.into_body().frame().await.unwrap()?.into_data().unwrap();
/// assert!(chunk.starts_with(b"event: endpoint\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Text(&'static str),
    Stream(Stream),
}

/// A reader of a session's log.
#[derive(Debug)]
pub(crate) struct Stream {
    session: Arc<Shared>,
    generation: u64,
    /// The `endpoint` event, until it is sent.
    preamble: BytesMut,
    ended: bool,
}

impl Body {
    /// An empty body, for the other answers of a server that has no framework.
    ///
    /// ```
    /// use mcp_sse::Body;
    ///
    /// let mut response = http::Response::new(Body::empty());
    /// *response.status_mut() = http::StatusCode::NOT_FOUND;
    /// assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(0));
    /// ```
    pub fn empty() -> Self {
        Self::text("")
    }

    pub(crate) fn text(text: &'static str) -> Self {
        Self(Kind::Text(text))
    }

    /// The session of a stream.
    #[cfg(feature = "server")]
    pub(crate) fn session(&self) -> Option<Arc<Shared>> {
        match &self.0 {
            Kind::Stream(stream) => Some(Arc::clone(&stream.session)),
            Kind::Text(_) => None,
        }
    }

    /// The stream, or the text.
    #[cfg(feature = "server")]
    pub(crate) fn into_stream(self) -> Result<Stream, &'static str> {
        match self.0 {
            Kind::Stream(stream) => Ok(stream),
            Kind::Text(text) => Err(text),
        }
    }

    pub(crate) fn stream(session: Arc<Shared>, generation: u64, preamble: BytesMut) -> Self {
        Self(Kind::Stream(Stream { session, generation, preamble, ended: false }))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Kind::Text("") => Poll::Ready(None),
            Kind::Text(text) => {
                let text = std::mem::take(text);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
            }
            Kind::Stream(stream) => stream.poll(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Text(""))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // The first event leaves in one chunk with whatever waits behind it.
        let mut chunk = std::mem::take(&mut self.preamble);
        match self.session.poll_take(self.generation, &mut chunk, 0, cx) {
            Taken::Chunk | Taken::All => Poll::Ready(Some(chunk.freeze())),
            #[cfg(feature = "server")]
            Taken::Soon => Poll::Pending,
            Taken::Nothing => Poll::Pending,
            Taken::End => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(feature = "server")]
impl Stream {
    /// Writes what waits to `out`, the first event before all else. `first`: it was not told `Soon`.
    pub(crate) fn poll_take(&mut self, out: &mut impl Output, first: bool, cx: &Context<'_>) -> Taken {
        let start = out.len();
        let has_preamble = !self.preamble.is_empty();
        if has_preamble {
            out.put(&std::mem::take(&mut self.preamble));
        }
        self.session.with(|core, now| {
            if first && !has_preamble {
                core.poll_first(self.generation, out, start, cx.waker(), now)
            } else {
                core.poll_take(self.generation, out, start, cx.waker(), now)
            }
        })
    }

    /// Whether what was taken but not written yet is not wanted any more. `some_left`: a part of it was
    /// written since the last call.
    pub(crate) fn poll_over(&self, some_left: bool, cx: &Context<'_>) -> bool {
        self.session.with(|core, now| core.poll_over(self.generation, some_left, cx.waker(), now))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.detach(self.generation);
    }
}
