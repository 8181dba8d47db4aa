//! A stream of another replica, read chunk by chunk.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use mcp_sse::{Body, ReplicaId};
use tokio::time::sleep;

use crate::{
    clock,
    node::{ALL_ATTEMPTS, ATTEMPT, Failed, Node},
    streams::WAIT,
    wire::{Answer, Said, What},
};

/// How long the host may say nothing. It waits as long for its reader.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a host is asked again that could not be.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads a stream. Dropping it tells the host that nobody does any more.
struct Puller {
    node: Arc<Node>,
    host: ReplicaId,
    call: u64,
    chunk: u64,
    over: bool,
}

impl Puller {
    fn new(node: Arc<Node>, host: ReplicaId, call: u64) -> Self {
        Self { node, host, call, chunk: 1, over: false }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut heard = clock::now();
        loop {
            let now = clock::now();
            if now >= heard + PATIENCE {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the replica that holds the session is silent",
                ));
            }
            let pull = What::Pull { chunk: self.chunk };
            let said = self.node.ask(&self.host, self.call, pull, WAIT + ATTEMPT, heard + PATIENCE).await;
            match said {
                Ok(Said::Chunk { number, bytes }) if number == self.chunk => {
                    self.chunk += 1;
                    return Ok(Some(bytes));
                }
                Ok(Said::Over { broken: false }) => {
                    self.over = true;
                    return Ok(None);
                }
                Ok(Said::Nothing) => heard = clock::now(),
                Ok(_) | Err(Failed::Gone) => {
                    self.over = true;
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the replica that holds the session is gone, or its stream",
                    ));
                }
                Err(Failed::Unavailable | Failed::Unknown) => sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Without a runtime, the host finds out by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (node, host, call) = (Arc::clone(&self.node), self.host.clone(), self.call);
        runtime.spawn(async move {
            let _ = node.ask(&host, call, What::End, ATTEMPT, clock::now() + ALL_ATTEMPTS).await;
        });
    }
}

/// The response that another replica has given to a request with this number; `None` if it is none.
pub(crate) fn response(
    node: &Arc<Node>,
    host: &ReplicaId,
    call: u64,
    answer: Answer,
) -> Option<Response<Body>> {
    if answer.streams {
        return answer.response(stream(Puller::new(Arc::clone(node), host.clone(), call)));
    }
    let body = Body::from(answer.body.clone());
    answer.response(body)
}

/// The stream as the body of a response.
fn stream(puller: Puller) -> Body {
    let chunks = unfold(Some(puller), async |puller| {
        let mut puller = puller?;
        match puller.next().await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(puller))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Body::new(StreamBody::new(chunks))
}
