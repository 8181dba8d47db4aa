//! The floor: bare hyper doing the same HTTP work, without checks and without JSON. What a client posts
//! goes back to it as an event.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};

type Sessions = Mutex<HashMap<u64, mpsc::Sender<Bytes>>>;

enum Body {
    Text(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take()),
            Self::Stream(events) => events.poll_recv(cx),
        };
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

pub(crate) async fn run(listener: TcpListener) -> std::io::Result<()> {
    let sessions: Arc<Sessions> = Arc::default();
    let next = Arc::new(AtomicU64::new(1));
    // One connection after the other, each in a task, on plain hyper.
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (sessions, next) = (Arc::clone(&sessions), Arc::clone(&next));
        let service = hyper::service::service_fn(move |request| {
            handle(request, Arc::clone(&sessions), Arc::clone(&next))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn handle(
    request: Request<Incoming>,
    sessions: Arc<Sessions>,
    next: Arc<AtomicU64>,
) -> Result<Response<Body>, Infallible> {
    if request.method() == Method::GET {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(1024);
        let endpoint = format!("event: endpoint\ndata: /messages/?session_id={id}\n\n");
        // The channel is new and has room.
        let _ = sender.try_send(endpoint.into());
        sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let mut response = Response::new(Body::Stream(receiver));
        let value = header::HeaderValue::from_static("text/event-stream; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, value);
        return Ok(response);
    }
    let id = request.uri().query().and_then(|query| query.rsplit('=').next()?.parse().ok());
    let sender =
        id.and_then(|id: u64| sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned());
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut event = BytesMut::with_capacity(body.len() + 32);
    event.put_slice(b"event: message\ndata: ");
    event.put_slice(&body);
    event.put_slice(b"\n\n");
    let sent = match sender {
        Some(sender) => sender.send(event.freeze()).await.is_ok(),
        None => false,
    };
    let mut response = Response::new(Body::Text(Some(Bytes::from_static(b"Accepted"))));
    *response.status_mut() = if sent { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND };
    Ok(response)
}
