//! The body of every response: a short text, a stream of events, or another body behind a layer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};

#[cfg(feature = "server")]
use crate::session::driver::Driver;
use crate::session::stream::EventStream;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The response body of the crate's services: a short text, a session's stream of events, or any other body, boxed.
///
/// A layer that answers a request itself creates one from a string, from bytes or from [another body](Self::new). The
/// default is empty. The bodies of the transport's own responses never fail.
///
/// Dropping a stream (the server does when the connection closes) detaches it from its session.
///
/// ```
/// use http_body_util::BodyExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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
pub struct Body(Kind);

enum Kind {
    Text(&'static str),
    Stream(EventStream),
    Other(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// Boxes a body of any type.
    ///
    /// ```
    /// use http::Response;
    /// use http_body_util::Full;
    /// use mcp_sse::Body;
    ///
    /// /// A page from another service, for a layer that answers with it.
    /// fn page(page: Response<Full<bytes::Bytes>>) -> Response<Body> {
    ///     page.map(Body::new)
    /// }
    /// # drop(page(Response::default()));
    /// ```
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Other(body.map_err(Into::into).boxed_unsync()))
    }

    pub(crate) fn text(text: &'static str) -> Self {
        Self(Kind::Text(text))
    }

    /// The session of a stream.
    #[cfg(feature = "server")]
    pub(crate) fn session(&self) -> Option<std::sync::Arc<Driver>> {
        match &self.0 {
            Kind::Stream(stream) => Some(std::sync::Arc::clone(stream.session())),
            Kind::Text(_) | Kind::Other(_) => None,
        }
    }

    /// The stream, or the text.
    #[cfg(feature = "server")]
    pub(crate) fn into_stream(self) -> Result<EventStream, &'static str> {
        match self.0 {
            Kind::Stream(stream) => Ok(stream),
            Kind::Text(text) => Err(text),
            Kind::Other(_) => Err(""),
        }
    }

    pub(crate) fn stream(stream: EventStream) -> Self {
        Self(Kind::Stream(stream))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Kind::Text("") => Poll::Ready(None),
            Kind::Text(text) => {
                let text = std::mem::take(text);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
            }
            Kind::Stream(stream) => stream.poll(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
            Kind::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Text(text) => text.is_empty(),
            Kind::Stream(_) => false,
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::text("")
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
