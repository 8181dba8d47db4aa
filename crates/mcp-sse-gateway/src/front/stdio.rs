//! The client on our own stdin and stdout: one message per line.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use mcp_sse::{Incoming, Message, MessageKind, RequestId};
use tokio::{
    io::{AsyncWriteExt as _, Stdin},
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use super::{Gone, Receive, Reply};
use crate::message::{
    lines::{End, Lines, Read},
    oversized::Instead,
};

const REQUESTS_IN_FLIGHT: usize = 4096;
/// The error code that SDKs use for a closed connection.
const CONNECTION_CLOSED: i32 = -32000;

/// Reads the client's lines.
pub(crate) struct StdioReceiver {
    lines: Lines<Stdin>,
    message_bytes: usize,
    /// Replacements for oversized messages.
    instead: VecDeque<Message>,
    shared: Arc<Shared>,
    failed: bool,
}

/// Writes lines to the client.
#[derive(Clone)]
pub(crate) struct StdioReply {
    shared: Arc<Shared>,
}

/// A line for stdout, and a channel that reports when it is written.
struct Line {
    bytes: Vec<u8>,
    written: oneshot::Sender<()>,
}

struct Shared {
    lines: mpsc::Sender<Line>,
    pending: watch::Sender<HashSet<RequestId>>,
    closed: CancellationToken,
}

pub(crate) fn stdio(message_bytes: usize) -> (StdioReceiver, StdioReply) {
    let (lines, to_write) = mpsc::channel(1);
    tokio::spawn(write(to_write));
    let shared =
        Arc::new(Shared { lines, pending: watch::Sender::default(), closed: CancellationToken::new() });
    let lines = Lines::new("client", tokio::io::stdin(), message_bytes);
    let receiver = StdioReceiver {
        lines,
        message_bytes,
        instead: VecDeque::new(),
        shared: Arc::clone(&shared),
        failed: false,
    };
    (receiver, StdioReply { shared })
}

impl Receive for StdioReceiver {
    async fn recv(&mut self) -> Option<Incoming> {
        loop {
            if let Some(message) = self.instead.pop_front() {
                return Some(Incoming::new(message, http::Request::new(()).into_parts().0));
            }
            let next = tokio::select! {
                next = self.lines.next() => next,
                () = self.shared.closed.cancelled() => return None,
            };
            let message = match next {
                Ok(Read::Message(message)) => message,
                Ok(Read::Oversized(message)) => {
                    let Instead { forward, back } = message.instead("client", self.message_bytes);
                    self.instead = forward.into();
                    for refusal in back {
                        let _ = self.shared.write(refusal).await;
                    }
                    continue;
                }
                Err(end) => {
                    match end {
                        End::Closed => {}
                        End::Endless => tracing::error!("a line on stdin does not end; nothing more is read"),
                        End::Flood => {
                            tracing::error!(
                                "stdin yields nothing but lines that are not messages; nothing more is read"
                            );
                        }
                    }
                    self.failed = end != End::Closed;
                    return None;
                }
            };
            if let MessageKind::Request { id, .. } = message.kind() {
                if self.shared.pending.borrow().len() >= REQUESTS_IN_FLIGHT {
                    let text = "too many requests in flight; try again when some are answered";
                    let _ = self.shared.write(Message::error(id, CONNECTION_CLOSED, text)).await;
                    continue;
                }
                self.shared.pending.send_if_modified(|pending| pending.insert(id.clone()));
            }
            if let Some(id) = message.cancelled_id() {
                // A server does not answer a cancelled request.
                self.shared.answered(&id);
            }
            return Some(Incoming::new(message, http::Request::new(()).into_parts().0));
        }
    }
}

impl StdioReceiver {
    /// Whether reading ended because of what came on stdin, rather than at its end.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }
}

impl StdioReply {
    /// Treats the client as gone.
    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
    }
}

impl Shared {
    fn answered(&self, id: &RequestId) {
        self.pending.send_if_modified(|pending| pending.remove(id));
    }

    async fn write(&self, message: Message) -> Result<(), Gone> {
        let mut line: Vec<u8> = message.into_bytes().into();
        line.iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let (written, done) = oneshot::channel();
        let write = async {
            self.lines.send(Line { bytes: line, written }).await.map_err(|_| Gone)?;
            done.await.map_err(|_| Gone)
        };
        write.await.inspect_err(|_| self.closed.cancel())
    }
}

/// Writes line after line, until writing to stdout fails.
async fn write(mut lines: mpsc::Receiver<Line>) {
    let mut stdout = tokio::io::stdout();
    while let Some(Line { bytes, written }) = lines.recv().await {
        let result = async {
            stdout.write_all(&bytes).await?;
            stdout.flush().await
        };
        if result.await.is_err() {
            return;
        }
        let _ = written.send(());
    }
}

impl Reply for StdioReply {
    async fn send(&self, message: Message) -> Result<(), Gone> {
        if let MessageKind::Response { id: Some(id), .. } = message.kind() {
            let id = id.clone();
            self.shared.write(message).await?;
            self.shared.answered(&id);
            return Ok(());
        }
        self.shared.write(message).await
    }

    /// Answers the pending requests; the client stays connected.
    async fn fail(&self, text: &str) {
        let pending: Vec<_> = self.shared.pending.borrow().iter().cloned().collect();
        for id in pending {
            if self.shared.write(Message::error(&id, CONNECTION_CLOSED, text)).await.is_err() {
                return;
            }
            self.shared.answered(&id);
        }
    }

    async fn idle(&self) {
        let _ = self.shared.pending.subscribe().wait_for(HashSet::is_empty).await;
    }

    async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }
}
