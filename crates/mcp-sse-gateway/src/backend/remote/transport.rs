//! Both directions of rmcp's client transport at the same time. Its methods want it whole, so a task of its
//! own holds it, with a bounded channel each way.

use std::{task::Poll, time::Duration};

use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::{
        Transport as _, WorkerTransport,
        streamable_http_client::{StreamableHttpClient, StreamableHttpClientWorker},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Messages that wait in a channel.
const CAPACITY: usize = 16;
/// What is being sent when the session ends gets this long.
const LAST_SENDS: Duration = Duration::from_secs(1);
/// And the whole end, in which the server is told.
const END: Duration = Duration::from_secs(8);

/// A message to be sent, and what became of it.
pub(super) struct Outgoing {
    pub(super) message: ClientJsonRpcMessage,
    pub(super) sent: oneshot::Sender<Result<(), String>>,
}

/// The task ends when the sender is dropped or the transport ends; the receiver ends with the transport.
/// `sends` bounds the messages whose POSTs are not answered.
pub(super) fn split<C: StreamableHttpClient>(
    mut transport: WorkerTransport<StreamableHttpClientWorker<C>>,
    sends_bound: usize,
) -> (mpsc::Sender<Outgoing>, mpsc::Receiver<ServerJsonRpcMessage>, JoinHandle<()>) {
    let (sender, mut outgoing) = mpsc::channel::<Outgoing>(CAPACITY);
    let (incoming, receiver) = mpsc::channel(CAPACITY);
    let run = async move {
        let mut sends = JoinSet::new();
        loop {
            let receive = async {
                // First the room, then the message: none is taken that could not be passed on.
                let permit = incoming.reserve().await.ok()?;
                Some((permit, transport.receive().await?))
            };
            tokio::select! {
                next = outgoing.recv(), if sends.len() < sends_bound => match next {
                    Some(Outgoing { message, sent }) => {
                        // The future has its place in the order when it is first polled, which is now.
                        let mut send = Box::pin(transport.send(message));
                        let first = futures_util::poll!(&mut send);
                        sends.spawn(async move {
                            let result = match first {
                                Poll::Ready(result) => result,
                                Poll::Pending => send.await,
                            };
                            let _ = sent.send(result.map_err(|error| chain(&error)));
                        });
                    }
                    None => break,
                },
                Some(_) = sends.join_next(), if !sends.is_empty() => {}
                received = receive => match received {
                    Some((permit, message)) => permit.send(message),
                    None => break,
                },
            }
        }
        drop(incoming);
        let end = async {
            // The client's last words, and then the end of the session. The transport's own task may stand
            // where it hands over a message; so messages are taken, and dropped, until it has ended.
            let last = async { while sends.join_next().await.is_some() {} };
            tokio::select! {
                _ = timeout(LAST_SENDS, last) => {}
                () = async { while transport.receive().await.is_some() {} } => {}
            }
            transport.cancel_token().cancel();
            while transport.receive().await.is_some() {}
            let _ = transport.close().await;
        };
        if timeout(END, end).await.is_err() {
            tracing::debug!("the end of an upstream session took too long");
        }
    };
    let task = tokio::spawn(tracing::Instrument::instrument(run, tracing::Span::current()));
    (sender, receiver, task)
}

/// An error with its causes, for people.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many repeat the text of their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
