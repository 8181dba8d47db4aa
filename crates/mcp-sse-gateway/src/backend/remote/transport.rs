//! Splits rmcp's client transport into its two directions. Its methods take `&mut self`, so a task owns it, with a
//! bounded channel in each direction.

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

/// Capacity of each channel, in messages.
const CAPACITY: usize = 16;
/// How long sends in progress may take to finish when the session ends.
const LAST_SENDS: Duration = Duration::from_secs(1);
/// How long the whole end of the session may take, including telling the server.
const END: Duration = Duration::from_secs(8);

/// A message to send, and the channel for the result.
pub(super) struct Outgoing {
    pub(super) message: ClientJsonRpcMessage,
    pub(super) sent: oneshot::Sender<Result<(), String>>,
}

/// The task ends when the sender is dropped or the transport ends; the receiver ends with the transport.
/// `sends_bound` is the maximum number of messages whose POSTs are not answered yet.
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
                // The permit first: no message is taken from the transport that could not be passed on.
                let permit = incoming.reserve().await.ok()?;
                Some((permit, transport.receive().await?))
            };
            tokio::select! {
                next = outgoing.recv(), if sends.len() < sends_bound => match next {
                    Some(Outgoing { message, sent }) => {
                        // The first poll queues the message, so polling here keeps the order.
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
            // First the sends in progress, then the end of the session. The transport's own task may be blocked
            // on handing over a message; so messages are received, and dropped, until it has ended.
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

/// An error and its causes as one text.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors already contain the text of their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
