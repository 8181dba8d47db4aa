//! The body of every response of the transport: a short text, or a stream of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

#[cfg(feature = "server")]
use crate::session::driver::Driver;
use crate::session::stream::EventStream;

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
/// let (refusal, _) = sse.connect(&get).await;
/// assert_eq!(refusal.into_body().collect().await?.to_bytes(), "Invalid Host header");
///
/// # let get = http::Request::get("http://localhost/sse").body(())?;
/// # let (stream, _session) = sse.connect(&get).await;
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
    Stream(EventStream),
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
    pub(crate) fn session(&self) -> Option<std::sync::Arc<Driver>> {
        match &self.0 {
            Kind::Stream(stream) => Some(std::sync::Arc::clone(stream.session())),
            Kind::Text(_) => None,
        }
    }

    /// The stream, or the text.
    #[cfg(feature = "server")]
    pub(crate) fn into_stream(self) -> Result<EventStream, &'static str> {
        match self.0 {
            Kind::Stream(stream) => Ok(stream),
            Kind::Text(text) => Err(text),
        }
    }

    pub(crate) fn stream(stream: EventStream) -> Self {
        Self(Kind::Stream(stream))
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
