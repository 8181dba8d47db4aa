//! A stream of another replica, read chunk by chunk.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use mcp_sse::{Body, ReplicaId};
use tokio::time::sleep;

use crate::{
    clock,
    node::{ALL_ATTEMPTS, ATTEMPT, Node, asking::Failed},
    streams::WAIT,
    wire::{Answer, Said, What},
};

/// How long the host may say nothing. It waits as long for its reader.
const PATIENCE: Duration = Duration::from_secs(10);
/// Over how long the ends of streams are spread when this replica ends, and in how many steps.
const SPREAD: Duration = Duration::from_secs(1);
const SPREADS: u64 = 32;
/// The pause before a host is asked again that could not be.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads a stream. Dropping it tells the host that nobody does any more.
pub(crate) struct Puller {
    node: Arc<Node>,
    host: ReplicaId,
    call: u64,
    chunk: u64,
    /// Whether it is a stream of events, which may end at any time, rather than the answer to a call.
    is_events: bool,
    over: bool,
}

impl Puller {
    /// For an answer that is still to come.
    pub(crate) fn new(node: Arc<Node>, host: ReplicaId, call: u64, is_events: bool) -> Self {
        node.reading.fetch_add(1, Ordering::AcqRel);
        Self { node, host, call, chunk: 1, is_events, over: false }
    }

    /// The response that the host has given; `None` if it is none.
    pub(crate) fn response(mut self, answer: Answer) -> Option<Response<Body>> {
        if answer.streams {
            return answer.response(stream(self));
        }
        self.over = true;
        let body = Body::from(answer.body.clone());
        answer.response(body)
    }

    /// There is no answer, or there will be none.
    pub(crate) fn ends(mut self) {
        self.over = true;
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let node = Arc::clone(&self.node);
        let (is_events, later) = (self.is_events, SPREAD * (self.call % SPREADS) as u32 / SPREADS as u32);
        tokio::select! {
            biased;
            next = self.pull() => next,
            // A while after it is said, each at its own time, so that not all come again at once.
            () = async { node.is_ending().await; sleep(later).await }, if is_events => Ok(None),
        }
    }

    async fn pull(&mut self) -> io::Result<Option<Bytes>> {
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
                // The host is told that this has arrived.
                Ok(Said::Over { broken: false }) => return Ok(None),
                Ok(Said::Nothing) => heard = clock::now(),
                Ok(_) | Err(Failed::Gone) => {
                    self.over = true;
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the replica that holds the session is gone, or its stream",
                    ));
                }
                Err(Failed::Away | Failed::Busy | Failed::Unknown | Failed::Silent) => sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.node.reading.fetch_sub(1, Ordering::AcqRel);
        if self.over {
            return;
        }
        // Without a runtime, the host finds out by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (node, host, call) = (Arc::clone(&self.node), self.host.clone(), self.call);
        let Ok(place) = Arc::clone(&self.node.ending_elsewhere).try_acquire_owned() else { return };
        runtime.spawn(async move {
            let _place = place;
            let _ = node.ask(&host, call, What::End, ATTEMPT, clock::now() + ALL_ATTEMPTS).await;
        });
    }
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
