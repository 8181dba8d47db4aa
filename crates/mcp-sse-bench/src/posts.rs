//! POSTs from several threads at once, in this process and without sockets: whether they get in each other's
//! way. Each thread has a session of its own on one transport, and a runtime of its own, so that nothing is
//! shared between them but the transport.

use std::{io, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use mcp_sse::{Message, MessageKind, SessionHandle, SessionReceiver, SseServerTransport};

use crate::load::now;

/// Posts between two looks at the clock.
const BATCH: u64 = 256;

/// What is posted.
#[derive(Clone, Copy)]
pub(crate) enum Post {
    /// A notification, which the app takes.
    Notification,
    /// A request, which the app takes and answers; the answer is read from the stream.
    Request,
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

impl Post {
    fn json(self) -> &'static str {
        match self {
            Self::Notification => {
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#
            }
            Self::Request => {
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"x"}}}"#
            }
        }
    }
}

/// Posts a second, by all threads together.
pub(crate) fn posts(threads: usize, post: Post, time: Duration) -> io::Result<f64> {
    let sse = SseServerTransport::builder("/messages/")
        .max_sessions(threads.max(1))
        .max_sessions_per_principal(threads.max(1))
        .build()
        .map_err(io::Error::other)?;
    let runtimes = (0..threads).map(|_| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtimes = runtimes.collect::<io::Result<Vec<_>>>()?;
    // All begin when all are ready.
    let barrier = std::sync::Barrier::new(threads);
    let rates = std::thread::scope(|scope| {
        let threads: Vec<_> = runtimes
            .iter()
            .map(|runtime| {
                scope.spawn(|| {
                    runtime.block_on(async {
                        let session = open(&sse).await;
                        barrier.wait();
                        session?.run(&sse, post, time).await
                    })
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))));
        joined.collect::<io::Result<Vec<f64>>>()
    })?;
    Ok(rates.iter().sum())
}

/// Both ends of a session.
struct Ends {
    receiver: SessionReceiver,
    handle: SessionHandle,
    stream: mcp_sse::Body,
    uri: String,
}

async fn open(sse: &SseServerTransport) -> io::Result<Ends> {
    let get = Request::get("http://localhost/sse").body(()).map_err(io::Error::other)?;
    let (response, session) = sse.connect(&get);
    let refused = || io::Error::other("no session was opened");
    let mut stream = response.into_body();
    let first = stream.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
    let first = String::from_utf8_lossy(&first.ok_or_else(refused)?).into_owned();
    let uri = first.lines().find_map(|line| line.strip_prefix("data: ")).ok_or_else(refused)?.to_owned();
    let (receiver, handle) = session.ok_or_else(refused)?.split();
    Ok(Ends { receiver, handle, stream, uri })
}

impl Ends {
    async fn run(mut self, sse: &SseServerTransport, post: Post, time: Duration) -> io::Result<f64> {
        self.once(sse, INITIALIZE).await?;
        self.once(sse, INITIALIZED).await?;
        // A tenth to warm up.
        self.batches(sse, post, time / 10).await?;
        self.batches(sse, post, time).await
    }

    async fn batches(&mut self, sse: &SseServerTransport, post: Post, time: Duration) -> io::Result<f64> {
        let (start, mut posted) = (now(), 0);
        while start.elapsed() < time {
            for _ in 0..BATCH {
                self.once(sse, post.json()).await?;
            }
            posted += BATCH;
        }
        Ok(posted as f64 / start.elapsed().as_secs_f64())
    }

    async fn once(&mut self, sse: &SseServerTransport, json: &'static str) -> io::Result<()> {
        let request = Request::post(&self.uri)
            .header("host", "localhost:8000")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(json.as_bytes())))
            .map_err(io::Error::other)?;
        let status = sse.post(request).await.status();
        if status != 202 {
            return Err(io::Error::other(format!("a POST was answered {status}")));
        }
        let ended = || io::Error::other("the session ended");
        let incoming = self.receiver.recv().await.ok_or_else(ended)?;
        if let MessageKind::Request { id, .. } = incoming.message.kind() {
            let answer = Message::result(id, &()).map_err(io::Error::other)?;
            self.handle.send(answer).await.map_err(io::Error::other)?;
            self.stream.frame().await.ok_or_else(ended)?.map_err(io::Error::other)?;
        }
        Ok(())
    }
}
